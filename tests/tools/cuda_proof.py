"""Prove d2l on this machine's CUDA devices: run by `make test-cuda`, ten minutes, no hub.

Compares the card with recorded values and with the CPU, measures the layout of Gemma 2 2B with
random weights, prints a row for each proof and keeps all rows in a file. Exit code 1: a row
differs; 2: no card. A skipped row says why. The layout takes 7 GB below TMPDIR.
Usage: python -m tests.tools.cuda_proof [--dry-run] [--out FILE] [--only STEP]
(--dry-run: the same steps on the CPU, which passes for a card, with tiny sizes; the pipelines on
the pretended GPU of tests/pretend_gpu.py.)

Code that runs on CUDA alone has a row here, and a test on the CPU unless "-" stands there:

| code | row | test with a patched or pretended device |
| --- | --- | --- |
| bases/attention.py: choice of flash-attention | full size | bases/test_model_weights.py |
| flash-attention in Gemma 2 | full size, flash | - |
| bases/models.py: loading onto a card | pipelines | pretend_cases.py |
| d2l_lab/bench/run.py: metering, name | use; full size | d2l-lab: bench/test_run.py |
| batch/work.py: a card for each worker | cards | batch/test_cards.py |
| batch/ray_engine.py: a card for each actor | - | batch/test_cards.py |
| d2l_lab, text_to_lora/loss.py: dropout | pipelines | d2l-lab: training/learners/text_to_lora |
| hypernets/doc_to_lora: autocast, copies, casts | goldens, bf16; pipelines | pretend_cases.py |
| compiler/chunk_cache.py: name of the card | use, rank 4 | pretend_cases.py |
| compiler/preflight.py: name and memory | full size | commands/test_first_run.py |
| memory.py: free memory, other cards | - | test_out_of_memory.py |
| commands/doctor.py: cards, emulated bf16 | - | commands/test_doctor.py |
| bases/devices.py: devices and their faults | all | bases/test_devices.py |
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib import metadata, util
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import torch
from safetensors.torch import load_file

from d2l.adapters.peft_folder import read_adapter
from d2l.bases import devices, models
from d2l.batch.rows import BatchRow
from d2l.batch.work import Job, Worker
from d2l.commands import console
from d2l.errors import D2LError
from d2l.hypernets.options import CompileOptions
from d2l.version import __version__
from d2l_lab.bench.run import metered
from tests import tiny
from tests.compiled import write_files
from tests.hypernets import loading
from tests.processes import ROOT, run_python
from tests.test_pipeline import document_of
from tests.tools.cuda_full_size import plan_chunk, prove_full_size, write_layout
from tests.tools.cuda_machine import BOUNDS, Machine, Row, free_memory, measure_distance, multiply

SMALL_BASE, SMALL_NETWORK = "HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m"
NOTE = "The Harn bridge opened in 1931 and is green."
QUESTION = "What color is the Harn bridge?"


# ---- goldens and pipelines ----------------------------------------------------------------------


def measure_golden(machine: Machine, root: Path, name: str, dtype: str) -> float:
    """The distance of a recorded document of three chunks, without the learned part."""
    folder = root / "d2l" / name
    info = json.loads((folder / "info.json").read_text("utf-8"))
    limit, case = info["max_ctx_chunk_len"], info["cases"]["three"]
    files = (root / info["base_model"], folder)
    compiler = machine.make_compiler(files, base_dtype=dtype, chunk_tokens=limit)
    weights = compiler(document_of(case["documents"][0])).weights
    recorded = load_file(folder / "expected.safetensors")
    rank = len(case["chunk_lengths"][0]) * info["config"]["r"]
    got, wanted = [], []
    for path, factors in weights.factors.items():
        layer, module = int(path.split(".")[2]), path.split(".")[-1]
        a, b = (recorded[f"three.merged.{module}.{letter}"][0, layer, :rank] for letter in "AB")
        wanted.append((b.T @ a).flatten())
        got.append((factors.b[:, :rank] @ factors.a[:rank]).flatten())
    return measure_distance(torch.cat(got), torch.cat(wanted))


def prove_goldens(machine: Machine) -> Iterator[Row]:
    """What the original computed: all in fp32, then in the precision of CUDA."""
    roots = {
        name: root
        for root in (loading.COMMITTED, loading.SIBLING)
        for name in loading.NAMES
        if (root / "d2l" / name / "info.json").is_file()
    }
    for dtype, bound in BOUNDS.items():
        with ExitStack() as stack:
            if dtype == "fp32":  # else the perceiver runs in bf16
                stack.enter_context(mock.patch.object(devices, "is_cuda", return_value=False))
            far = {name: measure_golden(machine, roots[name], name, dtype) for name in roots}
        n_near = sum(distance <= bound for distance in far.values())
        note = f"{n_near} of {len(far)}, worst {max(far.values()):.1e}, bound {bound:.0e}"
        yield Row("goldens", dtype, n_near == len(far), note, {"distances": far})


def prove_pipelines(machine: Machine) -> Iterator[Row]:
    """The pipelines of the pretended GPU on the card, and the tests that need a card."""
    report, tests = machine.folder / "junit.xml", ROOT / "tests"
    found = (*tests.rglob("test_*.py"), *(ROOT / "examples").rglob("test_*.py"))
    files = [path for path in found if "@pytest.mark.gpu" in path.read_text("utf-8")]
    words = ["-m", "gpu", "-W", "default", tests / "pretend_cases.py", *files]  # drivers may warn
    environment = {"D2L_TEST_DEVICE": machine.cards[0]}
    if machine.is_dry:  # the tests of files are skipped
        words += ["-p", "tests.pretend_gpu"]
        environment = {"D2L_TEST_DEVICE": "pretend", "CUDA_VISIBLE_DEVICES": ""}
    pytest = ("-m", "pytest", *words, f"--junitxml={report}", "-p", "no:cacheprovider")
    done = run_python(*pytest, folder=ROOT, **environment)
    listed = [] if not report.is_file() else list(ElementTree.parse(report).iter("testcase"))
    run = [case for case in listed if case.find("skipped") is None]
    bad = [f"{case.get('name')}" for case in run if len(case.findall("*"))]
    passed = done.returncode == 0 and len(run) > 0
    note = f"{len(run) - len(bad)} of {len(run)} as on the CPU"
    facts = {"failed": bad, "skipped": len(listed) - len(run)}
    facts["output"] = "" if passed else done.stdout[-9_000:] + done.stderr[-999:]
    yield Row("pipelines", "", passed, note, facts)


# ---- use ----------------------------------------------------------------------------------------


def prove_use(machine: Machine) -> Iterator[Row]:
    """A bound on the rank, the cache, saving, asking, and the metering of bench."""
    files, out = write_layout(machine), machine.folder / "adapter"
    card = torch.device(machine.cards[0])
    options = {"max_rank": 4, "cache": True, "base_dtype": "bf16"}
    compiler = machine.make_compiler(files, **options)
    plan = plan_chunk(compiler, machine.lengths[0])
    with metered(card) as costs:
        adapter = compiler(plan)
    start = time.perf_counter()
    adapter.save_pretrained(out)
    n_cached, rank = compiler.look_up(plan).n_cached, adapter.weights.rank
    note = f"{costs[0].seconds:.2f} s with loading, save {time.perf_counter() - start:.2f} s"
    yield Row("use", "rank 4", (rank, n_cached) == (4, 1), note, asdict(costs[0]))
    del compiler
    free_memory()
    asker = machine.load(out, files[0])
    with metered(card) as costs:
        asker.ask(QUESTION)
    note = f"{costs[0].seconds:.2f} s, peak {(costs[0].peak_bytes or 0) / 1e9:.1f} GB"
    yield Row("use", "ask", True, note, asdict(costs[0]))
    del asker
    free_memory()
    with metered(card) as costs:
        block = torch.zeros(16 << 20, dtype=torch.uint8, device=card)
    extra = costs[0].extra_bytes or 0
    yield Row("use", "metering", extra >= block.nbytes, f"{extra:,} of {block.nbytes:,} bytes")


def prove_note(machine: Machine) -> Iterator[Row]:
    """A note by a shipped network (in a dry run a tiny one), asked here and in vLLM."""
    out = machine.folder / "note.lora"
    if machine.is_dry:
        base, network = write_files(machine.folder / "tiny", "seats")
    else:
        found = models.find_base(SMALL_BASE, offline=True)
        models.load_frozen(found, device="cpu", dtype=torch.float32, n_layers=1)  # makes weights
        base, network = found.folder, Path(SMALL_NETWORK)
    machine.make_compiler((base, network))(document_of(NOTE)).save_pretrained(out)
    answer = str(machine.load(out, base).ask(QUESTION))
    yield Row("note", network.name, machine.is_dry or "green" in answer.lower(), repr(answer))
    free_memory()
    if util.find_spec("vllm") is None:
        yield Row("note", "vllm", None, "vllm is not installed in this environment")
        return
    asked = json.dumps({"question": QUESTION, "n": 8, "adapted": True})
    child = [sys.executable, "-P", ROOT / "tests" / "engines" / "vllm_child.py", base, out]
    done = subprocess.run(child, input=asked, capture_output=True, text=True, check=False)
    said = json.loads(done.stdout).strip() if done.returncode == 0 else done.stderr[-2_000:]
    yield Row("note", "vllm", "green" in said.lower() or said == answer, repr(said))


def prove_cards(machine: Machine) -> Iterator[Row]:
    """Workers of a batch share the cards out, and all cards write the same."""
    root, n_cards = machine.folder / "cards", len(machine.cards)
    if n_cards < 2:
        yield Row("cards", "", None, "one card")
        return
    base, checkpoint = write_files(root, "llama")
    (root / "note.txt").write_text(tiny.DOCUMENT, "utf-8")
    device = machine.cards[0].partition(":")[0]
    options = CompileOptions(str(checkpoint), str(base), device=device, offline=True)
    deltas, errors = [], []
    for n in range(n_cards):
        row = BatchRow(f"{n}", f"{n}.lora", (str(root / "note.txt"),))
        result = Worker(Job(str(root), options), n).do(row)
        errors += [result.error] if result.error else []
        deltas += [] if result.error else [multiply(read_adapter(root / f"{n}.lora"))]
    far = max((measure_distance(delta, deltas[0]) for delta in deltas), default=0.0)
    passed = not errors and far <= BOUNDS["fp32"]
    note = f"{len(deltas)} of {n_cards}, {far:.1e} apart"
    yield Row("cards", "batch", passed, note, {"errors": errors})


# ---- the table ----------------------------------------------------------------------------------

STEPS: dict[str, Callable[[Machine], Iterator[Row]]] = {
    "goldens": prove_goldens,
    "pipelines": prove_pipelines,
    "full-size": prove_full_size,
    "use": prove_use,
    "note": prove_note,
    "cards": prove_cards,
}


def show(line: str) -> None:
    console.result(line)
    console.flush()


def prove(machine: Machine, steps: list[str]) -> Iterator[Row]:
    """Go through the steps; an error is a row that differs, and the next step goes on."""
    for step in steps:
        try:
            yield from STEPS[step](machine)
        except Exception as error:  # noqa: BLE001 - all other rows are worth sending, too
            yield Row(step, "error", False, f"{type(error).__name__}: {error}")
        free_memory()


def describe(machine: Machine) -> dict[str, Any]:
    """Facts about card, driver and packages."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.check_output(query, text=True).partition("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        driver = "unknown"
    names = ("torch", "transformers", "peft", "flash_attn", "vllm")
    versions = {d.name: d.version for d in metadata.distributions() if d.name in names}
    cards = ", ".join(torch.cuda.get_device_name(card) for card in machine.cards)
    own = {"card": cards, "driver": driver, "cuda": torch.version.cuda, "d2l": __version__}
    return own | versions


