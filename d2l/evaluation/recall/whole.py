"""Network + questions about whole documents → recall report: six ways to ask the same base.

Each document is compiled once, with its parts, as `d2l compile` does it. Questions that a document
does not answer are asked, too: silence is the right answer to them.
"""

import os.path
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from d2l.api.compiler import Compiler
from d2l.datasets.questions import Question, read_whole
from d2l.documents.chunks import Tokenizer
from d2l.documents.intake import ReadOptions, take_inputs
from d2l.errors import ProbeError
from d2l.evaluation.harm import count_seats
from d2l.evaluation.metrics import Row, pick_evenly, take_mean
from d2l.evaluation.recall.arms import (
    Arms,
    Gathered,
    Mark,
    ProbeOptions,
    mark_by_parts,
)
from d2l.evaluation.recall.documents import AskedDocument, ask_some, find_right, join_texts
from d2l.evaluation.recall.network import Bench, name_sets
from d2l.evaluation.recall.report import (
    Cell,
    Probe,
    add_answers,
    make_routing_row,
    make_rows,
    make_silence_rows,
)
from d2l.hypernets.options import CompileOptions
from d2l.inference.adapted_model import AdaptedModel, AskOptions
from d2l.inference.parts.choose import PartOptions
from d2l.inference.shared_prefix import can_attend
from d2l.progress import Steps, ignore_steps

_FEW_WORDS = " Answer in a few words."
#: First tokens that are timed for each document and arm: fewer where these take long.
_TIMED, _MOST_SECONDS = 3, 60.0
#: Questions that share one pass over a document in the prompt.
_SIDE_BY_SIDE = 64


@dataclass
class _Tally:
    """What is measured for one row of the report, on all its documents."""

    name: str
    length: int | None = None
    documents: list[AskedDocument] = field(default_factory=list)
    answered: Gathered = field(default_factory=Gathered)
    unanswered: Gathered = field(default_factory=Gathered)
    records: list[Row] = field(default_factory=list)
    seats: list[int] = field(default_factory=list)

    @property
    def cell(self) -> Cell:
        """The row's name and sizes."""
        n_tokens, _ = take_mean([asked.n_tokens for asked in self.documents])
        seats = take_mean(self.seats)[0] if self.seats else None
        return Cell(self.name, self.length, len(self.documents), n_tokens, seats)


def probe_whole(
    sets: Sequence[Path],
    lengths: Sequence[int],
    *,
    compiling: CompileOptions,
    asking: AskOptions,
    options: ProbeOptions,
    progress: Steps = ignore_steps,
) -> Probe:
    """Compile whole documents and ask all of `options.arms` about them; raises D2LError.

    Rows whose `doc` names a file in the folder of their set are about that file. Other texts are
    joined to documents of about so many tokens as each of `lengths` says, or asked as they are.
    """
    compiler = Compiler(compiling)
    tallies = _draw(sets, lengths, compiler.network.tokenizer, options.limit)
    total = _Tally("all documents", None, [asked for tally in tallies for asked in tally.documents])
    done, n_steps = 0, len(total.documents) * (1 + len(options.arms))
    with tempfile.TemporaryDirectory(prefix="d2l-probe-") as folder:
        bench = Bench(Path(folder), compiler, asking)
        for tally in tallies:
            for asked in tally.documents:
                name = asked.document.name
                progress(done, n_steps, f"{name}: compiling")
                asker = bench.compile(asked)
                interview = Interview(asker, asked, options.batch)
                for arm in options.arms:
                    done += 1
                    progress(done, n_steps, f"{name}: {arm}")
                    interview.ask(arm, (tally, total))
                done += 1
                tally.records += [
                    {"set": tally.name, "length": tally.length, **row} for row in interview.records
                ]
                tally.seats += [n for n in [count_seats(asker)] if n is not None]
    total.records = [record for tally in tallies for record in tally.records]
    shown = [*tallies, total] if len(tallies) > 1 and not lengths else tallies
    cells = [(tally, tally.cell) for tally in shown]
    return Probe(
        tuple(row for tally, cell in cells for row in make_rows(cell, tally.answered)),
        None,
        tuple(compiler.network.warnings),
        tuple(
            row
            for tally, cell in cells
            for row in make_silence_rows(cell, tally.answered, tally.unanswered)
        ),
        tuple(make_routing_row(cell, tally.records) for tally, cell in cells),
        tuple(total.records),
    )


def _draw(
    sets: Sequence[Path], lengths: Sequence[int], tokenizer: Tokenizer, limit: int
) -> list[_Tally]:
    """The documents of every row, before anything is computed; raises D2LError."""
    tallies = []
    for set_name, path in zip(name_sets(sets), sets, strict=True):
        files: dict[str, list[Question]] = {}
        texts = []
        for question in read_whole(path):
            name = str(question.document)
            if Path(name).name == name and os.path.isfile(path.parent / name):
                files.setdefault(name, []).append(question)
            else:
                texts.append(question)
        if lengths and not texts:
            raise ProbeError(
                f"{path}: its documents are files, which --length does not join",
                hint="leave --length out, or name a set with texts",
            )
        for file, questions in files.items():
            (document, *_) = take_inputs(path.parent / file, ReadOptions()).documents
            document = replace(document, name=file)
            asked = AskedDocument(document, len(tokenizer.encode(document.text)), ())
            tallies.append(_Tally(file, None, [ask_some(asked, questions, limit)]))
        for length in lengths or [None][: len(texts)]:
            joined = join_texts(texts, tokenizer=tokenizer, length=length or 1, limit=limit)
            tallies.append(_Tally(set_name, length, joined))
    for tally in tallies:
        if not any(asked.questions for asked in tally.documents):
            raise ProbeError(f"{tally.name}: the set has no question that it answers")
    return tallies


