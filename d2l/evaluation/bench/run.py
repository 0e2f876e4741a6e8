"""Cases → a row for each: its document is compiled, its adapter asked in every arm, all is timed.

Rows go to a file as soon as they are measured, so that a run that was stopped goes on.
"""

import contextlib
import hashlib
import json
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import torch

from d2l.adapters.peft_folder import DTYPES
from d2l.api.compiler import Compiler
from d2l.bases import devices
from d2l.compiler.privacy import name_places
from d2l.documents.chunks import Tokenizer
from d2l.errors import ProbeError
from d2l.evaluation.bench.cases import Case
from d2l.evaluation.harm import GeneralAnswers, answer_general, measure_harm
from d2l.evaluation.metrics import Row
from d2l.evaluation.recall.whole import Interview
from d2l.files.atomic import naming
from d2l.files.jsonl import RowFormat, read_rows
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.registry import digest_files
from d2l.inference.adapted_model import AdaptedModel, AskOptions
from d2l.progress import Steps, ignore_steps
from d2l.version import __version__

#: Arms that need parts: without them they would be others again.
_OF_PARTS = ("rag", "routed", "right")
_ROWS = RowFormat("a row of d2l bench", "name another file, or remove the line", ProbeError)
#: Options that say where things lie, and change no figure.
_PLACES = ("checkpoint", "base", "device", "offline")
_PACKAGES = ("torch", "transformers", "tokenizers", "peft")


@dataclass(frozen=True)
class BenchOptions:
    """`name` of the benchmark, and the arms that are asked, `batch` questions at a time. `kept` is
    a file of JSON lines for the rows; those of the same options and case are not measured anew."""

    name: str
    compiling: CompileOptions
    asking: AskOptions
    arms: tuple[str, ...] = ()
    kept: Path | None = None
    batch: int = 8


#: (asker, case, options) to the keys `arms` and `questions` of the case's row.
Measure = Callable[[AdaptedModel, Case, BenchOptions], Row]


def ask_arms(asker: AdaptedModel, case: Case, options: BenchOptions) -> Row:
    """Ask the case's questions in every arm. `seconds` of an arm are those of a question."""
    interview, arms = Interview(asker, case.asked, options.batch, timed=0), dict[str, Row]()
    for arm in options.arms:
        if arm not in _OF_PARTS or asker.parts is not None:
            with metered(asker.model.device) as arms[arm]:
                n_cut = interview.ask(arm)
            arms[arm]["seconds"] /= max(len(interview.records), 1)
            arms[arm]["cut"] = n_cut
    answered = {arm for record in interview.records for arm in record.get("answers", ())}
    for record in interview.records:
        record["n_tokens"] = len(asker.encode(record["wanted"][0]))
    arms = {arm: row for arm, row in arms.items() if arm in answered}
    return {"arms": arms, "questions": interview.records}


def measure_harms() -> Measure:
    """What measures harm: of the adapter, and of the document in the prompt. The base alone answers
    general prompts once, as many as the first case's cell says."""
    general: GeneralAnswers = {}

    def measure(asker: AdaptedModel, case: Case, options: BenchOptions) -> Row:
        if not general:
            general.update(answer_general(asker, limit=case.cell["n"], batch=options.batch))
        arms = dict[str, Row]()
        for arm, text in (("adapter", None), ("prompt", case.asked.document.text)):
            if arm in options.arms:
                with metered(asker.model.device) as arms[arm]:
                    harm = measure_harm(asker, general, batch=options.batch, document=text)
                arms[arm] |= harm | {"seconds": arms[arm]["seconds"] / len(general)}
        return {"arms": arms, "questions": []}

    return measure


