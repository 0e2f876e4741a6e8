"""Judging: do the chosen parts answer the question, and which part answers best?

The worth of a part, in nats:

    word_weight · score / most  −  entropy  +  refusal_weight · ln(1 − refusal)

`score` is its BM25 score and `most` the highest that the question allows. The model reads the
question behind the part: `entropy` is the entropy of the answer's first token, and `refusal` the
probability that the answer begins as the refusal. The part of the highest worth answers, unless it
is silent: its refusal is more probable than `most_silent`. Before any part is read, a part with
less than the share `least_overlap` of the highest score cannot answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from d2l.parts.engine import Judged

#: Penalty that sorts silent parts last, in nats: more than all other terms together.
_SILENT = 1e3


@dataclass(frozen=True)
class Judging:
    """Constants of the judging of one kind of network.

    `n_parts`: number of parts that are read. `n_refusal`: number of first tokens whose joint
    probability is the refusal's. `word_weight`: the higher, the more words count beside the
    model's certainty. `most_silent`: the lower, the more questions are refused. `refusal_weight`:
    the higher, the more a part with a probable refusal is avoided. `silent_last`: silent parts sort
    behind all others, at any worth. `joins_two`: the answer is read off the two best
    parts, and cannot refuse any more. `least_overlap`: the higher, the more questions are refused
    unread.
    """

    n_parts: int
    n_refusal: int
    word_weight: float
    most_silent: float
    refusal_weight: float = 0.0
    silent_last: bool = False
    joins_two: bool = False
    least_overlap: float = 0.0


#: Networks that learned to refuse. Chosen on four manuals (100 questions with an answer, 32
#: without): the threshold drops 2 of 100 right answers and 13 of 32 invented ones.
TRAINED = Judging(
    n_parts=4,
    n_refusal=1,
    word_weight=12.0,
    most_silent=0.18,
    refusal_weight=1.0,
    least_overlap=0.05,
)
#: Parts that are ranks: public Doc-to-LoRA networks saw eight chunks together in training.
JOINED = replace(TRAINED, n_parts=8)
#: Bases with an instruction to refuse; chosen on the same questions.
INSTRUCTED = Judging(
    n_parts=8, n_refusal=4, word_weight=10.0, most_silent=0.5, silent_last=True, joins_two=True
)


@dataclass(frozen=True)
class Choice:
    """Indices of the chosen parts, best first, with their scores.

    `margin`: (first - second) / first score of all parts, from 0 to 1. `most`: the highest score
    that the question allows. `named`: the question or the user names the parts, so they answer.
    `together`: they are read one behind another, in their order. `silent`: the probability that the
    answer to the first part is the refusal, once the model has read it. `n_speaking`: number of
    parts that are not silent.
    """

    indices: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    margin: float = 0.0
    most: float = 1.0
    judging: Judging = TRAINED
    named: bool = False
    together: bool = False
    silent: float | None = None
    n_speaking: int = 0

    def judge(self, entropies: Sequence[float], refusals: Sequence[float]) -> "Choice":
        """Order the parts by their worth; entropies in nats, and probabilities of the refusal."""
        rule = self.judging
        worth = [
            rule.word_weight * score / self.most
            - entropy
            + rule.refusal_weight * math.log(max(1 - refusal, 1e-6))
            - _SILENT * (rule.silent_last and refusal > rule.most_silent)
            for score, entropy, refusal in zip(self.scores, entropies, refusals, strict=True)
        ]
        order = sorted(range(len(worth)), key=lambda n: (-worth[n], n))
        return replace(
            self,
            indices=tuple(self.indices[n] for n in order),
            scores=tuple(self.scores[n] for n in order),
            silent=refusals[order[0]],
            n_speaking=sum(refusal <= rule.most_silent for refusal in refusals),
        )

    def read_anyway(self) -> "Choice":
        """The choice whose parts are read at any score."""
        return replace(self, judging=replace(self.judging, least_overlap=0.0))

    @property
    def coverage(self) -> float:
        """Score of the first part as a share of the highest that the question allows, 0 to 1."""
        return (*self.scores, 0.0)[0] / self.most

    @property
    def best(self) -> tuple[int, ...]:
        """The parts that the answer is read off, in their order in the document: two for a full
        answer, unless one of them is silent, or was not read."""
        if self.together:
            return self.indices
        both = self.judging.joins_two and self.silent is not None and self.n_speaking > 1
        return tuple(sorted(self.indices[: 1 + both]))

    @property
    def must_answer(self) -> bool:
        """True if the base may not refuse any more: the refusal was judged for a full answer, or
        it reads named parts together."""
        judged = self.judging.joins_two and self.silent is not None
        return self.judging.silent_last and (self.together or judged)

    @property
    def is_answered(self) -> bool:
        """True if the first part answers: by the model's reading, or before it by words."""
        if self.named:
            return True
        if self.silent is not None:
            return self.silent < self.judging.most_silent
        return self.coverage >= self.judging.least_overlap


def judge(choice: Choice, readings: Sequence[Judged]) -> Choice:
    """Judge the parts by their readings; unread parts keep their order."""
    if not readings:
        return choice
    return choice.judge([read.entropy for read in readings], [read.refusal for read in readings])
