"""Measure what compiling costs beyond reading: run by `make speed`, prints two tables, each row as
soon as it is measured.

In one run on this machine: seconds of the bare base model over the same tokens (no head), seconds
of the whole compile past start-up, their ratio, and peak memory of the command in a process of
its own. Then the start: `d2l compile` of a note of ten words against a script that imports
transformers, loads the same base and reads the note, and `d2l ask` against one that puts the
adapter on with PEFT and generates as many tokens, in processes that take turns.
The network is the default: `D2L_CHECKPOINT` names another. `SPEED=all` measures long texts, too,
and each length three times; without it two quiet cores take less than five minutes.
Usage: python tests/tools/speed.py [--tiny | --start | --busy]   (--tiny: a few hundred tokens, for
a test; --start: the second table alone; --busy: tokens a second on all cores of a quiet machine and
beside a busy process, where idle threads of OpenMP spin and where they sleep)
"""

import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from d2l.api.compiler import Compiler
from d2l.bases.models import load_frozen
from d2l.bases.shards import list_shards
from d2l.commands import console
from d2l.commands.main import WAITING
from d2l.compiler import run as pipeline
from d2l.documents.document import Document
from d2l.hypernets.options import CompileOptions
from d2l.readers.parsing import Section

_ALL = os.environ.get("SPEED") == "all"
REPEATS = 3 if _ALL else 2  # the fastest of several: other work on the machine only adds time
TARGETS = (1_000, 4_000, 16_000) if _ALL else (1_000, 2_000)
COLUMNS = ("tokens read", "base alone, s", "compile, s", "ratio", "tokens/s", "peak MB")
#: What starting a process costs, in tokens that are compiled: to tell the time that is left.
_START_TOKENS = 500
NOTE = "The Orvane 40 weighs 21 kg and was built here."
#: What starting d2l is held against: the least that reads a note with the base.
BARE = """
import sys, torch, transformers
folder, note = sys.argv[1:]
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32)
with torch.inference_mode():
    model(**tokenizer(open(note).read(), return_tensors="pt"))
"""
#: What asking is held against: the program of an adapter's card.
BARE_ASK = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, adapter, question, n_tokens = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(adapter)
base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
model = PeftModel.from_pretrained(base, adapter)
turns = [{"role": "user", "content": question}]
options = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
prompt = tokenizer.apply_chat_template(turns, **options)
model.generate(**prompt, max_new_tokens=int(n_tokens), do_sample=False)
"""
#: Tokens a second through four layers in the sizes of the default's base, in bf16: 400 tokens in a
#: pass, then one.
LAYERS = """
import time, torch
sizes = [(1536, 1536), (256, 1536), (256, 1536), (1536, 1536), (8960, 1536), (8960, 1536)]
layers = [[torch.randn(size).bfloat16() for size in sizes] for _ in range(4)]
down = [torch.randn(1536, 8960).bfloat16() for _ in layers]
for n_tokens in (400, 1):
    rows, n_passes, start = torch.randn(n_tokens, 1536).bfloat16(), 0, None
    while start is None or time.perf_counter() - start < 5:
        for layer, last in zip(layers, down):
            wide = [torch.nn.functional.linear(rows, weight) for weight in layer][-1]
            torch.nn.functional.linear(wide, last)
        n_passes += start is not None
        start = start or time.perf_counter()
    print(n_tokens * n_passes / (time.perf_counter() - start))
"""
QUESTION, ANSWER_TOKENS = "How much does the Orvane 40 weigh?", "4"
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


def compile_all(document: Document, out: Path, options: CompileOptions) -> float:
    """Seconds of the whole compile, planning and writing included, loading excluded."""
    start = time.perf_counter()
    compiler = Compiler(options)
    plan = compiler.plan(document)
    planning = time.perf_counter() - start
    compiler.load(plan)
    start = time.perf_counter()
    compiler(plan).save_pretrained(out, force=True)
    return planning + time.perf_counter() - start


def measure_peak_mb(text: str, folder: Path) -> float:
    """Peak resident memory of `d2l compile` on a text, in MB."""
    source = folder / "peak.txt"
    source.write_text(text, "utf-8")
    command = ["compile", str(source), "-o", str(folder / "peak.lora"), "--force", "--json"]
    return run_python("-m", "d2l", *command).ru_maxrss / 1e3  # Linux counts in kB


def run_python(*arguments: str) -> resource.struct_rusage:
    """Run Python to its end; what it used, with the children that it waited for.

    Modules are kept compiled, as those of an installed package are, whatever was exported here.
    The cache is off: its parts would not be computed.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    child = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment | {"D2L_CACHE_MAX_SIZE": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"python {' '.join(arguments[:3])} failed with {child.returncode}")
    return usage


class Left:
    """Tells the time that is left, where a token that is compiled and one that is read cost as
    much."""

    def __init__(self, targets: Sequence[int], repeats: int) -> None:
        n_starts = 4 * (repeats + 1)
        self._total = sum(targets) * (2 * repeats + 1) + n_starts * _START_TOKENS
        self._done, self._bar = 0, console.ProgressBar("measuring")

    def __call__(self, n_tokens: int) -> None:
        """Note that so many tokens are done."""
        self._done += n_tokens
        self._bar(self._done, self._total)


def show_row(cells: Sequence[str]) -> None:
    """Print a line of a table at once."""
    console.result("".join(cell.ljust(16) for cell in cells).rstrip())
    console.flush()


