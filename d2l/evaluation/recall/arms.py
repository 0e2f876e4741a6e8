"""Questions → marks, arm by arm: with the adapter, by the base alone, with the document in the
prompt.

The same questions in the same chat template, answered greedily; what is kept of an answer is its
marks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from d2l.datasets.questions import Question
from d2l.datasets.silence import is_silence
from d2l.evaluation.metrics import contains_answer, match_exactly, token_f1
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.likelihood import GenerationSettings, score_answers
from d2l.inference.prompt_styles import WORDINGS
from d2l.refining.options import RefineOptions

#: All wordings are tried, and the best of each cell is compared with.
BEST = "best"
DEFAULT_WORDING = "short"

#: What an answer is marked by; the first three are shares, the others nats a token.
SCORES = ("contained", "em", "f1", "nll", "nll_without_end")


@dataclass(frozen=True)
class Mark:
    """One answer: the greedy one against all references, and how unlikely the first reference was,
    in nats a token, with the end token that follows it and without. `silent`: it says that there is
    no answer."""

    contained: float
    em: float
    f1: float
    nll: float
    nll_without_end: float
    silent: bool = False


@dataclass
class Marks:
    """The marks of one arm in one cell; `n_cut` questions had their document cut to fit."""

    marks: list[Mark] = field(default_factory=list)
    n_cut: int = 0

    def add(self, marks: Iterable[Mark], n_cut: int = 0) -> None:
        """Count some more answers."""
        self.marks += marks
        self.n_cut += n_cut


@dataclass(frozen=True)
class ProbeOptions:
    """How answers are asked for: at most `limit` questions in a cell, greedily, in batches.

    `wording` is a key of WORDINGS or BEST; `harm` says whether general prompts are asked, too,
    `compare` whether the base is, alone and with the document in its prompt. `unanswerable` is a
    file of questions that documents do not answer, or NEIGHBORS (`recall.unanswerable`). With
    `refine` adapters of sets are refined on their documents, and asked before and after.
    """

    limit: int = 200
    batch: int = 8
    wording: str = DEFAULT_WORDING
    harm: bool = True
    compare: bool = True
    unanswerable: str | None = None
    refine: RefineOptions | None = None

    @property
    def wordings(self) -> tuple[str, ...]:
        """Names of the wordings to try."""
        return tuple(WORDINGS) if self.wording == BEST else (self.wording,)


@dataclass
class Gathered:
    """The marks of one cell by arm, those of the prompt arm by wording; `predicted` are those of
    the adapter before it is refined, if it is."""

    adapter: Marks = field(default_factory=Marks)
    base: Marks = field(default_factory=Marks)
    prompt: dict[str, Marks] = field(default_factory=dict)
    predicted: Marks = field(default_factory=Marks)


@dataclass
class Arms:
    """Asks all arms. The base's own answers do not depend on the adapter: they are marked once."""

    options: ProbeOptions
    _alone: dict[Question, Mark] = field(default_factory=dict)

    def ask_adapter(self, asker: AdaptedModel, questions: Sequence[Question]) -> list[Mark]:
        """With the adapter that the asker holds; AdapterError where it cannot be asked."""
        return self._ask(asker, [asker.prompt(question.text) for question in questions], questions)

    def ask_alone(self, asker: AdaptedModel, questions: Sequence[Question]) -> list[Mark]:
        """By the base alone."""
        new = [question for question in dict.fromkeys(questions) if question not in self._alone]
        with asker.model.disable_adapter():
            marks = self._ask(asker, [asker.prompt_alone(question.text) for question in new], new)
        self._alone.update(zip(new, marks, strict=True))
        return [self._alone[question] for question in questions]

    def ask_about(
        self, asker: AdaptedModel, questions: Sequence[Question], document: str
    ) -> Iterator[tuple[str, list[Mark], int]]:
        """By the base with the document in its prompt: for every wording its name, the marks, and
        how many questions had the document cut."""
        n_answer = max(asker.options.max_tokens, *map(len, _encode_answers(asker, questions)))
        for name in self.options.wordings:
            cut = [
                asker.prompt_about(document, question.text, WORDINGS[name], n_answer=n_answer)
                for question in questions
            ]
            with asker.model.disable_adapter():
                marks = self._ask(asker, [prompt for prompt, _ in cut], questions)
            yield name, marks, sum(left_out > 0 for _, left_out in cut)

    def ask_with_document(
        self,
        asker: AdaptedModel,
        questions: Sequence[Question],
        document: str | None,
        into: Gathered,
    ) -> None:
        """The two arms that know the document; only the adapter where it is not at hand, or
        nothing is compared."""
        into.adapter.add(self.ask_adapter(asker, questions))
        if document is not None and self.options.compare:
            for name, marks, n_cut in self.ask_about(asker, questions, document):
                into.prompt.setdefault(name, Marks()).add(marks, n_cut)

    def _ask(
        self, asker: AdaptedModel, prompts: Sequence[list[int]], questions: Sequence[Question]
    ) -> list[Mark]:
        end = asker.end_token()
        settings = GenerationSettings(
            asker.options.max_tokens, self.options.batch, end=end, pad=end
        )
        answers = score_answers(asker.model, prompts, _encode_answers(asker, questions), settings)
        return [
            _mark(_decode(asker, scored.answer), question.references, scored.log_probs)
            for question, scored in zip(questions, answers, strict=True)
        ]


def _mark(answer: str, references: Sequence[str], log_probs: Tensor) -> Mark:
    """Marks of an answer; `log_probs` (tokens,) are of the first reference and the end token."""
    return Mark(
        contained=float(contains_answer(answer, references)),
        em=float(match_exactly(answer, references)),
        f1=token_f1(answer, references),
        nll=-float(log_probs.mean()),
        nll_without_end=-float(log_probs[:-1].mean()),
        silent=is_silence(answer),
    )


def _encode_answers(asker: AdaptedModel, questions: Sequence[Question]) -> list[list[int]]:
    """First reference answers as ids, each with the token that ends it."""
    end = asker.end_token()
    return [[*asker.encode(question.references[0]), end] for question in questions]


def _decode(asker: AdaptedModel, ids: Sequence[int]) -> str:
    text: Any = asker.base_tokenizer.decode(ids, skip_special_tokens=True)
    return str(text).strip()
