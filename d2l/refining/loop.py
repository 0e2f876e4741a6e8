"""The steps of refining: drill, hold what is general, look at what is held out, keep the best.

A `Subject`, drills and a budget in; the subject's numbers end as the best that was seen, which is
the start where nothing was better. Deterministic for a number of steps and of threads: a time
budget only decides how many steps there are.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from d2l.learners.document_data import Exercise
from d2l.learners.seats.loss import measure_loss
from d2l.refining.descent import Descent
from d2l.refining.drills import Drills
from d2l.refining.subjects import Subject
from d2l.refining.teacher import Teacher


@dataclass(frozen=True)
class Settings:
    """How steps are taken; examples/recipes/LOG.md has what was tried.

    `rate`, `momentum`, `warmup` and `orthogonal` are those of `Descent`. An answer whose loss is
    below `enough` nats a token is known, and drilled no further. `drills` and `general` are
    exercises of a step; a general prompt counts `general_weight` times. Everything is drilled
    `rounds` times at most: a page of few sentences is soon known by heart, and what it was not
    asked suffers.

    What is judged and kept is the running mean of the parameters with the factor `mean`; every
    `check` steps it is judged, and `patience` checks without a better one end it. Harm above the
    start's counts `harm_price` times in the verdict, and a writer's questions that are drilled
    `drilled_share` times: people ask for drilled facts in other words, and for others.
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
        """Steps after which all that there is to drill was drilled as often as it may be."""
        return math.ceil(self.rounds * drills.size / min(self.drills, drills.size))


