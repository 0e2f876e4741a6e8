"""Questions with the answers of each arm → scores of an arm, every mean with its error."""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from d2l.evaluation.metrics import show_mean, take_mean


class Arm(enum.StrEnum):
    """A way of asking, in the order of a report's rows."""

    PARTS = "parts"
    ADAPTER = "adapter"
    PROMPT = "prompt"
    BASE = "base"


#: Arms for people.
NAMES: Mapping[str, str] = {
    Arm.PARTS: "chosen parts",
    Arm.ADAPTER: "adapter",
    Arm.PROMPT: "document in prompt",
    Arm.BASE: "base alone",
}


@dataclass(frozen=True)
class MarkedAnswer:
    """A greedy answer, marked against all references.

    `silent`: the answer is a refusal. `n_cut`: tokens of the document that did not fit into the
    prompt.
    """

    text: str
    contained: float
    em: float
    f1: float
    silent: bool
    n_cut: int = 0


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question with the answers of all arms that were asked.

    `wanted`: the references; the document has no answer without them.
    """

    question: str
    wanted: tuple[str, ...]
    answers: Mapping[str, MarkedAnswer] = field(default_factory=dict)

    def is_denied(self, answer: MarkedAnswer) -> bool:
        """True if a refusal is wrong: the document itself may say that something is unknown."""
        return answer.silent and not answer.contained


@dataclass(frozen=True)
class Share:
    """A count of cases, and its share with the standard error."""

    n: int
    count: int
    share: float
    stderr: float | None

    @classmethod
    def of(cls, cases: Sequence[bool]) -> "Share":
        """Count the cases that are true, of at least one."""
        return cls(len(cases), sum(cases), *take_mean([float(case) for case in cases]))

    def __str__(self) -> str:
        """The share for people: "31 of 40 (0.78 ± 0.07)"."""
        share = show_mean(self.share, self.stderr)
        return f"{self.count:,} of {self.n:,} ({share})"


@dataclass(frozen=True)
class ArmScores:
    """Scores of one arm on `n` questions that have an answer, None without such questions.

    `contained`, the recall, is the share of answers that contain a reference. `false_answers`: of
    questions without an answer, those that got one. `false_silences`: of questions with an answer,
    those that got a refusal. `n_cut` questions had their document cut.
    """

    #: Means over questions with an answer, by the answer's field.
    measured: ClassVar[tuple[str, ...]] = ("contained", "em", "f1")

    arm: str
    n: int
    contained: float | None
    em: float | None
    f1: float | None
    stderr: Mapping[str, float | None]
    false_answers: Share | None
    false_silences: Share | None
    n_cut: int

    @classmethod
    def list_arms(cls, questions: Sequence[AnsweredQuestion], arms: Iterable[str]) -> list[Self]:
        """Score each arm that was asked, in order."""
        return [
            cls(**cls.score(arm, asked))
            for arm in arms
            if (asked := [(q, q.answers[arm]) for q in questions if arm in q.answers])
        ]

    @classmethod
    def score(cls, arm: str, asked: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
        """Compute the fields from pairs of a question and the arm's answer, at least one."""
        answerable = [answer for question, answer in asked if question.wanted]
        means = {
            name: take_mean([getattr(answer, name) for answer in answerable])
            if answerable
            else (None, None)
            for name in cls.measured
        }
        invented = [not answer.silent for question, answer in asked if not question.wanted]
        denied = [question.is_denied(answer) for question, answer in asked if question.wanted]
        return {
            "arm": arm,
            "n": len(answerable),
            **{name: mean for name, (mean, _) in means.items()},
            "stderr": {name: error for name, (_, error) in means.items()},
            "false_answers": Share.of(invented) if invented else None,
            "false_silences": Share.of(denied) if denied else None,
            "n_cut": sum(answer.n_cut > 0 for _, answer in asked),
        }

    @property
    def recall(self) -> Share | None:
        """Answers that contain a reference."""
        if self.contained is None:
            return None
        count = round(self.contained * self.n)
        return Share(self.n, count, self.contained, self.stderr["contained"])

    def show(self, score: str) -> str:
        """A mean for people."""
        mean: float | None = getattr(self, score)
        return "–" if mean is None else show_mean(mean, self.stderr[score], ".2f")
