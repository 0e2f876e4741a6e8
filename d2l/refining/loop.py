"""The steps of refining: drill, hold general prompts to the base, judge, and keep the best.

The numbers of a `Refinable` end as the best that were judged, which is the start if nothing was
better. The same steps and threads give the same numbers: a time only decides how many steps fit.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from d2l.bases.models import batched
from d2l.refining.descent import Descent
from d2l.refining.drills import Drills
from d2l.refining.references import References
from d2l.refining.subjects import Refinable
from d2l.training.learners.document_data import Exercise
from d2l.training.learners.seats.loss import measure_loss

_BATCH = 16  # exercises that are judged at a time; of drilled questions so many are judged at all


@dataclass(frozen=True)
class Settings:
    """How steps are taken; examples/recipes/LOG.md has what was tried.

    `rate`, `momentum`, `warmup` and `orthogonal` are those of `Descent`. An answer whose loss is
    below `enough` nats a token is known, and drilled no further. `drills` and `general` are
    exercises of a step; a general prompt counts `general_weight` times. Everything is drilled
    `rounds` times at most: a page of few sentences is soon known by heart, and everything else
    suffers.

    The running mean of the parameters, with the factor `mean`, is judged and kept. It is judged
    every `check` steps; `patience` verdicts without a better one end refining. In a verdict, harm
    above the start's counts `harm_price` times, and drilled questions of the writer `drilled_share`
    times: people ask for drilled facts in other words, and for other facts; with 0 they are not
    scored.
    """

    rate: float = 0.006
    momentum: float = 0.7
    warmup: int = 2
    orthogonal: bool = False
    enough: float = 0.2
    drills: int = 10
    general: int = 2
    general_weight: float = 4.0
    rounds: int = 4
    mean: float = 0.8
    check: int = 4
    patience: int = 4
    harm_price: float = 2.5
    drilled_share: float = 0.25

    def most_steps(self, drills: Drills) -> int:
        """Steps until everything was drilled `rounds` times."""
        return math.ceil(self.rounds * drills.size / min(self.drills, drills.size))

    def weigh(self, scores: "Scores", start: "Scores") -> float:
        """The verdict on scores; lower is better."""
        harm = max(scores.harm - start.harm, 0.0)
        return scores.recall + self.drilled_share * scores.drilled + self.harm_price * harm


@dataclass(frozen=True)
class Scores:
    """Mean losses in nats a token: NLL of held-out answers, KL from the base of held-out general
    prompts, and NLL of some drilled questions if no sentences are drilled. Where a teacher answers
    questions, KL from the teacher instead of NLL."""

    recall: float
    harm: float
    drilled: float = 0.0


@dataclass(frozen=True)
class Drilled:
    """Steps taken, the step that is kept (0: the start), and scores before and after."""

    steps: int
    kept: int
    before: Scores
    after: Scores


@dataclass(frozen=True)
class Exercises:
    """Drills about the document, general prompts, and the references of both."""

    drills: Drills
    general: Sequence[Exercise]  # for steps
    held_general: Sequence[Exercise]  # to judge harm by
    references: References


class Budget:
    """When refining ends: after `steps`, or before a step that would end after `until` on the
    clock. How long steps and verdicts take is measured."""

    def __init__(
        self,
        steps: int | None = None,
        until: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steps, self._until, self._clock = steps, until, clock
        self._last = clock()
        self._step = self._verdict = 0.0

    def tick(self, *, judging: bool = False) -> None:
        """Note that a step or a verdict is done."""
        now = self._clock()
        if judging:
            self._verdict = now - self._last
        else:
            self._step = max(now - self._last, self._step / 2)
        self._last = now

    def over(self, step: int) -> bool:
        """Whether there is no room for a further step and a verdict."""
        if self._steps is not None and step >= self._steps:
            return True
        if self._until is None:
            return False
        return self._clock() + self._step + self._verdict > self._until


def take_steps(
    subject: Refinable,
    course: Exercises,
    budget: Budget,
    *,
    settings: Settings,
    optimizer: Optimizer | None = None,
    watch: Callable[[int], None] = lambda _: None,
) -> Drilled:
    """Drill the subject within the budget; its parameters end as the best that were judged. The
    optimizer is `Descent` where no other is given."""
    parameters = subject.parameters
    moves = optimizer or Descent(
        parameters,
        rate=settings.rate,
        momentum=settings.momentum,
        warmup=settings.warmup,
        orthogonal=settings.orthogonal,
    )
    judge = _Judge(subject, course, settings)
    start = best = judge.score()
    budget.tick()
    watch(0)
    values = _copy(parameters)
    mean = [torch.zeros_like(parameter) for parameter in parameters]
    step = kept = since = 0
    while since < settings.patience and not budget.over(step):
        _take_step(subject, course, moves, step, settings)
        step += 1
        for running, parameter in zip(mean, parameters, strict=True):
            running.lerp_(parameter.detach(), 1 - settings.mean)
        budget.tick()
        if not step % settings.check or budget.over(step):
            own, tried = _copy(parameters), [part / (1 - settings.mean**step) for part in mean]
            _put(parameters, tried)
            scores = judge.score()
            _put(parameters, own)
            since += 1
            if settings.weigh(scores, start) < settings.weigh(best, start):
                best, values, kept, since = scores, tried, step, 0
            budget.tick(judging=True)
        watch(step)
    _put(parameters, values)
    return Drilled(step, kept, start, best)


def _copy(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def _put(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data.copy_(value)


def _take_step(
    subject: Refinable,
    course: Exercises,
    moves: Descent | Optimizer,
    step: int,
    settings: Settings,
) -> None:
    """One update; none where the gradient is not finite."""
    drawn = course.drills.draw(step, settings.drills)
    exercises = course.references.refer([subject.ask(asked) for asked in drawn])
    if n := len(course.general):
        first = step * settings.general
        chosen = [course.general[(first + i) % n] for i in range(settings.general)]
        exercises += course.references.refer(chosen)
    moves.zero_grad()
    loss = measure_loss(
        subject.logits(exercises),
        exercises,
        general_weight=settings.general_weight,
        enough=settings.enough,
    )
    loss.total.backward()  # type: ignore[no-untyped-call]
    moves.step()


class _Judge:
    """Scores a subject on held-out questions and general prompts, and on drilled questions."""

    def __init__(self, subject: Refinable, course: Exercises, settings: Settings) -> None:
        self._subject, self._references = subject, course.references
        is_scored = settings.drilled_share and not course.drills.sentences
        drilled = course.drills.questions if is_scored else ()
        some = drilled[:: -(-len(drilled) // _BATCH) or 1]
        self._judged = (
            [subject.ask(asked) for asked in course.drills.held_out],
            course.held_general,
            [subject.ask(asked) for asked in some],
        )

    @torch.no_grad()
    def score(self) -> Scores:
        return Scores(*map(self._mean, self._judged))

    def _mean(self, exercises: Sequence[Exercise]) -> float:
        losses: list[Tensor] = []
        for some in batched(exercises, _BATCH):
            # References are not kept: they take half a megabyte a token.
            referred = self._references.refer(some)
            losses.append(measure_loss(self._subject.logits(referred), referred).losses)
        return float(torch.cat(losses).mean()) if losses else 0.0
