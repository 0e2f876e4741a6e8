"""Network + sets of questions → recall report by length: documents are compiled, then asked about.

Every document goes the way of `d2l compile`, into a temporary folder, and the adapter on disk is
loaded by PEFT. The compiler's base and network, and the base that answers, are loaded once. Nothing
is kept of a document but its marks, and of the adapters the two with the fewest and with the most
seats, whose harm is measured at the end.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from d2l.bases.models import find_base, pick_device
from d2l.bases.tokenizers import load_tokenizer
from d2l.batches import batched
from d2l.compiler import compile as pipeline
from d2l.datasets.questions import read_questions
from d2l.errors import ProbeError
from d2l.evaluation.harm import answer_general, measure_harm
from d2l.evaluation.means import take_mean
from d2l.evaluation.recall.adapter import count_seats
from d2l.evaluation.recall.arms import Arms, Gathered, ProbeOptions
from d2l.evaluation.recall.documents import AskedDocument, draw_documents
from d2l.evaluation.recall.report import Cell, Probe, Row, make_rows
from d2l.hypernets.checkpoints import list_warnings, read_config
from d2l.hypernets.fit import check_fit
from d2l.hypernets.registry import find_checkpoint
from d2l.inference.adapted_model import Asker, AskOptions, exchange_adapter, load_asker
from d2l.progress import Steps, ignore_steps


@dataclass(frozen=True)
class DrawnCell:
    """Documents of one set and length, with their questions."""

    set: str
    length: int
    documents: tuple[AskedDocument, ...]


def probe_sets(
    sets: Sequence[Path],
    lengths: Sequence[int],
    *,
    compiling: pipeline.CompileOptions,
    asking: AskOptions,
    options: ProbeOptions,
    progress: Steps = ignore_steps,
) -> Probe:
    """Compile documents of every length from every set and ask about them; raises D2LError."""
    drawn, remarks = draw_cells(sets, lengths, compiling=compiling, limit=options.limit)
    total = sum(len(cell.documents) for cell in drawn)
    arms, rows, n_done = Arms(options), [], 0
    with tempfile.TemporaryDirectory(prefix="d2l-probe-") as folder:
        bench = _Bench(Path(folder), compiling, asking)
        for cell in drawn:
            gathered, seats = Gathered(), []
            for asked in cell.documents:
                progress(n_done, total, f"{cell.set}, {cell.length:,} tokens")
                asker = bench.compile(asked)
                arms.ask_with_document(asker, asked.questions, asked.document.text, gathered)
                seats.append(count_seats(asker))
                n_done += 1
            compared = cell.documents if options.compare else ()
            questions = [one for asked in compared for one in asked.questions]
            # Questions of several documents fill a batch.
            for some in batched(questions, options.batch):
                gathered.base.add(arms.ask_alone(asker, some))
            rows += make_rows(_describe(cell, seats), gathered)
        progress(n_done, total, "measuring harm")
        harm = bench.measure_harm(options.batch) if options.harm else None
    return Probe(tuple(rows), harm, tuple(remarks))


def draw_cells(
    sets: Sequence[Path],
    lengths: Sequence[int],
    *,
    compiling: pipeline.CompileOptions,
    limit: int,
) -> tuple[list[DrawnCell], list[str]]:
    """Every set at every length, and remarks on the base, before anything is computed."""
    checkpoint = find_checkpoint(compiling.checkpoint, offline=compiling.offline)
    config = read_config(checkpoint.path)
    base = find_base(config.base, override=compiling.base, offline=compiling.offline)
    remarks = list_warnings(checkpoint.path)
    remarks += check_fit(config, base, given=compiling.base)
    tokenizer = load_tokenizer(base.folder)
    cells = []
    for name, path in zip(_name_sets(sets), sets, strict=True):
        questions = read_questions(path, need_document=True)
        for length in lengths:
            documents = draw_documents(questions, tokenizer=tokenizer, length=length, limit=limit)
            if not documents:
                raise ProbeError(
                    f"{path}: no passage of at most {length:,} tokens answers a question",
                    hint="choose longer --lengths",
                )
            cells.append(DrawnCell(name, length, tuple(documents)))
    return cells, remarks


@dataclass
class _Bench:
    """Compiles one document after the other and puts its adapter on the same base."""

    folder: Path
    compiling: pipeline.CompileOptions
    asking: AskOptions
    loaded: pipeline.Loaded | None = None
    asker: Asker | None = None
    kept: dict[int, Path] = field(default_factory=dict)  # the fewest and the most ranks so far
    n_compiled: int = 0

    def compile(self, asked: AskedDocument) -> Asker:
        """The base with the adapter of this document; the one before is gone."""
        plan = pipeline.prepare([asked.document], self.compiling)
        if self.loaded is None:
            self.loaded = pipeline.load(plan, pick_device(self.compiling.device))
        self.n_compiled += 1
        adapter = self.folder / f"{self.n_compiled}.lora"
        pipeline.run(plan, adapter, options=self.compiling, loaded=self.loaded)
        self.asker = self._put_on(adapter)
        self._keep_extremes(plan.rank, adapter)
        return self.asker

    def measure_harm(self, batch: int) -> Row:
        """Harm of the kept adapters: that of the largest, and all of them in `by_seats`."""
        assert self.asker is not None
        general = answer_general(self.asker, batch=batch)
        found = []
        for _, adapter in sorted(self.kept.items()):
            self.asker = self._put_on(adapter)
            found.append(measure_harm(self.asker, general, batch=batch).to_json())
        return found[-1] | {"by_seats": found}

    def _put_on(self, adapter: Path) -> Asker:
        if self.asker is None:
            return load_asker(adapter, self.asking)
        return exchange_adapter(self.asker, adapter)

    def _keep_extremes(self, rank: int, adapter: Path) -> None:
        """Delete the adapters that are neither the first of the smallest nor of the largest."""
        self.kept.setdefault(rank, adapter)
        least, most = min(self.kept), max(self.kept)
        self.kept = {rank: self.kept[rank] for rank in (least, most)}
        for other in self.folder.glob("*.lora"):
            if other not in self.kept.values():
                shutil.rmtree(other)


def _describe(cell: DrawnCell, seats: Sequence[int | None]) -> Cell:
    known = [n for n in seats if n is not None]
    return Cell(
        set=cell.set,
        length=cell.length,
        documents=len(cell.documents),
        tokens=take_mean([asked.n_tokens for asked in cell.documents]).value,
        seats=take_mean(known).value if known else None,
    )


def _name_sets(sets: Sequence[Path]) -> list[str]:
    """File names without suffixes; paths where two files are called the same."""
    short = [path.name.removesuffix(".gz").removesuffix(".jsonl") for path in sets]
    counts = Counter(short)
    return [str(path) if counts[name] > 1 else name for name, path in zip(short, sets, strict=True)]
