"""Compile the handbook, then ask ten questions with and without the adapter, and count.

Usage: python examples/demo.py [--out FOLDER] [--tiny] [options of d2l compile, as --checkpoint]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import d2l
from d2l.commands import console
from d2l.evaluation.metrics import contains_answer

here = Path(__file__).parent
parser = argparse.ArgumentParser(description=__doc__, usage=argparse.SUPPRESS)
parser.add_argument("--out", type=Path, default=Path("demo", "handbook.lora"))
parser.add_argument("--tiny", action="store_true", help="the first two questions only")
wanted, options = parser.parse_known_args()
command = ["compile", str(here / "handbook.pdf"), "-o", str(wanted.out), "--force", *options]
console.note(f"$ d2l {' '.join(command)}")
if code := subprocess.run([sys.executable, "-m", "d2l", *command], check=False).returncode:
    sys.exit(code)
lines = (here / "handbook_questions.jsonl").read_text("utf-8").splitlines()
questions = [json.loads(line) for line in lines][: 2 if wanted.tiny else None]
model = d2l.AdaptedModel.from_pretrained(wanted.out)
rows, right = [], {"adapter": 0, "base": 0}
for row in console.watch(questions, "asking"):
    question, references = row["question"], row["answers"]
    answers = {"adapter": model.ask(question, max_new_tokens=24)}
    with model.disable_adapter():
        answers["base"] = model.ask(question, max_new_tokens=24)
    marks = {arm: contains_answer(text, references) for arm, text in answers.items()}
    right = {arm: count + marks[arm] for arm, count in right.items()}
    cells = [f"{'✗✓'[marks[arm]]} {' '.join(answers[arm].split())}" for arm in answers]
    rows.append([question, references[0], *cells])
console.show_table(("question", "reference", "with the adapter", "base alone"), rows)
counts = {arm: f"{count} of {len(rows)}" for arm, count in right.items()}
console.result(f"right: {counts['adapter']} with the adapter, {counts['base']} by the base alone")
