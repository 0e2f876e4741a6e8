"""A passage and answers in it → questions that the base, shown the passage, answers with them.

A causal model and a writer's weights in; knows nothing of documents, files or how weights were
found. A question counts only if it passes the round trip: the base alone, with the passage in its
prompt, gives the marked answer.
"""

import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

from d2l.adapters.weights import LoraWeights
from d2l.bases.chat import Chat
from d2l.bases.tokenizers import BaseTokenizer
from d2l.inference.attached import attached, on_device
from d2l.inference.likelihood import GenerationSettings, answer_by_chance, answer_likeliest
from d2l.inference.prompt_styles import WORDINGS
from d2l.refining.writer_prompts import Span, WriterPrompts

#: As many as are asked for of a passage at a time, in three wordings and more: it is read once, and
#: a token of a hundred rows takes less than twice as long as one of thirty.
_BATCH = 96
#: Part of a batch whose ends are not waited for: of 72 questions the last took half of all passes.
_STRAGGLERS = 0.1
_QUESTION_TOKENS, _ANSWER_TOKENS = 40, 24
#: Words of a question; shorter ones name nothing, longer ones tell the answer.
_WORDS = range(4, 31)
_ARTICLES = re.compile(r"\b(?:the|a|an)\b")
_WORD = re.compile(r"\w+(?:[.,:]\d+)*")
#: Words that an answer neither begins nor ends with, unless they were marked.
_FILLERS = frozenset(
    ["as", "at", "by", "for", "from", "in", "is", "it", "of", "on", "that", "to", "was", "with"]
)
#: Counts that bases tell in digits, whatever the passage has.
_UNITS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety"
_COUNTS = {word: str(n) for n, word in enumerate(_UNITS.split(), start=1)} | {
    word: str(10 * n) for n, word in enumerate(_TENS.split(), start=1)
}
#: Words that a quotation may have beyond those that were marked.
_MORE_QUOTED = 4


@dataclass(frozen=True)
class Asked:
    """A question about a passage, and where its answer stands in it."""

    question: str
    span: Span


