"""Record what a plain checkpoint gives: `python -m tests.tools.record_shipped FOLDER`.

Writes tests/data/seats/shipped.json, which `tests/hypernets/seats/test_shipped.py` compares with
the compact form that is shipped: Frobenius norms of B, answers and their likelihood, for documents
of the goldens.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch

from d2l.bases.models import find_base, load_causal
from d2l.bases.tokenizers import BaseTokenizer
from d2l.hypernets.seats.network import load_seats
from tests.tools.seat_goldens import GOLDENS, ask, compile_case, load_peft, write_peft

DOCUMENTS = ("note", "short", "page")


def main() -> None:
    """Compile, ask, write."""
    cases = json.loads((GOLDENS / "cases.json").read_text("utf-8"))
    files = find_base("HuggingFaceTB/SmolLM2-135M-Instruct")
    causal = load_causal(files, device="cpu", dtype=torch.float32)
    seats = load_seats(Path(sys.argv[1]), causal.model)
    tokenizer = BaseTokenizer(files.folder)
    rows = {}
    for name in DOCUMENTS:
        weights = compile_case(seats, cases, name).assembled.weights
        opening = seats.config.opening(weights.rank)
        with tempfile.TemporaryDirectory() as folder:
            model = load_peft(causal, write_peft(Path(folder) / "adapter", weights))
        questions = []
        for question in cases[name]["questions"]:
            prompt = [*opening, *question["prompt_ids"][len(cases[name]["opening"]) :]]
            answer = ask(model, tokenizer, prompt, question["reference"])
            questions.append({"prompt_ids": prompt, "nll": answer.nll, "answer": answer.text})
        model.unload()
        norms = {module: float(f.b.norm()) for module, f in sorted(weights.factors.items())}
        rows[name] = {"seats": weights.rank, "norms": norms, "questions": questions}
    text = json.dumps(rows, indent=1, sort_keys=True)
    (GOLDENS / "shipped.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
