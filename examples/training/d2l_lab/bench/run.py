"""Documents with questions → rows: each is compiled and asked in every arm, and timed.

Rows go to a file as soon as they are measured, so that a stopped run goes on.
"""

import contextlib
import gc
import hashlib
import itertools
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import torch

from d2l import AdaptedModel, Compiler, __version__
from d2l.answer.options import AskOptions
from d2l.answer.scope import read_question
from d2l.bases import devices
from d2l.bases.models import batched
from d2l.documents.chunks import Tokenizer
from d2l.hypernets.options import CompileOptions
from d2l.parts.kept import PartOptions
from d2l.progress import Steps, ignore_steps
from d2l_lab.bench.answers import AnsweredQuestion, Arm, ScoredMark
from d2l_lab.bench.arms import ask_arm
from d2l_lab.bench.cases import BENCH_ARMS, Case, draw_chunks
from d2l_lab.bench.documents import find_right
from d2l_lab.bench.rows import Cost, DocumentRow, RunFacts, append_row, load_rows
from d2l_lab.questions import Question

#: Arms of documents with parts alone.
_OF_PARTS = (Arm.PARTS, Arm.RIGHT, Arm.RAG, Arm.RAG4)
#: Parts in the prompt of these arms, and parts that the router names.
_TEXTS = {Arm.RAG: 1, Arm.RAG4: 4}
_N_ROUTED = 4
#: Documents that are compiled before they are asked: the base is loaded again for so many.
_TOGETHER = 16
_PACKAGES = ("torch", "transformers", "tokenizers", "peft")
#: Reports a step of a case by its label.
Tell = Callable[[Case, str], None]


@dataclass(frozen=True)
class BenchOptions:
    """A benchmark's name, and how documents are compiled and asked.

    `kept`: a file of JSON lines for the rows; those of the same run and document are not measured
    again.
    """

    name: str
    compiling: CompileOptions
    asking: AskOptions
    kept: Path | None = None


def run_bench(
    draw: Callable[[Tokenizer], Sequence[Case]],
    options: BenchOptions,
    *,
    progress: Steps = ignore_steps,
) -> list[DocumentRow]:
    """Measure every case that `draw` gives for the network's tokenizer; raises D2LError.

    Nothing comes from the cache. Weights are loaded before the first case is timed.
    """
    compiler = Compiler(options.compiling)
    network, run = compiler.network, _describe(compiler, options)
    cases = list(draw(network.tokenizer))
    if options.name == "check" and len(network.chunk_lengths) > 1:
        cases += draw_chunks(network.tokenizer, network.chunk_lengths)
    kept = [] if options.kept is None else load_rows(options.kept)
    rows = {n: row for n, case in enumerate(cases) for row in kept if _is_of(row, case, run)}
    missing, steps = [n for n in range(len(cases)) if n not in rows], itertools.count()
    n_steps = len(missing) * (1 + len(BENCH_ARMS[options.name]))

    def tell(case: Case, label: str) -> None:
        progress(next(steps), n_steps, f"{case.asked.document.name}: {label}")

    for some in batched(missing, _TOGETHER):
        measured = _measure(compiler, [cases[n] for n in some], run, options, tell)
        rows |= zip(some, measured, strict=True)
    return [rows[n] for n in range(len(cases))]


def _measure(
    compiler: Compiler,
    cases: Sequence[Case],
    run: RunFacts,
    options: BenchOptions,
    tell: Tell,
) -> Iterator[DocumentRow]:
    """Compile documents, let go of the compiler's base, and ask: memory holds one base."""
    with tempfile.TemporaryDirectory(prefix="d2l-bench-") as folder:
        adapters, compiled = [Path(folder, f"{n}.lora") for n in range(len(cases))], []
        for case, adapter in zip(cases, adapters, strict=True):
            tell(case, "compiling")
            compiled.append(_compile(compiler, case, run, adapter))
        compiler.unload()
        asker = AdaptedModel.load(adapters[0], options.asking)
        for case, adapter, row in zip(cases, adapters, compiled, strict=True):
            if adapter is not adapters[0]:
                asker.set_adapter(adapter)
            answered = ask_document(asker, case, row, tell)
            if options.kept is not None:
                append_row(options.kept, answered)
            yield answered
        del asker
        gc.collect()  # what an adapter keeps and its model refer to each other


def _is_of(row: DocumentRow, case: Case, run: RunFacts) -> bool:
    """True if a kept row has the same run, document and questions."""
    asked = case.asked
    return (
        (row.run, row.set, row.length) == (run, case.set, case.length)
        and (row.document, row.sha256) == (asked.document.name, asked.document.digest)
        and [q.question for q in row.questions] == [q.text for q in asked.questions]
    )


