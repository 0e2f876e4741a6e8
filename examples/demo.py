"""Compile a page and a manual, ask ten questions each, with and without the adapter, and count.

Usage: python examples/demo.py [--out FOLDER] [--tiny] [options of d2l compile, as --checkpoint]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from d2l.answer.model import AdaptedModel, AskOptions
from d2l.commands import console
from d2l.evaluation.metrics import contains_answer

here = Path(__file__).parent
parser = argparse.ArgumentParser(description=__doc__, usage=argparse.SUPPRESS)
parser.add_argument("--out", type=Path, default=Path("demo"))
parser.add_argument("--tiny", action="store_true", help="the page's first two questions only")
wanted, options = parser.parse_known_args()
for name in ("handbook",) if wanted.tiny else ("handbook", "manual"):
    out = wanted.out / f"{name}.lora"
    command = ["compile", str(here / f"{name}.pdf"), "-o", str(out), "--force", *options]
    console.note(f"$ d2l {' '.join(command)}")
    if code := subprocess.run([sys.executable, "-m", "d2l", *command], check=False).returncode:
        sys.exit(code)
    lines = Path(here, f"{name}_questions.jsonl").read_text("utf-8").splitlines()
    model = AdaptedModel.load(out, AskOptions(max_new_tokens=24, short=True))
    rows, right = [], dict.fromkeys(("adapter", "base"), 0)
    for line in console.watch(lines[: 2 if wanted.tiny else None], "asking"):
        row = json.loads(line)
        answer = model.answer([{"role": "user", "content": row["question"]}])
        texts = {"adapter": answer.text, "base": model.ask_alone(row["question"])}
        marks = {arm: contains_answer(text, row["answers"]) for arm, text in texts.items()}
        right = {arm: right[arm] + marks[arm] for arm in texts}
        own, base = (f"{'✗✓'[marks[arm]]} {' '.join(texts[arm].split())}" for arm in texts)
        place = answer.citations[0].part.place if answer.citations else ""
        rows.append([row["question"], row["answers"][0], own, place, base])
    console.show_table(("question", "reference", "adapter", "from", "base alone"), rows)
    own, base = (f"{count} of {len(rows)}" for count in right.values())
    console.result(f"right: {own} with the adapter, {base} by the base alone")