def show_header(cells: Sequence[str]) -> None:
    """Print the names of columns, and a line below."""
    show_row(cells)
    show_row(["─" * 16 * len(cells)])


def measure_start(base: Path, folder: Path, repeats: int, left: Left) -> None:
    """Print the rows of the second table: (process, CPU seconds, seconds), and their ratios."""
    note, adapter = folder / "note.txt", str(folder / "note.lora")
    note.write_text(NOTE, "utf-8")
    bare = ("-c", BARE, str(base), str(note))
    compiling = ("-m", "d2l", "compile", str(note), "-o", adapter, "--force")
    compare_starts(("bare", bare), ("compile", compiling), repeats, left)
    bare = ("-c", BARE_ASK, str(base), adapter, QUESTION, ANSWER_TOKENS)
    asking = ("-m", "d2l", "ask", adapter, QUESTION, "--max-tokens", ANSWER_TOKENS)
    compare_starts(("bare with PEFT", bare), ("ask", asking), repeats, left)


def compare_starts(
    least: tuple[str, Sequence[str]], other: tuple[str, Sequence[str]], repeats: int, left: Left
) -> None:
    """Print a row of each of two processes, and one of their ratios.

    The least of several each, in turn. CPU seconds are what stays comparable on a machine with
    other work; the first round fills caches and does not count, unless there are no `repeats`.
    """
    best = {least[0]: (math.inf, math.inf), other[0]: (math.inf, math.inf)}
    for turn in range(repeats + 1):
        for called, arguments in (least, other):
            start = time.perf_counter()
            usage = run_python(*arguments)
            took = (usage.ru_utime + usage.ru_stime, time.perf_counter() - start)
            left(_START_TOKENS)
            if turn or not repeats:
                best[called] = (min(best[called][0], took[0]), min(best[called][1], took[1]))
    for called, values in best.items():
        show_row([called, *(f"{value:.2f}" for value in values)])
    ratios = (whole / part for whole, part in zip(best[other[0]], best[least[0]], strict=True))
    show_row(["ratio", *(f"{ratio:.2f}" for ratio in ratios)])


def measure_waiting() -> None:
    """Print the tokens a second of `LAYERS`, on a quiet and on a busy machine."""
    show_header(("machine", "read: spinning", "read: asleep", "write: spinning", "write: asleep"))
    for name, n_busy in (("quiet", 0), ("busy", 1)):
        others = [subprocess.Popen([sys.executable, "-c", "while 1: 0"]) for _ in range(n_busy)]
        try:
            turns = [({}, {"OMP_WAIT_POLICY": "PASSIVE"})[n % 2] for n in range(2 * REPEATS)]
            rates = list(map(_run_layers, turns))
        finally:
            for other in others:
                other.kill()
                other.wait()
        best = [max(rate[at] for rate in rates[n::2]) for at in (0, 1) for n in (0, 1)]
        show_row([name, *(f"{rate:,.1f}" for rate in best)])


def _run_layers(waiting: dict[str, str]) -> list[float]:
    chosen = {name: text for name, text in os.environ.items() if name not in WAITING}
    done = subprocess.run(
        [sys.executable, "-c", LAYERS], env=chosen | waiting, check=True, stdout=subprocess.PIPE
    )
    return [float(rate) for rate in done.stdout.split()]


def measure(
    n_tokens: int, model: torch.nn.Module, folder: Path, repeats: int, left: Left
) -> list[str]:
    """One row of the table; base and compile take turns, so that both see the same machine."""
    text = write_text(n_tokens)
    document = Document("speed.txt", "text", (Section(text),), "0" * 64, len(text))
    options = CompileOptions(device="cpu")
    plan = Compiler(options).plan(document)
    bare, whole = [], []
    for _ in range(repeats):
        bare.append(read_bare(model, plan))
        left(n_tokens)
        whole.append(compile_all(document, folder / "speed.lora", options))
        left(n_tokens)
    peak = measure_peak_mb(text, folder)
    left(n_tokens)
    ratio = min(whole) / min(bare)
    cells = (f"{plan.n_tokens:,}", f"{min(bare):.2f}", f"{min(whole):.2f}", f"{ratio:.2f}")
    return [*cells, f"{plan.n_tokens / min(whole):,.0f}", f"{peak:,.0f}"]


def main() -> None:
    """Print the tables."""
    if "--busy" in sys.argv:
        measure_waiting()
        return
    options = CompileOptions(device="cpu")
    document = Document("speed.txt", "text", (Section(write_text(64)),), "0" * 64, 64)
    plan = Compiler(options).plan(document)
    base, dtype = plan.base, plan.network.pick_dtype("cpu")
    is_tiny, starts_alone = "--tiny" in sys.argv, "--start" in sys.argv
    targets = () if starts_alone else (200,) if is_tiny else TARGETS
    repeats = 1 if is_tiny else REPEATS
    left = Left(targets, repeats)
    with tempfile.TemporaryDirectory() as folder:
        if targets:
            model = load_frozen(base, device="cpu", dtype=dtype)
            show_header(COLUMNS)
            for target in targets:
                show_row(measure(target, model, Path(folder), repeats, left))
            console.result("")
        show_header(("start", "CPU s", "s"))
        list_shards(base)  # makes the weights that transformers loads
        measure_start(base.folder, Path(folder), 0 if is_tiny else repeats, left)


if __name__ == "__main__":
    main()
