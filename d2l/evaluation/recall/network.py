"""Network + sets of questions → recall report by length: documents are compiled, then asked about.

Every document goes the way of `d2l compile`, into a temporary folder, and PEFT loads the adapter
from disk. The compiler's base and network, and the base that answers, are loaded once. The adapters
with the fewest and with the most seats are kept until their harm is measured at the end.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from d2l.api.compiler import Compiler
from d2l.datasets.questions import Question, read_questions, read_unanswerable
from d2l.errors import ProbeError
from d2l.evaluation.harm import answer_general, count_seats, measure_harm
from d2l.evaluation.metrics import Row, take_mean
from d2l.evaluation.recall.arms import Arms, Gathered, ProbeOptions
from d2l.evaluation.recall.documents import AskedDocument, draw_documents
from d2l.evaluation.recall.report import Cell, Probe, make_rows, make_silence_rows
from d2l.evaluation.recall.unanswerable import NEIGHBORS, ask_neighbors, choose_given
from d2l.hypernets.options import CompileOptions
from d2l.inference.adapted_model import AdaptedModel, AskOptions
from d2l.inference.parts.choose import PartOptions
from d2l.progress import Steps, ignore_steps


def probe_sets(
    sets: Sequence[Path],
    lengths: Sequence[int],
    *,
    compiling: CompileOptions,
    asking: AskOptions,
    options: ProbeOptions,
    progress: Steps = ignore_steps,
) -> Probe:
    """Compile documents of every length from every set and ask about them; raises D2LError.

    It measures networks: of a document with parts, the one memory is asked.
    """
    asking = replace(asking, parts=PartOptions(whole=True))
    compiler = Compiler(compiling)
    drawn = draw_cells(sets, lengths, compiler, options)
    total = sum(len(documents) for _, _, documents in drawn)
    arms, rows, silence, n_done = Arms(options.batch), list[Row](), list[Row](), 0
    with tempfile.TemporaryDirectory(prefix="d2l-probe-") as folder:
        bench = Bench(Path(folder), compiler, asking)
        for name, length, documents in drawn:
            answered, unanswered, seats = Gathered(), Gathered(), list[int]()
            for asked in documents:
                progress(n_done, total, f"{name}, {length:,} tokens")
                text, asker = asked.document.text, bench.compile(asked)
                arms.ask_all(asker, asked.questions, text, answered)
                if asked.unanswerable:
                    arms.ask_all(asker, asked.unanswerable, text, unanswered)
                if (n_seats := count_seats(asker)) is not None:
                    seats.append(n_seats)
                n_done += 1
            n_tokens, _ = take_mean([asked.n_tokens for asked in documents])
            n_seats_mean = take_mean(seats)[0] if seats else None
            cell = Cell(name, length, len(documents), n_tokens, n_seats_mean)
            rows += make_rows(cell, answered)
            silence += make_silence_rows(cell, answered, unanswered)
        progress(n_done, total, "measuring harm")
        harm = bench.measure_harm(options.batch) if options.harm else None
    return Probe(tuple(rows), harm, tuple(compiler.network.warnings), tuple(silence))


def draw_cells(
    sets: Sequence[Path], lengths: Sequence[int], compiler: Compiler, options: ProbeOptions
) -> list[tuple[str, int, list[AskedDocument]]]:
    """(set, length, documents) for every set and length, before anything is computed."""
    given = options.unanswerable
    known = None
    if given not in (None, NEIGHBORS):
        known = read_unanswerable(Path(str(given)), need_document=True)
    cells = []
    for name, path in zip(name_sets(sets), sets, strict=True):
        questions = read_questions(path, need_document=True)
        for length in lengths:
            documents = draw_documents(
                questions,
                tokenizer=compiler.network.tokenizer,
                length=length,
                limit=options.limit,
            )
            if not documents:
                raise ProbeError(
                    f"{path}: no passage of at most {length:,} tokens answers a question",
                    hint="choose a longer --length",
                )
            if given is not None:
                documents = _add_unanswerable(documents, questions, known, options.limit)
                if not any(asked.unanswerable for asked in documents):
                    raise ProbeError(
                        f"{path}: --unanswerable {given} has no question for its documents of "
                        f"{length:,} tokens that they do not answer",
                        hint="neighbors need documents of one title; a file, a doc of the set",
                    )
            cells.append((name, length, documents))
    return cells


def _add_unanswerable(
    documents: Sequence[AskedDocument],
    questions: Sequence[Question],
    given: Sequence[Question] | None,
    limit: int,
) -> list[AskedDocument]:
    """The documents with questions that they do not answer: for each at most as many as it answers,
    and `limit` in all. `given` are those of a file; without it neighbors' questions are taken."""
    added = []
    for asked in documents:
        sources = {q.document for q in asked.questions if q.document is not None}
        text = asked.document.text
        if given is None:
            chosen = ask_neighbors(questions, text, sources)
        else:
            chosen = choose_given(given, text, sources)
        chosen = chosen[: min(len(asked.questions), limit)]
        added.append(replace(asked, unanswerable=tuple(chosen)))
        limit -= len(chosen)
    return added


@dataclass
class Bench:
    """Compiles one document after the other and puts its adapter on the same base."""

    folder: Path
    compiler: Compiler
    asking: AskOptions
    asker: AdaptedModel | None = None
    kept: dict[int, Path] = field(default_factory=dict)  # the fewest and the most ranks so far
    n_compiled: int = 0

    def compile(self, asked: AskedDocument) -> AdaptedModel:
        """The base with the adapter of this document in place of the one before."""
        self.n_compiled += 1
        folder = self.folder / f"{self.n_compiled}.lora"
        plan = self.compiler.plan(asked.document)
        self.compiler(plan).save_pretrained(folder)
        asker = self._put_on(folder)
        self._keep_extremes(plan.rank, folder)
        return asker

    def measure_harm(self, batch: int) -> Row:
        """Harm of the kept adapters: that of the largest, and all of them in `by_seats`."""
        assert self.asker is not None
        general = answer_general(self.asker, batch=batch)
        rows = [
            measure_harm(self._put_on(adapter), general, batch=batch)
            for _, adapter in sorted(self.kept.items())
        ]
        return rows[-1] | {"by_seats": rows}

    def _put_on(self, adapter: Path) -> AdaptedModel:
        if self.asker is None:
            self.asker = AdaptedModel.load(adapter, self.asking)
        else:
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


def name_sets(sets: Sequence[Path]) -> list[str]:
    """File names without suffixes; paths where two files are called the same."""
    short = [path.name.removesuffix(".gz").removesuffix(".jsonl") for path in sets]
    counts = Counter(short)
    return [str(path) if counts[name] > 1 else name for name, path in zip(short, sets, strict=True)]