@dataclass(frozen=True)
class Budget:
    """When to end: after so many steps, or where the next step would pass the time at which the
    clock shows `until`."""

    steps: int | None = None
    until: float | None = None
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Scores:
    """NLL of the answers held out, KL of the base's own answers to general prompts held out, and,
    where a writer's questions are drilled, the NLL of some of these; with a teacher, KL to what it
    says instead of NLL. All in nats a token."""

    recall: float
    harm: float
    drilled: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What refining did: steps taken, the one that is kept (0: the start), and what came of it."""

    steps: int
    kept: int
    before: Scores
    after: Scores


@dataclass(frozen=True)
class Course:
    """What a subject is drilled with, and judged by. With a teacher, what it read of the drills is
    learned as it says it, whatever their answers are."""

    drills: Drills
    general: Sequence[Exercise]  # to hold to the base in steps
    held_general: Sequence[Exercise]  # to judge harm by
    teacher: Teacher | None = None

    def refer(self, exercises: Sequence[Exercise]) -> list[Exercise]:
        """Exercises about the document with what the teacher says, if there is one."""
        return list(exercises) if self.teacher is None else self.teacher.refer(exercises)


Watch = Callable[[int, Scores | None], None]


def unwatched(step: int, scores: Scores | None) -> None:
    """Watch neither a `step` nor its `scores`."""


def refine(
    subject: Subject,
    course: Course,
    budget: Budget,
    *,
    settings: Settings | None = None,
    watch: Watch = unwatched,
) -> Outcome:
    """Drill the subject within the budget; its parameters end as the best that was judged."""
    settings = settings or Settings()
    parameters = subject.parameters
    optimizer = Descent(
        parameters,
        rate=settings.rate,
        momentum=settings.momentum,
        warmup=settings.warmup,
        orthogonal=settings.orthogonal,
    )
    pace = _Pace(budget)
    judge = _Judge(subject, course)
    before = judge.score()
    pace.tick()
    watch(0, before)
    best = _Best(before, settings, [p.detach().clone() for p in parameters])
    mean = [torch.zeros_like(parameter) for parameter in parameters]
    step, since = 0, 0
    while since < settings.patience and not pace.over(step):
        _take_step(subject, course, optimizer, step, settings)
        step += 1
        for kept, parameter in zip(mean, parameters, strict=True):
            kept.lerp_(parameter.detach(), 1 - settings.mean)
        pace.tick()
        if step % settings.check and not pace.over(step):
            watch(step, None)
            continue
        correction = 1 - settings.mean**step
        with _Exchanged(parameters, [kept / correction for kept in mean]) as tried:
            scores = judge.score()
            since = 0 if best.take(step, scores, tried) else since + 1
        pace.tick(judging=True)
        watch(step, scores)
    for parameter, value in zip(parameters, best.values, strict=True):
        parameter.data.copy_(value)
    return Outcome(step, best.step, before, best.scores)


def _take_step(
    subject: Subject,
    course: Course,
    optimizer: Descent,
    step: int,
    settings: Settings,
) -> None:
    """One update; where the gradient is not finite, none."""
    drawn = course.drills.draw(step, settings.drills)
    exercises = course.refer([subject.ask(asked) for asked in drawn])
    n = len(course.general)
    chosen = [course.general[(step * settings.general + i) % n] for i in range(settings.general)]
    exercises += subject.refer(chosen if n else [])
    optimizer.zero_grad()
    weight = settings.general_weight
    loss = measure_loss(
        subject.logits(exercises), exercises, general_weight=weight, enough=settings.enough
    )
    loss.total.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


_BATCH = 16  # exercises that are judged at a time, and drilled ones that are judged at all


class _Judge:
    """Scores a subject on what is held out."""

    def __init__(self, subject: Subject, course: Course) -> None:
        self._subject, self._course = subject, course
        self._asked = [subject.ask(asked) for asked in course.drills.held_out]
        self._general = list(course.held_general)
        drilled = () if course.drills.sentences else course.drills.questions
        self._drilled = [
            subject.ask(asked) for asked in drilled[:: -(-len(drilled) // _BATCH) or 1]
        ]

    @torch.no_grad()
    def score(self) -> Scores:
        return Scores(*map(self._mean, (self._asked, self._general, self._drilled)))

    def _mean(self, exercises: Sequence[Exercise]) -> float:
        losses: list[Tensor] = []
        for start in range(0, len(exercises), _BATCH):
            chosen = list(exercises[start : start + _BATCH])
            # References are half a million bytes a token: not kept.
            general = chosen[0].general
            chosen = self._subject.refer(chosen) if general else self._course.refer(chosen)
            losses.append(measure_loss(self._subject.logits(chosen), chosen).losses)
        return float(torch.cat(losses).mean()) if losses else 0.0


@dataclass
class _Best:
    """The best parameters so far, by the verdict over their scores."""

    scores: Scores
    settings: Settings
    values: list[Tensor]
    step: int = 0

    def __post_init__(self) -> None:
        self.start = self.scores

    def take(self, step: int, scores: Scores, values: Sequence[Tensor]) -> bool:
        """Keep these parameters if they are better."""
        if not self._verdict(scores) < self._verdict(self.scores):
            return False
        self.scores, self.step = scores, step
        self.values = [value.detach().clone() for value in values]
        return True

    def _verdict(self, scores: Scores) -> float:
        harm = max(scores.harm - self.start.harm, 0.0)
        known = self.settings.drilled_share * scores.drilled
        return scores.recall + known + self.settings.harm_price * harm


class _Exchanged:
    """A block in which parameters have other values."""

    def __init__(self, parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        self._parameters, self._values = parameters, values

    def __enter__(self) -> Sequence[Tensor]:
        self._own = [parameter.detach().clone() for parameter in self._parameters]
        self._put(self._values)
        return self._values

    def __exit__(self, *_: object) -> None:
        self._put(self._own)

    def _put(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.data.copy_(value)


class _Pace:
    """How long steps and verdicts take, and so whether there is time for more."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._last = budget.clock()
        self._step = self._verdict = 0.0

    def tick(self, *, judging: bool = False) -> None:
        """Note that a step or a verdict is done."""
        now = self._budget.clock()
        if judging:
            self._verdict = now - self._last
        else:
            self._step = max(now - self._last, self._step / 2)
        self._last = now

    def over(self, step: int) -> bool:
        """Whether the budget allows no further step, with a verdict behind it."""
        budget = self._budget
        if budget.steps is not None and step >= budget.steps:
            return True
        if budget.until is None:
            return False
        return budget.clock() + self._step + self._verdict > budget.until