class Interview:
    """Asks about one document, of which the asker holds the adapter.

    `records` has a row for each question, with the answers of all arms that were asked. The first
    tokens of `timed` questions are timed for each arm.
    """

    def __init__(
        self, asker: AdaptedModel, asked: AskedDocument, batch: int, timed: int = _TIMED
    ) -> None:
        self._asker, self._arms, self._timed = asker, Arms(batch), timed
        self._text = asked.document.text
        self._rows, self._n_answered = [*asked.questions, *asked.unanswerable], len(asked.questions)
        parts = () if asker.parts is None else asker.parts.parts.records
        self._pages = [part.searched for part in parts]
        self.records: list[Row] = [
            {
                "document": asked.document.name,
                "tokens": asked.n_tokens,
                "question": question.text,
                "wanted": list(question.references) if n < self._n_answered else [],
                "parts": list(self._route(question)),
                "right_parts": (
                    list(find_right(self._pages, question)) if n < self._n_answered else []
                ),
            }
            for n, question in enumerate(self._rows)
        ]

    def ask(self, arm: str, tallies: Sequence[_Tally] = ()) -> int:
        """Ask an arm all questions, and add its marks to the tallies and to the records. Gives how
        many questions had their document cut."""
        chosen = [n for n, row in enumerate(self.records) if arm != "right" or row["right_parts"]]
        if not chosen:
            return 0
        seconds = self._time(arm, [n for n in chosen if n < self._n_answered])
        marks, n_cut = self._mark(arm, chosen)
        for n, mark in zip(chosen, marks, strict=True):
            add_answers(self.records[n], arm, mark)
            for tally in tallies:
                into = tally.answered if n < self._n_answered else tally.unanswered
                getattr(into, arm).append(mark)
        for tally in tallies:
            tally.answered.first_token.setdefault(arm, []).extend(seconds)
            tally.answered.n_cut += n_cut if arm == "prompt" else 0
        return n_cut

    def _mark(self, arm: str, chosen: Sequence[int]) -> tuple[list[Mark], int]:
        """Marks of the chosen questions, and how many had their document cut."""
        asker, rows = self._asker, [self._rows[n] for n in chosen]
        if arm == "prompt":
            # One pass over the document serves many questions, if their cache need not repeat it.
            shared = can_attend(asker.model.get_base_model())
            arms = Arms(_SIDE_BY_SIDE) if shared else self._arms
            return arms.ask_with_documents(asker, rows, [self._text] * len(rows))
        if arm == "rag":
            short = [row._replace(text=row.text + _FEW_WORDS) for row in rows]
            return self._arms.ask_with_documents(asker, short, [self._page(n) for n in chosen])
        if arm == "base":
            return self._arms.ask_alone(asker, rows), 0
        if arm == "adapter":
            return self._arms.ask_whole(asker, rows), 0
        asked = [(self._rows[n], self._choose(arm, n)) for n in chosen]
        return [mark_by_parts(asker, question, parts) for question, parts in asked], 0

    def _time(self, arm: str, chosen: Sequence[int]) -> list[float]:
        """Seconds to the first token of some of the chosen questions, one at a time."""
        times: list[float] = []
        for n in pick_evenly(chosen, self._timed):
            if sum(times) < _MOST_SECONDS:
                start = time.perf_counter()
                self._begin(arm, n)
                times.append(time.perf_counter() - start)
        return times

    def _begin(self, arm: str, n: int) -> None:
        """Answer a question with one token, with all that has to be done before."""
        options = replace(self._asker.options, max_new_tokens=1, parts=self._choose(arm, n))
        asker, question = replace(self._asker, options=options), self._rows[n]
        if arm == "base":
            asker.ask_alone(question.text)
        elif arm == "prompt":
            asker.ask_with_document(question.text, self._text)
        elif arm == "rag":
            self._route(question)
            asker.ask_with_document(question.text + _FEW_WORDS, self._page(n))
        else:
            asker.answer([{"role": "user", "content": question.text}])

    def _choose(self, arm: str, n: int) -> PartOptions:
        if arm == "right":
            return PartOptions(count=1, page=f"#{self.records[n]['right_parts'][0]}")
        return PartOptions(whole=True) if arm == "adapter" else PartOptions()

    def _route(self, question: Question) -> tuple[int, ...]:
        """The three parts that the router puts first; none of an adapter without parts."""
        if self._asker.parts is None:
            return ()
        turns = [{"role": "user", "content": question.text}]
        return self._asker.parts.choose(turns, PartOptions(), usual=3).indices

    def _page(self, n: int) -> str:
        """The text of the router's first part; the whole document's without parts."""
        parts = self.records[n]["parts"]
        return self._pages[parts[0]] if parts else self._text