@dataclass(frozen=True)
class Chance:
    """How each answer is asked for in other words: `wordings` times, each token drawn at a
    `temperature`, from a seed; with `likeliest`, by the likeliest question before these."""

    wordings: int
    seed: int = 0
    temperature: float = 0.8
    likeliest: bool = False

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Those of the questions for one answer, 0 for the likeliest."""
        return (0.0,) * self.likeliest + (self.temperature,) * self.wordings


@dataclass(frozen=True)
class QuestionWriter:
    """A base, and the writer's LoRA for it."""

    causal: Any
    chat: Chat
    weights: LoraWeights

    def write(
        self, text: str, spans: Sequence[Span], *, chance: Chance | None = None
    ) -> list[Asked]:
        """A question for every place of a passage that it finds one for, in order; none twice. The
        likeliest one, or by `chance` some."""
        temperatures = (0.0,) if chance is None else chance.temperatures
        marking = WriterPrompts(self.chat)
        before = marking.passage(text)
        prompts = [(*before, *marking.mark(text, span)) for span in spans for _ in temperatures]
        spans = [span for span in spans for _ in temperatures]
        with attached(self.causal, on_device(self.weights, self.causal.device), self.weights.scale):
            made = self._go_on(prompts, _QUESTION_TOKENS, chance)
        found: dict[str, Asked] = {}
        for span, question in zip(spans, made, strict=True):
            if is_question(question, answer=span.of(text)):
                found.setdefault(question.casefold(), Asked(question, span))
        return list(found.values())

    def keep_answered(self, text: str, asked: Sequence[Asked]) -> list[Asked]:
        """Those that the base, with the passage in its prompt, answers with the marked words; where
        it quotes more of the passage around these, with what it quotes."""
        prompts = show_passage(text, [one.question for one in asked], self.chat.tokenizer)
        replies = self._go_on(prompts, _ANSWER_TOKENS)
        return [
            Asked(one.question, quote(reply, text, one.span, question=one.question))
            for one, reply in zip(asked, replies, strict=True)
            if agrees(reply, one.span.of(text), question=one.question)
        ]

    def _go_on(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, chance: Chance | None = None
    ) -> list[str]:
        end = self.chat.end_token
        settings = GenerationSettings(max_tokens, _BATCH, end=end, pad=end, stragglers=_STRAGGLERS)
        if chance is None:
            made = answer_likeliest(self.causal, prompts, settings)
        else:
            each = chance.temperatures
            heat = each * (len(prompts) // len(each))
            made = answer_by_chance(
                self.causal, prompts, settings, temperatures=heat, seed=chance.seed
            )
        decode = self.chat.tokenizer.decode
        return [decode(ids, skip_special_tokens=True).strip() for ids in made]


def show_passage(
    text: str, questions: Sequence[str], tokenizer: BaseTokenizer
) -> list[tuple[int, ...]]:
    """Prompts that show the base a passage and ask it: all begin with the passage, which is read
    once. The wording is the one that gets the most right answers, and short ones, out of the bases
    that have a writer. Raises BaseModelError for a chat template without system turns."""
    wording = WORDINGS["system"]
    turns = [
        {"role": "system", "content": wording.system or ""},
        {"role": "user", "content": wording.user},
    ]
    rendered = tokenizer.render_chat(turns, taking="a passage and a question")
    before, _, rest = rendered.partition("{document}")
    between, _, after = rest.partition("{question}")
    shown = (*tokenizer.encode_control(before), *tokenizer.encode(text))
    end = tokenizer.encode_control(after)
    return [(*shown, *tokenizer.encode(between + question), *end) for question in questions]


def is_question(text: str, *, answer: str) -> bool:
    """Whether a text reads as one question that does not tell its own answer."""
    words = text.split()
    return (
        len(words) in _WORDS
        and text.endswith("?")
        and text.count("?") == 1
        and "[[" not in text
        and f" {' '.join(plain_words(answer))} " not in f" {' '.join(plain_words(text))} "
    )


def agrees(reply: str, answer: str, *, question: str = "") -> bool:
    """Whether a reply is the answer: the same words but for case, articles, punctuation and the
    digits of counts, or the answer with few words around it that are not the question's, or most of
    a long answer."""
    said, wanted = list(plain_words(reply)), list(plain_words(answer))
    if not said or not wanted:
        return False
    if f" {' '.join(wanted)} " in f" {' '.join(said)} ":
        asked = set(plain_words(question))
        return sum(word not in asked for word in said) <= 2 * len(wanted) + 6
    shared = len(set(said) & set(wanted))
    return len(wanted) > 3 and 2 * shared / (len(set(said)) + len(set(wanted))) >= 0.8


def quote(reply: str, text: str, span: Span, *, question: str = "") -> Span:
    """The place of a text that a reply quotes around what was marked, else what was marked.

    "5" of "5–8 bar" or one city of three is marked by rules that know no better, and the base tells
    the whole; what it tells is taken as the text has it, dashes and all. Words of the question and
    fillers at its ends are none of the answer.
    """
    words = [match for match in _WORD.finditer(text) if not _ARTICLES.fullmatch(_plain(match))]
    plain, asked = [_plain(match) for match in words], set(plain_words(question))
    wanted = list(plain_words(span.of(text)))
    said = _strip(list(plain_words(reply)), (asked | _FILLERS) - set(wanted))
    if not said or len(said) > len(wanted) + _MORE_QUOTED:
        return span
    for first in range(len(words) - len(said) + 1):
        start, stop = words[first].start(), words[first + len(said) - 1].end()
        if start < span.stop and span.start < stop and plain[first : first + len(said)] == said:
            return Span(min(start, span.start), max(stop, span.stop))
    return span


def _strip(words: list[str], strange: Set[str]) -> list[str]:
    """Words without those at either end that are strange."""
    while words and words[0] in strange:
        words = words[1:]
    while words and words[-1] in strange:
        words = words[:-1]
    return words


def plain_words(text: str) -> Iterator[str]:
    """Words in small letters without articles, counts in digits; numbers keep their points."""
    for match in _WORD.finditer(text):
        if not _ARTICLES.fullmatch(_plain(match)):
            yield _plain(match)


def _plain(word: re.Match[str]) -> str:
    plain = word.group().casefold()
    return _COUNTS.get(plain, plain)