def _compile(compiler: Compiler, case: Case, run: RunFacts, folder: Path) -> DocumentRow:
    """Compile a document into a folder; its row has no answers yet."""
    asked = case.asked
    plan = compiler.plan(asked.document, **case.compiling)
    compiler.load(plan)
    with metered(torch.device(plan.device)) as costs:
        adapter = compiler(plan)
    adapter.save_pretrained(folder)
    return DocumentRow(
        run,
        case.set,
        case.length,
        document=asked.document.name,
        sha256=asked.document.digest,
        tokens=asked.n_tokens,
        chunks=len(plan.chunks),
        seats=plan.rank,
        adapter_bytes=plan.adapter_bytes,
        parts_bytes=plan.parts_bytes,
        compiling=costs[0],
        costs={},
        questions=(),
    )


def ask_document(asker: AdaptedModel, case: Case, row: DocumentRow, tell: Tell) -> DocumentRow:
    """Ask all arms about a document whose adapter is on `asker`, and add their answers to its row.

    Only questions whose right part is known are asked of that part.
    """
    questions, document = case.asked.questions, case.asked.document
    records = asker.kept.records if asker.kept.chooses else ()
    pages = ["" if part.is_overview else part.searched for part in records]
    routed = [_route(asker, question) for question in questions]
    right = [find_right(pages, q) if q.references else () for q in questions]
    answers: list[dict[str, ScoredMark]] = [{} for _ in questions]
    costs = {}
    arms = [arm for arm in BENCH_ARMS[row.run.bench] if pages or arm not in _OF_PARTS]
    if pages:  # before a question is timed, the model has read the opening of all parts
        options = replace(asker.options, parts=PartOptions(page="#0"))
        asker.read([{"role": "user", "content": "?"}], options)
    for arm in [Arm.ADAPTER] if case.compiling else arms or [Arm.ADAPTER]:
        tell(case, arm)
        asked = [n for n in range(len(questions)) if arm is not Arm.RIGHT or right[n]]
        if not asked:
            continue
        of_right = [right[n][0] for n in asked] if arm is Arm.RIGHT else []
        texts = [document.text for _ in asked]
        if (count := _TEXTS.get(arm)) is not None:
            first = [sorted(routed[n][:count]) for n in asked]  # in the document's order
            texts = ["\n\n".join(pages[part] for part in some) for some in first]
        with metered(asker.model.device) as spent:
            marked = ask_arm(asker, arm, [questions[n] for n in asked], texts, of_right)
        costs[arm] = replace(spent[0], seconds=spent[0].seconds / len(asked))
        for n, answer in zip(asked, marked, strict=True):
            answers[n][arm] = answer
    answered = [
        AnsweredQuestion(q.text, q.references, answers[n], routed[n], right[n], q.kind)
        for n, q in enumerate(questions)
    ]
    return replace(row, costs=costs, questions=tuple(answered))


def _route(asker: AdaptedModel, question: Question) -> tuple[int, ...]:
    """List the parts that the router puts first; an adapter without parts has none."""
    asked = read_question([{"role": "user", "content": question.text}])
    return asker.kept.route(asked, PartOptions(_N_ROUTED), ()).indices


@contextlib.contextmanager
def metered(device: torch.device) -> Iterator[list[Cost]]:
    """Measure the block: gives a list that has its cost at the end."""
    costs: list[Cost] = []
    cuda = torch.cuda if devices.is_cuda(device) else None
    before, peak, extra = 0, None, None
    if cuda is not None:
        cuda.synchronize(device)
        cuda.reset_peak_memory_stats(device)
        before = cuda.memory_allocated(device)
    start = time.perf_counter()
    yield costs
    if cuda is not None:
        cuda.synchronize(device)
        peak = cuda.max_memory_allocated(device)
        extra = peak - before
    elif sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    costs.append(Cost(time.perf_counter() - start, peak, extra))


def _hide_folder(name: str) -> str:
    """Name a folder or file without those above it."""
    return Path(name).resolve().name if Path(name).exists() else name


def _describe(compiler: Compiler, options: BenchOptions) -> RunFacts:
    network = compiler.network
    names = (network.files.name, network.base.name)
    weights = json.dumps(sorted(network.digest_files().items())).encode()
    device = devices.pick_device(compiler.options.device)
    processor = f"{device}, {platform.machine()}, {torch.get_num_threads()} threads"
    own = {"d2l": __version__, "python": platform.python_version(), "cuda": torch.version.cuda}
    return RunFacts(
        bench=options.name,
        network=_hide_folder(names[0]),
        network_sha256=hashlib.sha256(weights).hexdigest()[:16],
        base=_hide_folder(names[1]),
        device=torch.cuda.get_device_name(device) if devices.is_cuda(device) else processor,
        dtype=options.asking.dtype or devices.name_dtype(devices.pick_dtype(device)),
        max_tokens=options.asking.max_new_tokens,
        versions=own | {name: metadata.version(name) for name in _PACKAGES},
    )
