"""Questions → marks, arm by arm: with the adapter, by the base alone, with the document in the
prompt.

The same questions in the same chat template, answered greedily.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from d2l.datasets.questions import Question
from d2l.datasets.silence import is_silence
from d2l.evaluation.metrics import contains_answer, match_exactly, token_f1, write_plainly
from d2l.evaluation.part_answers import answer_by_parts, asks_parts
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.likelihood import GenerationSettings, score_answers
from d2l.inference.parts.choose import PartOptions

#: Scores of an answer; the first three are shares, the others nats a token.
SCORES = ("contained", "em", "f1", "nll", "nll_without_end")


@dataclass(frozen=True)
class Mark:
    """Scores of one greedy answer against all references, and how unlikely the first reference was,
    in nats a token, with the end token that follows it and without. `silent`: it says that there is
    no answer."""

    contained: float
    em: float
    f1: float
    nll: float
    nll_without_end: float
    silent: bool = False
    answer: str = ""


@dataclass(frozen=True)
class ProbeOptions:
    """At most `limit` questions in a cell, `batch` at a time; `harm`: ask general prompts, too.

    `unanswerable` is a file of questions that documents do not answer, or NEIGHBORS
    (`recall.unanswerable`). `arms` are those that are asked about whole documents.
    """

    limit: int = 200
    batch: int = 8
    harm: bool = True
    unanswerable: str | None = None
    arms: tuple[str, ...] = ()


@dataclass
class Gathered:
    """The marks of one cell by arm. `n_cut` questions had their document cut to fit the prompt.

    Of whole documents alone: `rag` had the best part as text in the prompt, `routed` read the parts
    that the question chose, `right` the part with the answer; `first_token` has some seconds to the
    first token of each arm."""

    adapter: list[Mark] = field(default_factory=list)
    prompt: list[Mark] = field(default_factory=list)
    base: list[Mark] = field(default_factory=list)
    rag: list[Mark] = field(default_factory=list)
    routed: list[Mark] = field(default_factory=list)
    right: list[Mark] = field(default_factory=list)
    first_token: dict[str, list[float]] = field(default_factory=dict)
    n_cut: int = 0


@dataclass
class Arms:
    """Asks all arms. The base's own answers do not depend on the adapter: they are marked once."""

    batch: int = 8
    _alone: dict[Question, Mark] = field(default_factory=dict)

    def ask_all(
        self,
        asker: AdaptedModel,
        questions: Sequence[Question],
        document: str | None,
        into: Gathered,
    ) -> None:
        """Ask all arms and add their marks; without the document, there is no prompt arm."""
        into.adapter += self.ask_adapter(asker, questions)
        if document is not None:
            documents = [document] * len(questions)
            marks, n_cut = self.ask_with_documents(asker, questions, documents)
            into.prompt += marks
            into.n_cut += n_cut
        into.base += self.ask_alone(asker, questions)

    def ask_adapter(self, asker: AdaptedModel, questions: Sequence[Question]) -> list[Mark]:
        """With the adapter that the asker holds, by its parts where it has some, as `d2l ask` does;
        AdapterError where it cannot be asked."""
        if not asks_parts(asker):
            return self.ask_whole(asker, questions)
        return [mark_by_parts(asker, question, asker.options.parts) for question in questions]

    def ask_whole(self, asker: AdaptedModel, questions: Sequence[Question]) -> list[Mark]:
        """With the one memory, or the weights, that other engines load."""
        return self._ask(asker, [asker.prompt(question.text) for question in questions], questions)

    def ask_with_documents(
        self, asker: AdaptedModel, questions: Sequence[Question], documents: Sequence[str]
    ) -> tuple[list[Mark], int]:
        """By the base with each question's document in its prompt: marks, and how many documents
        were cut."""
        n_answer = max(asker.options.max_new_tokens, *map(len, encode_answers(asker, questions)))
        cut = [
            asker.prompt_about(document, question.text, n_answer=n_answer)
            for document, question in zip(documents, questions, strict=True)
        ]
        with asker.model.disable_adapter():
            marks = self._ask(asker, [prompt for prompt, _ in cut], questions)
        return marks, sum(left_out > 0 for _, left_out in cut)

    def ask_alone(self, asker: AdaptedModel, questions: Sequence[Question]) -> list[Mark]:
        """By the base alone."""
        new = [question for question in dict.fromkeys(questions) if question not in self._alone]
        with asker.model.disable_adapter():
            marks = self._ask(asker, [asker.prompt_alone(question.text) for question in new], new)
        self._alone.update(zip(new, marks, strict=True))
        return [self._alone[question] for question in questions]

    def _ask(
        self, asker: AdaptedModel, prompts: Sequence[list[int]], questions: Sequence[Question]
    ) -> list[Mark]:
        end = asker.end_token()
        settings = GenerationSettings(asker.options.max_new_tokens, self.batch, end=end, pad=end)
        answers = score_answers(asker.model, prompts, encode_answers(asker, questions), settings)
        decode = asker.base_tokenizer.decode
        return [
            mark_answer(str(decode(ids, skip_special_tokens=True)).strip(), question, log_probs)
            for question, (log_probs, ids) in zip(questions, answers, strict=True)
        ]


def mark_by_parts(asker: AdaptedModel, question: Question, parts: PartOptions) -> Mark:
    """Mark the answer of chosen parts."""
    (wanted,) = encode_answers(asker, [question])
    log_probs, text = answer_by_parts(asker, question.text, wanted, parts)
    return mark_answer(text, question, log_probs)


def mark_answer(text: str, question: Question, log_probs: Tensor) -> Mark:
    """Mark an answer; `log_probs` (tokens,) are those of the first reference and its end."""
    answer, references = write_plainly(text), [write_plainly(r) for r in question.references]
    return Mark(
        contained=float(contains_answer(answer, references)),
        em=float(match_exactly(answer, references)),
        f1=token_f1(answer, references),
        nll=-float(log_probs.mean()),
        nll_without_end=-float(log_probs[:-1].mean()),
        silent=is_silence(answer),
        answer=text,
    )


def encode_answers(asker: AdaptedModel, questions: Sequence[Question]) -> list[list[int]]:
    """First reference answers as ids, each with the token that ends it."""
    end = asker.end_token()
    return [[*asker.encode(question.references[0]), end] for question in questions]
