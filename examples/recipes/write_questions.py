"""Questions about plain documents, as data of training: write_questions.py DOCS OUT

DOCS are JSON lines of `doc` and maybe `title`, plain or gzip. OUT gets rows of `doc`, `title`,
`question` and `answers`, of the questions that passed the round trip; a document of which nothing
could be asked gets a row without. Run again, it goes on where it was. `--part 2/3` takes every
third document, from the second on: for processes side by side, each with an OUT of its own.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch

from d2l.bases.models import find_base, load_causal, pick_device
from d2l.bases.tokenizers import load_tokenizer
from d2l.datasets.questions import Document, read_documents
from d2l.refining.question_writer import write_about

_BASE = "Qwen/Qwen2.5-Coder-0.5B-Instruct"  # there is a writer for it


def main() -> None:
    """Ask about one document after another, in an order that does not depend on the parts."""
    options = _parse()
    documents = read_documents(options.docs)
    random.Random(0).shuffle(documents)  # a beginning is like the whole
    number, parts = map(int, options.part.split("/"))
    wanted = documents[: options.limit][number - 1 :: parts]
    asked = _resume(options.out)
    left = [one for one in wanted if one.text not in asked]
    base = find_base(_BASE, override=options.base)
    causal = load_causal(base, device=pick_device("auto"), dtype=torch.bfloat16)
    tokenizer = load_tokenizer(base.folder)
    for count, document in enumerate(left, start=1):
        written = write_about(causal, tokenizer, base, [document.text])
        rows = _rows(document, [(one.question, one.answer) for one in written])
        with options.out.open("a", encoding="utf-8") as out:
            out.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        print(f"{count} of {len(left)}: {len(written)} questions", flush=True)


def _rows(document: Document, asked: list[tuple[str, str]]) -> list[dict[str, Any]]:
    bare = {"doc": document.text, "title": document.title}
    return [{**bare, "question": q, "answers": [a]} for q, a in asked] or [bare]


def _resume(out: Path) -> set[str]:
    """Texts that were asked about already; a last line that a kill has cut off is removed."""
    if not out.is_file():
        return set()
    whole = out.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    out.write_bytes(whole)
    return {json.loads(line)["doc"] for line in whole.splitlines()}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("docs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int, help="so many documents, drawn by chance")
    parser.add_argument("--part", default="1/1", help="which of how many processes this is")
    parser.add_argument("--base", help="where the base lies, if not in its cache")
    return parser.parse_args()


if __name__ == "__main__":
    main()
