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

from d2l.adapters.provenance import Provenance, Refinement
from d2l.api.compiler import Compiler
from d2l.bases.batches import batched
from d2l.compiler.options import CompileOptions, PlanWishes
from d2l.compiler.plan import CompilePlan
from d2l.datasets.questions import Question, read_questions, read_unanswerable
from d2l.errors import ProbeError
from d2l.evaluation.harm import answer_general, measure_harm
from d2l.evaluation.means import take_mean
from d2l.evaluation.recall.adapter import count_seats
from d2l.evaluation.recall.arms import Arms, Gathered, ProbeOptions
from d2l.evaluation.recall.documents import AskedDocument, draw_documents
from d2l.evaluation.recall.report import Cell, Probe, Row, make_rows, make_silence_rows
from d2l.evaluation.recall.unanswerable import NEIGHBORS, ask_neighbors, choose_given
from d2l.inference.adapted_model import AdaptedModel, AskOptions
from d2l.progress import Steps, ignore_steps
from d2l.refining.options import RefineOptions


@dataclass(frozen=True)
class DrawnCell:
    """Documents of one set and length, with their questions, and for each what is asked though it
    does not answer that."""

    set: str
    length: int
    documents: tuple[AskedDocument, ...]
    unanswerable: tuple[tuple[Question, ...], ...]


def probe_sets(
    sets: Sequence[Path],
    lengths: Sequence[int],
    *,
    compiling: CompileOptions,
    asking: AskOptions,
    options: ProbeOptions,
    progress: Steps = ignore_steps,
) -> Probe:
    """Compile documents of every length from every set and ask about them; raises D2LError."""
    compiler = Compiler(compiling)
    drawn, remarks = draw_cells(sets, lengths, compiler, options)
    total = sum(len(cell.documents) for cell in drawn)
    arms, rows, silence, n_done = Arms(options), list[Row](), list[Row](), 0
    with tempfile.TemporaryDirectory(prefix="d2l-probe-") as folder:
        bench = _Bench(Path(folder), compiler, asking)
        for cell in drawn:
            answered, unanswered, seats, refined = Gathered(), Gathered(), [], []
            for asked, foreign in zip(cell.documents, cell.unanswerable, strict=True):
                progress(n_done, total, f"{cell.set}, {cell.length:,} tokens")
                asker, text = bench.compile(asked), asked.document.text
                if options.refine is not None:
                    answered.predicted.add(arms.ask_adapter(asker, asked.questions))
                    asker, done = bench.refine(asked, options.refine)
                    refined.append(done)
                for questions, gathered in ((asked.questions, answered), (foreign, unanswered)):
                    if questions:
                        arms.ask_with_document(asker, questions, text, gathered)
                seats.append(count_seats(asker))
                n_done += 1
            if options.compare:
                _ask_alone(arms, asker, [one.questions for one in cell.documents], answered)
                _ask_alone(arms, asker, cell.unanswerable, unanswered)
            described = _describe(cell, seats, refined)
            rows += make_rows(described, answered)
            if unanswered.adapter.marks:
                silence += make_silence_rows(described, answered, unanswered)
        progress(n_done, total, "measuring harm")
        harm = bench.measure_harm(options.batch) if options.harm else None
    return Probe(tuple(rows), harm, tuple(remarks), tuple(silence))


def _ask_alone(
    arms: Arms, asker: AdaptedModel, groups: Sequence[Sequence[Question]], into: Gathered
) -> None:
    """Ask the base alone; questions of several documents fill a batch."""
    for some in batched([question for group in groups for question in group], arms.options.batch):
        into.base.add(arms.ask_alone(asker, some))


def draw_cells(
    sets: Sequence[Path], lengths: Sequence[int], compiler: Compiler, options: ProbeOptions
) -> tuple[list[DrawnCell], list[str]]:
    """Every set at every length, and remarks on the base, before anything is computed."""
    given = options.unanswerable
    known = (
        None
        if given in (None, NEIGHBORS)
        else read_unanswerable(Path(str(given)), need_document=True)
    )
    remarks, tokenizer = list(compiler.network.warnings), compiler.network.tokenizer
    cells = []
    for name, path in zip(_name_sets(sets), sets, strict=True):
        questions = read_questions(path, need_document=True)
        for length in lengths:
            documents = draw_documents(
                questions, tokenizer=tokenizer, length=length, limit=options.limit
            )
            if not documents:
                raise ProbeError(
                    f"{path}: no passage of at most {length:,} tokens answers a question",
                    hint="choose a longer --length",
                )
            foreign: list[tuple[Question, ...]] = [()] * len(documents)
            if given is not None:
                foreign = _find_unanswerable(documents, questions, known, options.limit)
                if not any(foreign):
                    raise ProbeError(
                        f"{path}: --unanswerable {given} has no question for its documents of "
                        f"{length:,} tokens that they do not answer",
                        hint="neighbors need documents of one title; a file, a doc of the set",
                    )
            cells.append(DrawnCell(name, length, tuple(documents), tuple(foreign)))
    return cells, remarks


