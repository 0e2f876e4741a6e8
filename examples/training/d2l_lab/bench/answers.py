"""Questions with the answers of each arm of a benchmark → scores, with likelihoods and facts."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from d2l.evaluation import answers
from d2l.evaluation.answers import ArmScores, MarkedAnswer, Share
from d2l_lab.questions import SHORT


class Arm(enum.StrEnum):
    """A way of asking, in the order of a report's rows."""

    PARTS = "parts"
    ADAPTER = "adapter"
    RIGHT = "right"
    RAG = "rag"
    RAG4 = "rag4"
    PROMPT = "prompt"
    BASE = "base"


#: Arms for people.
NAMES: Mapping[str, str] = {
    **answers.NAMES,
    Arm.RIGHT: "right part",
    Arm.RAG: "best part in prompt",
    Arm.RAG4: "best four in prompt",
}


@dataclass(frozen=True, kw_only=True)
class ScoredMark(MarkedAnswer):
    """A marked answer with its likelihood.

    `nll`: nats a token of the first reference with its end; of a question without an answer, of
    the trained refusal. `part`: index of the part that answered. `contained` is the share of the
    facts, and `wrong` an invented phrase, of questions that are not short. `first_seconds`: to the
    first token, of arms that answer one question at a time.
    """

    nll: float
    part: int | None = None
    wrong: bool = False
    first_seconds: float | None = None


@dataclass(frozen=True)
class AnsweredQuestion(answers.AnsweredQuestion):
    """A question with the answers of all arms that were asked.

    `routed`: indices of the parts that the question's words put first. `right`: indices of the
    parts that hold an answer.
    """

    answers: Mapping[str, ScoredMark] = field(default_factory=dict)
    routed: tuple[int, ...] = ()
    right: tuple[int, ...] = ()
    kind: str = SHORT

    def is_denied(self, answer: MarkedAnswer) -> bool:
        """True if a refusal is wrong: in few words if nothing else is said, in full beside other
        facts, too."""
        return super().is_denied(answer) if self.kind == SHORT else answer.silent


@dataclass(frozen=True)
class BenchScores(ArmScores):
    """Scores of one arm; `contained` may be a mean share of facts. `wrong`: answers with an
    invented phrase."""

    measured: ClassVar[tuple[str, ...]] = (*ArmScores.measured, "nll")

    nll: float | None
    wrong: Share

    @classmethod
    def score(cls, arm: str, asked: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
        """Compute the fields from pairs of a question and the arm's answer, at least one."""
        return super().score(arm, asked) | {"wrong": Share.of([own.wrong for _, own in asked])}
