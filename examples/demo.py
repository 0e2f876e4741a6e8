"""Compile the handbook, then ask ten questions with and without the adapter, and count.

Usage: python examples/demo.py [--tiny] [--out FOLDER]   (--tiny: the first two questions only)
"""

import json
import subprocess
import sys
from pathlib import Path

from d2l.commands import console
from d2l.evaluation.metrics import contains_answer
from d2l.inference.adapted_model import AskOptions, load_asker

here = Path(__file__).parent
named = "--out" in sys.argv
adapter = Path(sys.argv[sys.argv.index("--out") + 1]) if named else Path("demo", "handbook.lora")
command = ["compile", str(here / "handbook.pdf"), "-o", str(adapter), "--force"]
console.note(f"$ d2l {' '.join(command)}")
subprocess.run([sys.executable, "-m", "d2l", *command], check=True)

lines = (here / "handbook_questions.jsonl").read_text("utf-8").splitlines()
questions = [json.loads(line) for line in lines][: 2 if "--tiny" in sys.argv else None]
asker = load_asker(adapter, AskOptions(max_tokens=24))
rows, right = [], {"adapter": 0, "base": 0}
for row in console.watch(questions, "asking"):
    question, references = row["question"], row["answers"]
    answers = {"adapter": asker.answer(question), "base": asker.answer_alone(question)}
    marks = {arm: contains_answer(text, references) for arm, text in answers.items()}
    right = {arm: count + marks[arm] for arm, count in right.items()}
    cells = [f"{'✓' if marks[arm] else '✗'} {' '.join(answers[arm].split())}" for arm in answers]
    rows.append([question, references[0], *cells])
console.show_table(("question", "reference", "with the adapter", "base alone"), rows)
console.result(
    f"right: {right['adapter']} of {len(rows)} with the adapter, "
    f"{right['base']} of {len(rows)} by the base alone"
)