def _find_unanswerable(
    documents: Sequence[AskedDocument],
    questions: Sequence[Question],
    given: Sequence[Question] | None,
    limit: int,
) -> list[tuple[Question, ...]]:
    """Of every document what it is asked though it does not answer it: at most as many questions as
    it answers, and `limit` in all. `given` are those of a file, else neighbors are taken."""
    chosen_of_each = []
    for asked in documents:
        sources = {
            question.document for question in asked.questions if question.document is not None
        }
        text = asked.document.text
        chosen = (
            ask_neighbors(questions, text, sources)
            if given is None
            else choose_given(given, text, sources)
        )
        chosen_of_each.append(tuple(chosen[: min(len(asked.questions), limit)]))
        limit -= len(chosen_of_each[-1])
    return chosen_of_each


@dataclass
class _Bench:
    """Compiles one document after the other and puts its adapter on the same base."""

    folder: Path
    compiler: Compiler
    asking: AskOptions
    asker: AdaptedModel | None = None
    kept: dict[int, Path] = field(default_factory=dict)  # the fewest and the most ranks so far
    n_compiled: int = 0

    def compile(self, asked: AskedDocument) -> AdaptedModel:
        """The base with the adapter of this document; the one before is gone."""
        asker, _ = self._compile(self.compiler.plan(asked.document))
        return asker

    def refine(
        self, asked: AskedDocument, options: RefineOptions
    ) -> tuple[AdaptedModel, Refinement]:
        """The same document's adapter refined, in place of the predicted one, and what was done."""
        predicted = self.folder / f"{self.n_compiled}.lora"
        self.kept = {rank: kept for rank, kept in self.kept.items() if kept != predicted}
        wishes = PlanWishes(refine=options.seconds, refine_steps=options.steps)
        asker, made = self._compile(self.compiler.plan(asked.document, **wishes))
        assert made is not None  # compiled adapters have a provenance
        assert made.refinement is not None  # it was wished for
        return asker, made.refinement

    def _compile(self, plan: CompilePlan) -> tuple[AdaptedModel, Provenance | None]:
        self.n_compiled += 1
        folder, adapter = self.folder / f"{self.n_compiled}.lora", self.compiler(plan)
        adapter.save_pretrained(folder)
        self.asker = self._put_on(folder)
        self._keep_extremes(plan.rank, folder)
        return self.asker, adapter.provenance

    def measure_harm(self, batch: int) -> Row:
        """Harm of the kept adapters: that of the largest, and all of them in `by_seats`."""
        assert self.asker is not None
        general = answer_general(self.asker, batch=batch)
        found = []
        for _, adapter in sorted(self.kept.items()):
            self.asker = self._put_on(adapter)
            found.append(measure_harm(self.asker, general, batch=batch).to_json())
        return found[-1] | {"by_seats": found}

    def _put_on(self, adapter: Path) -> AdaptedModel:
        if self.asker is None:
            return AdaptedModel.load(adapter, self.asking)
        self.asker.set_adapter(adapter)
        return self.asker

    def _keep_extremes(self, rank: int, adapter: Path) -> None:
        """Delete the adapters that are neither the first of the smallest nor of the largest."""
        self.kept.setdefault(rank, adapter)
        least, most = min(self.kept), max(self.kept)
        self.kept = {rank: self.kept[rank] for rank in (least, most)}
        for other in self.folder.glob("*.lora"):
            if other not in self.kept.values():
                shutil.rmtree(other)


def _describe(cell: DrawnCell, seats: Sequence[int | None], refined: Sequence[Refinement]) -> Cell:
    known = [n for n in seats if n is not None]
    return Cell(
        set=cell.set,
        length=cell.length,
        documents=len(cell.documents),
        tokens=take_mean([asked.n_tokens for asked in cell.documents]).value,
        seats=take_mean(known).value if known else None,
        refined=tuple(refined),
    )


def _name_sets(sets: Sequence[Path]) -> list[str]:
    """File names without suffixes; paths where two files are called the same."""
    short = [path.name.removesuffix(".gz").removesuffix(".jsonl") for path in sets]
    counts = Counter(short)
    return [str(path) if counts[name] > 1 else name for name, path in zip(short, sets, strict=True)]
