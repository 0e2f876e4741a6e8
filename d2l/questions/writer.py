"""A passage and answers in it → questions, by a LoRA on the base; the base alone then replies.

The writer's prompt begins with the passage, so that the base reads it once for all questions. Then
come the words around the answer, with the answer marked: a passage may repeat its words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2l.adapters.peft_folder import read_adapter
from d2l.adapters.weights import LoraWeights
from d2l.bases.catalog import BY_NAME
from d2l.bases.chat import Chat, make_chat
from d2l.bases.models import BaseFiles
from d2l.bases.tokenizers import BaseTokenizer
from d2l.hypernets.registry import ALIASES
from d2l.inference.attached import attached, on_device
from d2l.inference.likelihood import GenerationSettings, answer_greedily
from d2l.questions.marks import Span
from d2l.questions.replies import agrees, is_question, quote

#: The writers that are shipped: a folder for each base, by its alias.
WRITERS = Path(__file__).parent / "weights"
#: Words kept on each side of the answer behind the passage.
_AROUND = 12
_TASK = '\n\nAsk a question that the marked part of this text answers: "{marked}"'
#: The system turn when the base answers a question about a passage.
_SYSTEM = (
    "You find answers in texts. You reply with the answer alone, in as few words as possible, "
    "copied from the text."
)
#: All questions of a passage are written at once.
_BATCH = 96
#: Part of a batch whose ends are cut off: of 72 questions the last took half of all passes.
_STRAGGLERS = 0.1
_QUESTION_TOKENS, _ANSWER_TOKENS = 40, 24

#: A question about a passage, and where its answer stands in it.
WrittenQuestion = tuple[str, Span]


def mark(text: str, span: Span) -> str:
    """Write the words around a span on one line, the span in double brackets."""
    left = text[: span.start].split()[-_AROUND:]
    right = text[span.stop :].split()[:_AROUND]
    # "(1931)" keeps its brackets next to the answer.
    before = " " if left and text[span.start - 1].isspace() else ""
    after = " " if right and text[span.stop].isspace() else ""
    inside = " ".join(span.of(text).split())
    return f"{' '.join(left)}{before}[[{inside}]]{after}{' '.join(right)}"


@dataclass(frozen=True)
class QuestionWriter:
    """A base, and the writer's LoRA for it."""

    causal: Any
    chat: Chat
    weights: LoraWeights

    def write(self, text: str, spans: Sequence[Span]) -> list[WrittenQuestion]:
        """Write the likeliest question for each span of a passage, in order, none twice."""
        encode, (before, after) = self.chat.tokenizer.encode, self.chat.ask_ends()
        tasks = [encode(_TASK.format(marked=mark(text, span))) for span in spans]
        passage = (*before, *encode(text))
        with attached(self.causal, on_device(self.weights, self.causal.device), self.weights.scale):
            questions = self._generate(
                [(*passage, *task, *after) for task in tasks], _QUESTION_TOKENS
            )
        unique: dict[str, WrittenQuestion] = {}
        for span, question in zip(spans, questions, strict=True):
            if is_question(question, answer=span.of(text)):
                unique.setdefault(question.casefold(), (question, span))
        return list(unique.values())

    def keep_answered(self, text: str, written: Sequence[WrittenQuestion]) -> list[WrittenQuestion]:
        """Keep the questions that the base, with the passage in its prompt, answers with the
        marked words. If the base quotes more of the passage, the quotation becomes the answer."""
        prompts = show_passage(text, [question for question, _ in written], self.chat.tokenizer)
        replies = self._generate(prompts, _ANSWER_TOKENS)
        return [
            (question, quote(reply, text, span, question=question))
            for (question, span), reply in zip(written, replies, strict=True)
            if agrees(reply, span.of(text), question=question)
        ]

    def _generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[str]:
        """Generate the likeliest text behind each prompt."""
        end = self.chat.end_token
        settings = GenerationSettings(max_tokens, _BATCH, end=end, pad=end, stragglers=_STRAGGLERS)
        rows = answer_greedily(self.causal, prompts, settings)
        decode = self.chat.tokenizer.decode
        return [decode(ids, skip_special_tokens=True).strip() for ids in rows]


def show_passage(
    text: str, questions: Sequence[str], tokenizer: BaseTokenizer
) -> list[tuple[int, ...]]:
    """Make prompts that ask the base about a passage; all begin with the passage. Of the wordings
    that were tried, this gets the most right and short answers from the bases that have a writer.
    Raises BaseModelError for a chat template without system turns."""
    turns = [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": "{document}\n\n{question}"},
    ]
    rendered = tokenizer.render_chat(turns, taking="a passage and a question")
    before, _, rest = rendered.partition("{document}")
    between, _, after = rest.partition("{question}")
    shown = (*tokenizer.encode_control(before), *tokenizer.encode(text))
    end = tokenizer.encode_control(after)
    return [(*shown, *tokenizer.encode(between + question), *end) for question in questions]


def open_writer(causal: Any, tokenizer: BaseTokenizer, base: BaseFiles) -> QuestionWriter | None:
    """Load the writer that is shipped for a base; None if the base has none."""
    folder = find_writer(base.name)
    if folder is None:
        return None
    return QuestionWriter(causal, make_chat(tokenizer), read_adapter(folder))


def find_writer(base: str) -> Path | None:
    """Find the folder of the writer for a base, by the base's name; None if there is none."""
    known = BY_NAME.get(base)
    folder = None if known is None else WRITERS / known.alias
    return folder if folder is not None and (folder / "adapter_config.json").is_file() else None


def explain_silence(base: str) -> tuple[str, str]:
    """Explain why a document got no question on this base: (reason, hint)."""
    if find_writer(base) is not None:
        return (
            "the base could not answer any question of the writer, even with the passage in its "
            "prompt",
            "the writer asks for names, numbers and dates in plain sentences: choose a document "
            "that has some, or write questions yourself, for `d2l probe --qa`",
        )
    able = [alias.name for alias in ALIASES.values() if find_writer(alias.base) is not None]
    way = f"compile the document with --checkpoint {' or '.join(able)}, whose base has one, or "
    return (
        f"there is no question writer for the base {base}",
        f"{way if able else ''}write questions yourself, for `d2l probe --qa`",
    )
