"""The documents of each benchmark: of a set by length, with a needle, a page, whole manuals.

The same files, lengths and tokenizer give the same documents.
"""

import os.path
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from d2l import Document, ReadOptions
from d2l.documents.chunks import Tokenizer
from d2l.documents.intake import take_inputs
from d2l.errors import ProbeError
from d2l.evaluation.metrics import pick_evenly
from d2l_lab.bench.answers import Arm
from d2l_lab.bench.documents import AskedDocument, draw_documents
from d2l_lab.questions import SHORT, Question, read_questions

#: The arms of each benchmark. PARTS, RIGHT, RAG and RAG4 are of documents with parts. A manual
#: without parts is asked by its whole adapter. `sets` measures the base, which has no text.
BENCH_ARMS: Mapping[str, tuple[Arm, ...]] = {
    "sets": (Arm.PARTS, Arm.ADAPTER, Arm.PROMPT, Arm.BASE),
    "needles": (Arm.PARTS, Arm.ADAPTER, Arm.PROMPT),
    "check": (Arm.PARTS, Arm.ADAPTER, Arm.PROMPT, Arm.BASE),
    "manuals": (Arm.PARTS, Arm.RIGHT, Arm.RAG, Arm.RAG4),
}
#: Depths of a needle: tenths of its document.
DEPTHS = 10
_NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
_NEEDLE = "The special magic number is {}."
_WHICH_NUMBER = "What is the special magic number? Reply with only the number."
PAGE = """
The Sellan ferry crosses Lake Ommer between Tarvik and Holt. The crossing takes 35 minutes. The
ferry was built in 1964 by the Brandt yard and is painted orange. It carries 18 cars and 120
passengers. Its captain is Mira Oduya. The first ferry leaves Tarvik at 6:20. A ticket costs 4
euros, and children below 7 travel free of charge. In fog the ferry stays in the harbor of Holt.
Lost things are kept in the blue hut beside the pier.
"""
QUESTIONS = (
    ("Which lake does the Sellan ferry cross?", "Ommer"),
    ("How long does the crossing take?", "35 minutes"),
    ("In which year was the ferry built?", "1964"),
    ("Which yard built the ferry?", "Brandt"),
    ("What color is the ferry?", "orange"),
    ("How many cars does the ferry carry?", "18"),
    ("Who is the captain of the ferry?", "Mira Oduya"),
    ("When does the first ferry leave Tarvik?", "6:20"),
    ("What does a ticket cost?", "4 euros"),
    ("Where are lost things kept?", "blue hut"),
)


#: Set of the page in noise; its `length` is that of the chunks. The text has more tokens than any
#: public network learned from in one chunk.
CHUNKS, _NOISE_TOKENS = "page in noise, chunks of", 2_500


@dataclass(frozen=True)
class Case:
    """A document with questions, and its row of the report."""

    set: str
    length: int | None
    asked: AskedDocument

    @property
    def compiling(self) -> dict[str, Any]:
        """Options of its compilation."""
        is_whole = self.set == CHUNKS
        return {"chunk_tokens": self.length, "parts": False} if is_whole else {}


def draw_sets(
    tokenizer: Tokenizer, *, files: Sequence[Path], lengths: Sequence[int], limit: int
) -> list[Case]:
    """Draw documents of every length from every set, with `limit` questions of a length."""
    cases = []
    for name, path in zip(name_sets(files), files, strict=True):
        questions = read_questions(path)
        for length in dict.fromkeys(lengths):
            drawn = draw_documents(questions, tokenizer=tokenizer, length=length, limit=limit)
            if not drawn:
                raise ProbeError(
                    f"{path}: no passage of at most {length:,} tokens answers a question",
                    hint="choose a longer --length",
                )
            cases += [Case(name, length, asked) for asked in drawn]
    return cases


def name_sets(files: Sequence[Path]) -> list[str]:
    """Name files without suffixes, or by their paths if two of them are called the same."""
    short = [path.name.removesuffix(".gz").removesuffix(".jsonl") for path in files]
    counts = Counter(short)
    return [
        str(path) if counts[name] > 1 else name for name, path in zip(short, files, strict=True)
    ]


