"""Measure what an adapter recalls: compile passages, ask about them, count the answers.

Usage: python tests/recall.py QUESTIONS --tokens N [--tokens-per-seat N] [--passages N]

QUESTIONS is a file of JSON lines, plain or gzip: doc, question, answers. Of every document the
first passage of at most N tokens that answers a question is compiled with the built-in default and
read back from disk by PEFT; up to two questions whose answer stands in it, and nowhere else in the
document, are asked, greedy, 24 new tokens. Prints the
share of answers that contain a reference (SQuAD's normalization) with its standard error, with the
adapter, by the base alone, and by the base with the passage before the question in its prompt.
"""

import argparse
import gzip
import json
import math
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from d2l import compile as pipeline
from d2l import console
from d2l.ask import AskOptions, load_asker
from d2l.bases.models import find_base
from d2l.bases.tokens import load_tokenizer
from d2l.documents.chunks import Piece, pack_sentences
from d2l.documents.document import Document, Section
from d2l.scoring import contains_answer, normalize_answer

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
ARMS = ("adapter", "base", "prompt")
N_QUESTIONS = 2  # a passage
SMALLEST = 40  # tokens of a passage that is worth asking about

Asked = tuple[str, list[str]]  # a question with its references


def read_passages(path: Path, n_tokens: int) -> Iterator[tuple[str, list[Asked]]]:
    """First passage of every document that answers a question, with the questions it answers."""
    tokenizer = load_tokenizer(find_base(BASE).folder)
    documents: dict[str, list[Asked]] = {}
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            documents.setdefault(row["doc"], []).append((row["question"], row["answers"]))
    for text, questions in documents.items():
        pieces = pack_sentences(text, tokenizer=tokenizer, limit=n_tokens, minimum=SMALLEST)
        for place, piece in enumerate(pieces):
            held = [asked for asked in questions if find_holders(asked, pieces) == [place]]
            if held and len(piece.token_ids) >= SMALLEST:
                yield piece.text, held[:N_QUESTIONS]
                break


def find_holders(asked: Asked, pieces: Sequence[Piece]) -> list[int]:
    """Passages in which the answer stands; where it is several, none is sure to be meant."""
    answer = f" {normalize_answer(asked[1][0])} "
    return [n for n, p in enumerate(pieces) if answer in f" {normalize_answer(p.text)} "]


def ask_about(
    text: str, questions: list[Asked], options: pipeline.CompileOptions
) -> dict[str, list[bool]]:
    """Whether each arm's answer to each question contains a reference."""
    document = Document("passage", "text", (Section(text),), "0" * 64, len(text))
    with tempfile.TemporaryDirectory() as folder:
        plan = pipeline.prepare([document], options)
        adapter = pipeline.run(plan, Path(folder) / "passage.lora", options=options).adapter
        asker = load_asker(adapter, AskOptions(max_tokens=24))
        right: dict[str, list[bool]] = {arm: [] for arm in ARMS}
        for question, references in questions:
            answers = {
                "adapter": asker.answer(question),
                "base": asker.answer_alone(question),
                "prompt": asker.answer_with_document(question, text)[0],
            }
            for arm in ARMS:
                right[arm].append(contains_answer(answers[arm], references))
    return right


def main() -> None:
    """Print one row for each arm."""
    parser = argparse.ArgumentParser(description="Measure what an adapter recalls.")
    parser.add_argument("questions", type=Path)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--tokens-per-seat", type=int)
    parser.add_argument("--passages", type=int, default=30)
    chosen = parser.parse_args()
    passages = list(read_passages(chosen.questions, chosen.tokens))
    random.Random(chosen.tokens).shuffle(passages)
    options = pipeline.CompileOptions(tokens_per_seat=chosen.tokens_per_seat)
    right: dict[str, list[bool]] = {arm: [] for arm in ARMS}
    for text, questions in console.watch(passages[: chosen.passages], "asking"):
        for arm, marks in ask_about(text, questions, options).items():
            right[arm] += marks
    rows = []
    for arm, marks in right.items():
        share = sum(marks) / len(marks)
        error = math.sqrt(share * (1 - share) / max(len(marks) - 1, 1))
        rows.append((arm, str(len(marks)), f"{share:.3f}", f"{error:.3f}"))
    console.show_table(("arm", "n", "contained", "standard error"), rows)


if __name__ == "__main__":
    main()
