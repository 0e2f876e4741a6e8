"""Measure what compiling costs beyond reading: run by `make bench`, prints one table.

In one run on this machine: seconds of the bare base model over the same tokens (no head), seconds
of the whole compile past start-up, their ratio, and peak memory of the command in a process of
its own. Usage: python tests/tools/bench.py [--tiny]   (--tiny: a few hundred tokens, for a test)
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from d2l.bases.models import load_frozen
from d2l.commands import console
from d2l.compiler import compile as pipeline
from d2l.documents.document import Document, Section

REPEATS = 3  # the fastest of several: other work on the machine only ever adds time
TARGETS = (1_000, 4_000, 16_000)
_VOCABULARY = """
the pump valve filter tank office river report spring winter engineer station north field
opens closes carries holds counts cleans under over behind before every second third blue
"""


def write_text(n_tokens: int) -> str:
    """Sentences of ordinary words, about one token each, always the same."""
    draw = random.Random(n_tokens)
    sentences, n = [], 0
    while n < n_tokens:
        words = draw.choices(_VOCABULARY.split(), k=draw.randint(6, 18))
        sentences.append(" ".join(words).capitalize() + ".")
        n += len(words) + 1
    return " ".join(sentences)


def read_bare(model: torch.nn.Module, plan: pipeline.CompilePlan) -> float:
    """Seconds for the base alone to read the plan's chunks."""
    start = time.perf_counter()
    with torch.inference_mode():
        for chunk in plan.chunks:
            model(torch.tensor([chunk.token_ids]), use_cache=False)
    return time.perf_counter() - start


def compile_all(document: Document, out: Path, options: pipeline.CompileOptions) -> float:
    """Seconds of the whole compile, planning and writing included, loading excluded."""
    start = time.perf_counter()
    plan = pipeline.prepare([document], options)
    planning = time.perf_counter() - start
    return planning + pipeline.run(plan, out, options=options).seconds


def measure_peak_mb(text: str, folder: Path) -> float:
    """Peak resident memory of `d2l compile` on a text, in MB."""
    source = folder / "peak.txt"
    source.write_text(text, "utf-8")
    command = ["compile", str(source), "-o", str(folder / "peak.lora"), "--force", "--json"]
    child = subprocess.Popen(
        [sys.executable, "-m", "d2l", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"d2l compile failed with {child.returncode}")
    return usage.ru_maxrss / 1e3  # Linux counts in kB


def measure(n_tokens: int, model: torch.nn.Module, folder: Path) -> list[str]:
    """One row of the table; base and compile take turns, so that both see the same machine."""
    text = write_text(n_tokens)
    document = Document("bench.txt", "text", (Section(text),), "0" * 64, len(text))
    options = pipeline.CompileOptions(device="cpu", force=True)
    plan = pipeline.prepare([document], options)
    bare, whole = [], []
    for _ in range(REPEATS):
        bare.append(read_bare(model, plan))
        whole.append(compile_all(document, folder / "bench.lora", options))
    peak = measure_peak_mb(text, folder)
    ratio = min(whole) / min(bare)
    cells = (f"{plan.n_tokens:,}", f"{min(bare):.2f}", f"{min(whole):.2f}", f"{ratio:.2f}")
    return [*cells, f"{plan.n_tokens / min(whole):,.0f}", f"{peak:,.0f}"]


def main() -> None:
    """Print the table."""
    options = pipeline.CompileOptions(device="cpu")
    document = Document("bench.txt", "text", (Section(write_text(64)),), "0" * 64, 64)
    base = pipeline.prepare([document], options).base
    model = load_frozen(base, device="cpu", dtype=torch.float32)
    targets = (200,) if "--tiny" in sys.argv else TARGETS
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(target, model, Path(folder)) for target in targets]
    columns = ("tokens read", "base alone, s", "compile, s", "ratio", "tokens/s", "peak MB")
    console.show_table(columns, rows)


if __name__ == "__main__":
    main()