def draw_manuals(tokenizer: Tokenizer, *, files: Sequence[Path], limit: int) -> list[Case]:
    """Read the documents that `doc` names in the folder of a file of questions, whole.

    At most `limit` short questions a document, and as many others. Raises ProbeError and
    DocumentError.
    """
    manuals: dict[Path, tuple[list[Question], list[Question]]] = {}
    for path in files:
        for question in read_questions(path, howtos=True):
            name = question.document
            # os.path: `Path` raises for a name that no file can have.
            if Path(name).name != name or not os.path.isfile(path.parent / name):
                raise ProbeError(
                    f"{path}: {name[:60]!r} is no file in its folder",
                    hint="doc names a file beside the questions; d2l-lab bench sets takes texts",
                )
            sorts = manuals.setdefault(path.parent / name, ([], []))
            sorts[question.kind != SHORT].append(question)
    cases = []
    for path, sorts in manuals.items():
        (document, *_) = take_inputs(path, ReadOptions()).documents
        some = [question for sort in sorts for question in pick_evenly(sort, limit)]
        named = replace(document, name=path.name)
        cases.append(Case(path.name, None, _ask(tokenizer, named, some)))
    return cases


def draw_page(tokenizer: Tokenizer) -> list[Case]:
    """Take a fixed page with ten questions."""
    document = Document.from_text(" ".join(PAGE.split()), name="page")
    questions = [Question(text, (answer,), document.text) for text, answer in QUESTIONS]
    return [Case("a page", None, _ask(tokenizer, document, questions))]


def draw_chunks(tokenizer: Tokenizer, lengths: Sequence[int]) -> list[Case]:
    """Spread the page's sentences over noise, to be read in chunks of each of these lengths."""
    (page,) = draw_page(tokenizer)
    sentences = re.split(r"(?<=\.) ", page.asked.document.text)
    n_lines = (_NOISE_TOKENS - page.asked.n_tokens) // len(tokenizer.encode(f"{_NOISE}\n"))
    block = [_NOISE] * (n_lines // len(sentences))
    text = "\n".join(line for sentence in sentences for line in (*block, sentence))
    document = Document.from_text(text, name=CHUNKS)
    asked = _ask(tokenizer, document, page.asked.questions)
    return [Case(CHUNKS, length, asked) for length in lengths]


def draw_needles(tokenizer: Tokenizer, *, lengths: Sequence[int], count: int) -> list[Case]:
    """Draw `count` texts of each length and depth, as long as `lengths` allow."""
    cases = []
    for length in dict.fromkeys(lengths):
        n_lines = _count_lines(tokenizer, length)
        for depth in range(DEPTHS):
            for n in range(count):
                chance = random.Random(f"{length}:{depth}:{n}")
                text, number = draw_needle(chance, n_lines, depth)
                needle = _NEEDLE.format(number)
                document = Document.from_text(text, name=f"{length} tokens at {depth}, {n + 1}")
                question = Question(_WHICH_NUMBER, (number,), text, needle)
                cases.append(Case("needles", length, _ask(tokenizer, document, [question])))
    return cases


def draw_needle(chance: random.Random, n_lines: int, depth: int) -> tuple[str, str]:
    """Draw a text of lines of noise, one of which is a number of four digits, and the number.

    `depth`, 0 to 9, is the tenth of the text that has the number.
    """
    number = f"{chance.randint(0, 9_999):04d}"
    first, last = n_lines * depth // DEPTHS, -(-n_lines * (depth + 1) // DEPTHS) - 1
    line = chance.randint(first, last)
    lines = [_NEEDLE.format(number) if n == line else _NOISE for n in range(n_lines)]
    return "\n".join(lines), number


def _count_lines(tokenizer: Tokenizer, length: int) -> int:
    """Count the lines of the longest text of at most `length` tokens, at least one."""
    two, three = (
        len(tokenizer.encode("\n".join([*[_NOISE] * n, _NEEDLE.format("0000")]))) for n in (1, 2)
    )
    return max(2 + (length - two) // (three - two), 1)


def _ask(tokenizer: Tokenizer, document: Document, questions: Sequence[Question]) -> AskedDocument:
    return AskedDocument(document, len(tokenizer.encode(document.text)), tuple(questions))
