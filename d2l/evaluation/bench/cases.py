"""What benchmarks ask: documents of needles, of a set's texts and of phone numbers, with questions.

The same seed, tokenizer and file give the same cases.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from d2l.datasets.questions import Question, read_questions
from d2l.documents.chunks import Tokenizer
from d2l.documents.document import Document
from d2l.documents.intake import InputLike, ReadOptions, take_inputs
from d2l.errors import ProbeError
from d2l.evaluation.metrics import Row, pick_evenly
from d2l.evaluation.recall.documents import AskedDocument, ask_some, join_texts

#: Tokens of the published needle sets, from, to: Doc-to-LoRA was scored in these.
NEEDLE_BINS = tuple(
    pairwise(
        (
            *(32, 128, 256, 512),
            *range(1_024, 16_384, 1_024),
            *range(16_384, 32_768, 4_096),
            *range(32_768, 131_073, 8_192),
        )
    )
)
DEPTHS = 10
_NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
_NEEDLE = "The special magic number is {}."
_WHICH_NUMBER = "What is the special magic number? Reply with only the number."
#: Questions about one text: more texts say more than more questions about each.
_ASKED_EACH = 5
_CONSONANTS, _VOWELS = "bdfghjklmnprstvw", "aeiou"


@dataclass(frozen=True)
class Case:
    """A document with questions, in a cell of the report."""

    cell: Row
    asked: AskedDocument


def draw_needle(chance: random.Random, n_lines: int, depth: int) -> tuple[str, str]:
    """A text of so many lines of noise, one of which is a number of four digits instead, and the
    number. `depth`, 0 to 9, is the tenth of the text that has it."""
    number = f"{chance.randint(0, 9_999):04d}"
    first, last = n_lines * depth // DEPTHS, -(-n_lines * (depth + 1) // DEPTHS) - 1
    line = chance.randint(first, last)
    lines = [_NEEDLE.format(number) if n == line else _NOISE for n in range(n_lines)]
    return "\n".join(lines), number


def draw_needles(
    tokenizer: Tokenizer, *, fewest: int, most: int, depths: int, count: int, seed: int
) -> list[Case]:
    """`count` texts for each of `depths` depths in each bin from `fewest` to `most` tokens."""
    cases = []
    for low, high in NEEDLE_BINS:
        lines = _count_lines(tokenizer, low, high) if fewest <= low and high <= most else ()
        if not lines:
            continue
        for depth in pick_evenly(range(DEPTHS), depths):
            for n in range(count):
                chance = random.Random(f"{seed}:{low}:{depth}:{n}")
                text, number = draw_needle(chance, chance.choice(lines), depth)
                question = Question(_WHICH_NUMBER, (number,), evidence=_NEEDLE.format(number))
                cell = {"from": low, "to": high, "depth": depth}
                name = f"needle {low}-{high} at {depth}, {n + 1}"
                cases.append(make_case(tokenizer, cell, name, text, [question]))
    if not cases:
        raise ProbeError("no needle set has so many tokens", hint="raise --most to 128 or more")
    return cases


def _count_lines(tokenizer: Tokenizer, low: int, high: int) -> range:
    """How many lines a text of `low` to `high` tokens may have."""
    two, three = (
        len(tokenizer.encode("\n".join([*[_NOISE] * n, _NEEDLE.format("0000")]))) for n in (1, 2)
    )
    fewest, most = (2 - (two - tokens) // (three - two) for tokens in (low, high))
    return range(max(fewest, 1), most)


def draw_texts(
    tokenizer: Tokenizer, path: Path, *, lengths: Sequence[int], limit: int
) -> list[Case]:
    """Texts of a file of doc, question and answers by their own length, in bins that double, with
    `limit` questions in each; with `lengths`, joined to about so many tokens before that."""
    questions = read_questions(path, need_document=True)
    bins: dict[tuple[int, int], list[AskedDocument]] = {}
    for length in lengths or (1,):
        for asked in join_texts(questions, tokenizer=tokenizer, length=length, limit=10**9):
            high = max(128, 1 << asked.n_tokens.bit_length())
            bins.setdefault((high // 2 if high > 128 else 0, high), []).append(asked)
    cases = []
    for (low, high), texts in sorted(bins.items()):
        left = limit
        for asked in pick_evenly(texts, -(-limit // _ASKED_EACH)):
            some = ask_some(asked, asked.questions, min(left, _ASKED_EACH))
            left -= len(some.questions)
            if some.questions:
                cases.append(Case({"from": low, "to": high}, some))
    return cases


def draw_phonebooks(
    tokenizer: Tokenizer, *, entries: Sequence[int], limit: int, seed: int
) -> list[Case]:
    """Lists of so many names with a number of six digits each, and `limit` questions about each."""
    cases = []
    for n_entries in entries:
        chance, numbers = random.Random(f"{seed}:{n_entries}"), dict[str, str]()
        while len(numbers) < n_entries:
            name = " ".join(_draw_name(chance) for _ in range(2))
            numbers[name] = str(chance.randint(100_000, 999_999))
        text = "\n".join(f"{name}: {number}" for name, number in numbers.items())
        questions = [
            Question(f"What is the number of {name}? Reply with only the number.", (number,))
            for name, number in chance.sample(sorted(numbers.items()), min(limit, n_entries))
        ]
        name = f"phone book of {n_entries}"
        cases.append(make_case(tokenizer, {"entries": n_entries}, name, text, questions))
    return cases


def _draw_name(chance: random.Random) -> str:
    syllables = (chance.choice(_CONSONANTS) + chance.choice(_VOWELS) for _ in range(3))
    return "".join(syllables).capitalize()


def take_documents(tokenizer: Tokenizer, inputs: InputLike, *, limit: int) -> list[Case]:
    """Documents from paths for `limit` general prompts, without questions; raises DocumentError."""
    cases = []
    for document in take_inputs(inputs, ReadOptions()).documents:
        cell = {"document": Path(document.name).name, "n": limit}
        cases.append(Case(cell, AskedDocument(document, _count(tokenizer, document), ())))
    return cases


def _count(tokenizer: Tokenizer, document: Document) -> int:
    return len(tokenizer.encode(document.text))


def make_case(
    tokenizer: Tokenizer, cell: Row, name: str, text: str, questions: Sequence[Question]
) -> Case:
    """A case of a text that lies in no file."""
    document = Document.from_text(text, name=name)
    return Case(cell, AskedDocument(document, _count(tokenizer, document), tuple(questions)))
