"""Questions with the answers of each arm → scores of an arm, every mean with its error."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from d2l.datasets.questions import SHORT
from d2l.evaluation.metrics import show_mean, take_mean

#: Scores of an answer: three shares, and nats a token.
_SCORES = ("contained", "em", "f1", "nll")


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
    Arm.PARTS: "chosen parts",
    Arm.ADAPTER: "adapter",
    Arm.RIGHT: "right part",
    Arm.RAG: "best part in prompt",
    Arm.RAG4: "best four in prompt",
    Arm.PROMPT: "document in prompt",
    Arm.BASE: "base alone",
}


@dataclass(frozen=True)
class MarkedAnswer:
    """A greedy answer, marked against all references.

    `nll`: nats a token of the first reference with its end; of a question without an answer, of
    the trained refusal. `silent`: the answer is a refusal. `part`: index of the part that answered.
    `n_cut`: tokens of the document that did not fit into the prompt. `contained` is the share of
    the facts, and `wrong` an invented phrase, of questions that are not short. `first_seconds`: to
    the first token, of arms that answer one question at a time.
    """

    text: str
    contained: float
    em: float
    f1: float
    nll: float
    silent: bool
    part: int | None = None
    n_cut: int = 0
    wrong: bool = False
    first_seconds: float | None = None


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question with the answers of all arms that were asked.

    `wanted`: the references; the document has no answer without them. `routed`: indices of the
    parts that the question's words put first. `right`: indices of the parts that hold an answer.
    """

    question: str
    wanted: tuple[str, ...]
    answers: Mapping[Arm, MarkedAnswer] = field(default_factory=dict)
    routed: tuple[int, ...] = ()
    right: tuple[int, ...] = ()
    kind: str = SHORT


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

    `contained`, the recall, is the share of answers that contain a reference, or the mean share of
    facts. `false_answers`: of questions without an answer, those that got one. `false_silences`: of
    questions with an answer, those that got a refusal: in a few words nothing else, in full a
    refusal beside other facts, too. `wrong`: answers with an invented phrase. `n_cut` questions had
    their document cut.
    """

    arm: Arm
    n: int
    contained: float | None
    em: float | None
    f1: float | None
    nll: float | None
    stderr: Mapping[str, float | None]
    false_answers: Share | None
    false_silences: Share | None
    wrong: Share
    n_cut: int

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


def score_arms(questions: Sequence[AnsweredQuestion]) -> list[ArmScores]:
    """Score each arm that was asked, in order."""
    return [
        _score_arm(arm, [(q, q.answers[arm]) for q in questions if arm in q.answers])
        for arm in Arm
        if any(arm in question.answers for question in questions)
    ]


def _score_arm(arm: Arm, asked: Sequence[tuple[AnsweredQuestion, MarkedAnswer]]) -> ArmScores:
    answerable = [answer for question, answer in asked if question.wanted]
    means = {
        score: take_mean([getattr(answer, score) for answer in answerable])
        if answerable
        else (None, None)
        for score in _SCORES
    }
    invented = [not answer.silent for question, answer in asked if not question.wanted]
    # If the document itself says that something is unknown, a refusal is right.
    denied = [
        answer.silent and not (question.kind == SHORT and answer.contained)
        for question, answer in asked
        if question.wanted
    ]
    return ArmScores(
        arm,
        len(answerable),
        **{score: mean for score, (mean, _) in means.items()},
        stderr={score: error for score, (_, error) in means.items()},
        false_answers=Share.of(invented) if invented else None,
        false_silences=Share.of(denied) if denied else None,
        wrong=Share.of([answer.wrong for _, answer in asked]),
        n_cut=sum(answer.n_cut > 0 for _, answer in asked),
    )