def run_cases(
    draw: Callable[[Tokenizer], Sequence[Case]],
    options: BenchOptions,
    *,
    measure: Measure = ask_arms,
    progress: Steps = ignore_steps,
) -> list[Row]:
    """The rows of all cases that `draw` gives for the network's tokenizer; raises D2LError.

    Nothing comes from the cache. Weights are loaded before the first case is timed.
    """
    compiler, asker = Compiler(options.compiling), None
    cases, rows, path = draw(compiler.network.tokenizer), list[Row](), options.kept
    common = _describe(compiler, options)
    kept = read_rows(path, _ROWS, dict) if path is not None and path.exists() else []
    with tempfile.TemporaryDirectory(prefix="d2l-bench-") as folder:
        for n, case in enumerate(cases):
            document, asked = case.asked.document, case.asked.questions
            progress(n, len(cases), f"{options.name}: {document.name}")
            facts = common | {"cell": case.cell, "document": Path(document.name).name}
            facts |= {"sha256": document.digest, "asked": [question.text for question in asked]}
            row = next((row for row in kept if facts.items() <= row.items()), None)
            if row is None:
                asker, took = _compile(compiler, case, options, asker, Path(folder, f"{n}.lora"))
                row = facts | took | measure(asker, case, options)
                if path is not None:
                    with naming(path, ProbeError), path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
            rows.append(row)
    return rows


@contextlib.contextmanager
def metered(device: torch.device) -> Iterator[Row]:
    """A row of the block's seconds and peak memory: on CUDA what torch allocated, `extra_bytes` of
    it beyond what was there before; else the most that the process has had until now."""
    row, before = Row(peak_bytes=None, extra_bytes=None), 0
    cuda = torch.cuda if devices.is_cuda(device) else None
    if cuda is not None:
        cuda.synchronize(device)
        cuda.reset_peak_memory_stats(device)
        before = cuda.memory_allocated(device)
    start = time.perf_counter()
    yield row
    if cuda is not None:
        cuda.synchronize(device)
        row["peak_bytes"] = cuda.max_memory_allocated(device)
        row["extra_bytes"] = row["peak_bytes"] - before
    elif sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        row["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    row["seconds"] = time.perf_counter() - start


def _describe(compiler: Compiler, options: BenchOptions) -> Row:
    """What all rows of a run depend on, without names of this machine and its folders."""
    network, usual = compiler.network, asdict(CompileOptions())
    names = (network.files.name, network.base.name)
    shared = name_places(*names)
    weights = json.dumps(sorted(digest_files(network.files.path).items())).encode()
    changed = {
        key: value for key, value in asdict(options.compiling).items() if value != usual[key]
    }
    device = devices.pick_device(compiler.options.device)
    processor = f"{device}, {platform.machine()}, {torch.get_num_threads()} threads"
    card = torch.cuda.get_device_name(device) if devices.is_cuda(device) else processor
    usual_dtype = next(k for k, v in DTYPES.items() if v == devices.pick_dtype(device))
    own = {"d2l": __version__, "python": platform.python_version(), "cuda": torch.version.cuda}
    return {
        "bench": options.name,
        "network": shared.get(names[0], names[0]),
        "network_sha256": hashlib.sha256(weights).hexdigest()[:16],
        "base": shared.get(names[1], names[1]),
        "device": card,
        "dtype": options.asking.dtype or usual_dtype,
        "options": {key: value for key, value in changed.items() if key not in _PLACES},
        "max_tokens": options.asking.max_new_tokens,
        "published": options.asking.published,
        "wanted_arms": list(options.arms),
        "versions": own | {name: metadata.version(name) for name in _PACKAGES},
    }


def _compile(
    compiler: Compiler, case: Case, options: BenchOptions, asker: AdaptedModel | None, folder: Path
) -> tuple[AdaptedModel, Row]:
    """The case's adapter on the base, in place of the one before, and what it took."""
    plan = compiler.plan(case.asked.document)
    compiler.load(plan)
    with metered(torch.device(plan.device)) as took:
        adapter = compiler(plan)
    adapter.save_pretrained(folder)
    if asker is None:
        asker = AdaptedModel.load(folder, options.asking)
    else:
        earlier = asker.info.folder
        asker.set_adapter(folder)
        shutil.rmtree(earlier)
    sizes = {"adapter_bytes": plan.adapter_bytes, "parts_bytes": asker.info.parts_bytes}
    counts = {"tokens": case.asked.n_tokens, "chunks": len(plan.chunks), "rank": plan.file_rank}
    return asker, counts | sizes | {"compile": took}