@contextmanager
def pretended() -> Iterator[None]:
    """Take the CPU for a card, whose name and memory are invented."""
    answers: dict[str, Any] = {
        "get_device_name": "pretended card",
        "get_device_capability": (9, 0),
        "mem_get_info": (80 * 10**9, 80 * 10**9),
        "memory_allocated": 0,
        "max_memory_allocated": 96 << 20,
        "synchronize": None,
        "reset_peak_memory_stats": None,
    }
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(devices, "is_cuda", return_value=True))
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, return_value=answer))
        yield


def main(arguments: list[str] | None = None) -> int:
    """Prove, print and keep the rows; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("cuda-proof.json"))
    parser.add_argument("--only", choices=list(STEPS), action="append")
    options = parser.parse_args(arguments)
    fault = None if options.dry_run else devices.explain_no_cuda()
    if fault is not None:
        console.show_error(D2LError(fault[0], hint=f"{fault[1]}; --dry-run needs no card"))
        return 2
    cards = tuple(f"cuda:{n}" for n in range(torch.cuda.device_count()))
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cuda-proof-")))
        cache = {"D2L_CACHE_DIR": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
        stack.enter_context(mock.patch.dict(os.environ, cache))
        if options.dry_run:
            stack.enter_context(pretended())
        machine = Machine(("cpu", "cpu:0") if options.dry_run else cards, folder, options.dry_run)
        facts = describe(machine)
        show(", ".join(f"{name} {value}" for name, value in facts.items()))
        for row in prove(machine, options.only or list(STEPS)):
            rows.append(row)
            verdict = {True: "pass", False: "DIFFERS", None: "skipped"}[row.passed]
            show(f"{row.step:<10} {row.name:<13} {verdict:<8} {row.note}")
    passed = all(row.passed is not False for row in rows)
    facts |= {"dry_run": options.dry_run, "passed": passed, "rows": list(map(asdict, rows))}
    options.out.write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    told = "pass" if passed else "something differs"
    show(f"verdict    {told}; please send {options.out.name} as an issue of the project")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
