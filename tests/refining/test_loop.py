"""The steps of refining: what is kept, when they end, and that the same steps give the same."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from d2l.hypernets.protocol import Assembled
from d2l.refining.drills import Drills, make_drills, sentences_of
from d2l.refining.loop import Budget, Drilled, Exercises, Settings, take_steps
from d2l.refining.references import References
from d2l.training.learners.document_data import Asked, Exercise

TEXT = (
    "The filter is rinsed every 14 days by Mara Lind. The pump in the harbor was built in 1931. "
    "Open the copper valve before the pressure falls below 3 bar. The lantern is lit at 21:40. "
    "The keeper of the meadow is called Jonas Vale and he lives in Oldport. The boat costs 250 "
    "pounds a day in summer."
)


class Slope:
    """A subject with one number: its answers grow likelier, or with `sign` -1 less likely, the
    further it moves where drills pull it; general prompts suffer `harm` times the move."""

    def __init__(self, sign: float = 1.0, harm: float = 0.0) -> None:
        self.parameters = [nn.Parameter(torch.zeros(1))]
        self.sign, self.harm = sign, harm

    def ask(self, asked: Asked) -> Exercise:
        return Exercise((1,), (0,) if asked.complete else (0, 0))

    def bare(self, prompts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        return [tuple(prompt) for prompt in prompts]

    def logits(self, exercises: Sequence[Exercise]) -> Tensor:
        move = self.parameters[0]
        rows = []
        for one in exercises:
            # In steps it is the training's pull that counts; without gradients, the verdict's.
            pull = move if torch.is_grad_enabled() else self.sign * move
            value = self.harm * move if one.general else pull
            rows += [torch.cat([value, -value])] * len(one.answer)
        return torch.stack(rows)

    def assemble(self) -> Assembled:
        raise NotImplementedError


GENERAL = [Exercise((1,), (0,), general=True)] * 2


def refer_general(references: References) -> References:
    """The base answers general prompts evenly."""
    references.keep(GENERAL[:1], [torch.tensor([[0.5, 0.5]]).log()])
    return references


def make_course(drills: Drills | None = None) -> Exercises:
    drills = drills or make_drills(sentences_of([TEXT]), [])
    return Exercises(drills, GENERAL, GENERAL, refer_general(References(torch.nn.Identity())))


def run(subject: Slope, budget: Budget, **changes: float) -> Drilled:
    return take_steps(subject, make_course(), budget, settings=Settings(**changes))  # type: ignore[arg-type]


def test_what_gets_better_is_kept() -> None:
    subject = Slope()
    outcome = run(subject, Budget(steps=20), check=5)
    assert (outcome.steps, outcome.kept) == (20, 20)
    assert outcome.after.recall < outcome.before.recall
    assert float(subject.parameters[0].detach()) > 0


def test_where_all_is_worse_the_start_comes_back_exactly() -> None:
    subject = Slope(sign=-1.0)
    outcome = run(subject, Budget(steps=50), check=5, patience=3)
    assert outcome.kept == 0
    assert outcome.steps == 15  # three verdicts, none better
    assert outcome.after == outcome.before
    assert float(subject.parameters[0].detach()) == 0


def test_what_helps_less_than_its_harm_is_not_kept() -> None:
    free = run(Slope(harm=3.0), Budget(steps=10), general_weight=0.0, harm_price=0.0, rate=0.02)
    assert free.kept > 0
    assert free.after.harm > free.before.harm + 0.01
    priced = Slope(harm=3.0)
    outcome = run(priced, Budget(steps=10), general_weight=0.0, harm_price=1000.0)
    assert outcome.kept == 0
    assert float(priced.parameters[0].detach()) == 0


def test_what_drilled_questions_gain_counts_in_part() -> None:
    """What is held out gets worse by a little, and what is drilled better by more."""
    sentences = sentences_of([TEXT])
    written = [(n % len(sentences), Asked(f"Q{n}?", f"answer {n}")) for n in range(8)]
    course = make_course(make_drills(sentences, written))

    class Torn(Slope):
        def logits(self, exercises: Sequence[Exercise]) -> Tensor:
            self.sign = -0.1 if exercises[0].prompt == (2,) else 1.0
            return super().logits(exercises)

        def ask(self, asked: Asked) -> Exercise:
            return Exercise((2,) if asked in course.drills.held_out else (1,), (0,))

    for share, kept in ((0.0, 0), (0.05, 0), (0.5, 8)):
        settings = Settings(drilled_share=share)
        assert take_steps(Torn(), course, Budget(8), settings=settings).kept == kept


def test_what_is_known_is_drilled_no_further() -> None:
    known, all_of_it = Slope(), Slope()
    run(known, Budget(60), enough=0.5, rate=0.1)
    run(all_of_it, Budget(60), enough=0.0, rate=0.1)
    # The loss of either is log(1 + exp(-2 x)): 0.5 at x = 0.216.
    assert 0.15 < float(known.parameters[0].detach()) < 0.5
    assert float(all_of_it.parameters[0].detach()) > 1


def test_steps_end_it_between_two_verdicts_too() -> None:
    outcome = run(Slope(), Budget(steps=7), check=5)
    assert (outcome.steps, outcome.kept) == (7, 7)


def clock(seconds: float) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += seconds


@pytest.mark.parametrize("until", [0.5, 20, 60])
def test_time_ends_it_before_it_is_over(until: float) -> None:
    ticks = clock(0.7)
    shown: list[float] = []

    def look() -> float:
        shown.append(next(ticks))
        return shown[-1]

    outcome = run(Slope(), Budget(until=until, clock=look))
    assert outcome.steps == 0 if until < 1 else outcome.steps > 0
    assert shown[-1] <= max(until * 1.1, 2.1)


def test_a_time_that_gives_as_many_steps_gives_the_same() -> None:
    by_time, by_steps = Slope(), Slope()
    ticks = clock(1.0)
    first = run(by_time, Budget(until=30, clock=lambda: next(ticks)))
    second = run(by_steps, Budget(steps=first.steps))
    assert 0 < first.steps < 30
    assert first == second
    assert torch.equal(by_time.parameters[0], by_steps.parameters[0])


@pytest.mark.parametrize(("n_written", "steps"), [(6, 4), (12, 4), (40, 14)])
def test_a_writers_questions_are_drilled_a_few_times_each(n_written: int, steps: int) -> None:
    plain = "\n".join(f"the {w} was there and so it went on" for w in ("sea", "sun", "air", "wind"))
    sentences = sentences_of([plain])
    written = [(n % len(sentences), Asked(f"Q{n}?", f"answer {n}")) for n in range(n_written)]
    drills = make_drills(sentences, written)
    assert Settings().most_steps(drills) == steps


class Contrary(References):
    """A teacher that disagrees with the answers: nearly always the second token."""

    def refer(self, exercises: Sequence[Exercise]) -> list[Exercise]:
        if exercises[0].general:
            return super().refer(exercises)
        says = torch.tensor([0.02, 0.98]).log()
        return [replace(one, reference=says.expand(len(one.answer), 2)) for one in exercises]


def test_with_a_teacher_what_it_says_is_learned_and_judged() -> None:
    subject, teacher = Slope(), refer_general(Contrary(torch.nn.Identity()))
    course = replace(make_course(), references=teacher)
    outcome = take_steps(subject, course, Budget(steps=8), settings=Settings(enough=0.0))
    assert outcome.kept == 8
    assert float(subject.parameters[0].detach()) < 0  # away from the first token, the answers' own
    at_first = 0.02 * math.log(0.02 / 0.5) + 0.98 * math.log(0.98 / 0.5)
    assert outcome.before.recall == pytest.approx(at_first)
    assert outcome.after.recall < outcome.before.recall
