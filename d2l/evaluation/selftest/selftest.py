"""Adapter + its document → self-test: does the document come back, asked with its own sentences?

No questions and no other model are needed. The second half of a sentence is scored given the first
half in the wording of a question, `WORDING`: negative log-likelihood (NLL) per token with the
adapter, and with the base alone in its own chat template. What counts is the difference, the gain:
0 is an adapter that knows no more than the base, whatever the base knew before. A part of it can
be the document's style and words rather than its facts: for these, there are questions, those of a
writer where there is one for the base (`questions`), or others with `--qa`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from d2l.adapters.info import read_info
from d2l.bases.batches import batched
from d2l.errors import DocumentError
from d2l.evaluation.harm import Harm, answer_general, measure_harm
from d2l.evaluation.means import Mean, take_mean
from d2l.evaluation.originals import Originals, Stretch, read_originals
from d2l.evaluation.sampling import pick_evenly
from d2l.evaluation.selftest.passages import MIN_WORDS, Passage, choose_passages, find_passages
from d2l.evaluation.selftest.questions import (
    Answered,
    answer_questions,
    keep_questions,
    write_questions,
)
from d2l.inference.adapted_model import AdaptedModel, AskOptions
from d2l.inference.likelihood import answer_greedily, token_log_probs
from d2l.progress import Progress, silent

WORDING = "How does this go on? {}"
#: How many of the worst passages are shown with what the adapter says instead.
N_WORST = 10
_BEGIN_WORDS = 5


@dataclass(frozen=True)
class Recited:
    """A passage with its scores, in nats a token; `said` is set for the worst ones."""

    passage: Passage
    base_nll: float
    adapter_nll: float
    said: str | None = None

    @property
    def gain(self) -> float:
        """Nats a token by which the adapter expects the wanted half better than the base does."""
        return self.base_nll - self.adapter_nll


@dataclass(frozen=True)
class Row:
    """Means over the passages of one place: a chunk, a page, or everything (`total`).

    All three are None where a place has no sentence that could be asked.
    """

    document: str
    place: str
    chunk: int | None
    page: int | None
    n: int
    base_nll: float | None = None
    adapter_nll: float | None = None
    gain: Mean | None = None


@dataclass(frozen=True)
class SelfTest:
    """The outcome; `n_sentences` counts those of the document, `total.n` those that were asked.

    `pages` is empty for formats that have none.
    """

    total: Row
    n_sentences: int
    chunks: tuple[Row, ...]
    pages: tuple[Row, ...]
    worst: tuple[Recited, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """What is best looked at: pages where there are any, else chunks."""
        return self.pages or self.chunks

    def to_json(self) -> dict[str, Any]:
        """As `d2l probe --json` prints it."""
        return {
            "wording": WORDING,
            "sentences": self.n_sentences,
            **_scores(self.total),
            "chunks": [_places(row, "chunk") | _scores(row) for row in self.chunks],
            "pages": [_places(row, "page") | _scores(row) for row in self.pages],
            "worst": [
                {
                    "document": recited.passage.document,
                    "chunk": recited.passage.chunk,
                    "page": recited.passage.page,
                    "given": recited.passage.given,
                    "wanted": recited.passage.wanted,
                    "said": recited.said,
                    "base_nll": recited.base_nll,
                    "adapter_nll": recited.adapter_nll,
                    "gain": recited.gain,
                }
                for recited in self.worst
            ],
        }


def scale_of(rows: Sequence[Row]) -> float:
    """What a full bar or color stands for, in nats a token: the largest gain or loss, but at least
    1, so that small differences look small."""
    return max([1.0, *(abs(row.gain.value) for row in rows if row.gain is not None)])


@dataclass(frozen=True)
class SelfReport:
    """What `d2l probe ADAPTER` has to tell; `harm` is None where it was not measured."""

    adapter: str
    base: str
    selftest: SelfTest
    harm: Harm | None
    remarks: tuple[str, ...]
    answered: tuple[Answered, ...] = ()  # questions of a writer, where there is one for the base

    def to_json(self) -> dict[str, Any]:
        """As `d2l probe --json` prints it."""
        harm = {} if self.harm is None else {"harm": self.harm.to_json()}
        asked = (
            {"questions": [answered.to_json() for answered in self.answered]}
            if self.answered
            else {}
        )
        return {"selftest": self.selftest.to_json(), **asked, **harm, "rows": []}


@dataclass(frozen=True)
class SelfOptions:
    """How an adapter is tested: with `document` in place of what was compiled, if that moved; at
    most `limit` sentences, in batches; `harm` says whether general prompts are asked, too."""

    document: str | None = None
    limit: int = 200
    batch: int = 8
    harm: bool = True
    save: Path | None = None  # where questions of the writer are kept, as `--qa` reads them


def probe_itself(
    adapter: Path,
    asking: AskOptions,
    options: SelfOptions,
    watch: Progress = silent,
    tell: Callable[[SelfReport], object] = lambda report: report,
) -> SelfReport:
    """Test one adapter with the sentences of its own document; raises D2LError.

    `tell` is given the report as soon as the self-test is in it, before harm is measured.
    """
    originals = read_originals(read_info(adapter), options.document)  # before weights are loaded
    asker = AdaptedModel.load(adapter, asking)
    batch = options.batch
    selftest = run_selftest(asker, originals, limit=options.limit, batch=batch, watch=watch)
    base = str(asker.info.config.get("base_model_name_or_path"))
    written = write_questions(asker, originals, offline=asking.offline, watch=watch)
    if options.save is not None:
        keep_questions(written, options.save, base)
    chosen = pick_evenly(written, options.limit)
    answered = answer_questions(asker, chosen, batch=batch, watch=watch)
    report = SelfReport(str(adapter), base, selftest, None, originals.remarks, answered)
    tell(report)
    if not options.harm:
        return report
    general = answer_general(asker, batch=batch, watch=watch)
    return replace(report, harm=measure_harm(asker, general, batch=batch, watch=watch))


def run_selftest(
    asker: AdaptedModel,
    originals: Originals,
    *,
    limit: int = 200,
    batch: int = 8,
    watch: Progress = silent,
) -> SelfTest:
    """Ask the adapter on `asker` for the sentences of its documents (`originals.read_originals`).

    At most `limit` sentences, spread evenly over the chunks. Raises DocumentError where there is no
    sentence to ask, AdapterError where prompts do not begin with the adapter's opening.
    """
    passages = find_passages(originals.stretches)
    if not passages:
        raise DocumentError(
            f"{originals.documents[0].name}: has no sentence of {MIN_WORDS} or more words, "
            "so it cannot be tested from itself",
            hint="write questions and give them with --qa FILE",
        )
    recited: list[Recited] = []
    chosen = choose_passages(passages, limit)
    for some in watch(batched(chosen, batch), "self-test"):
        recited += _recite(asker, some)
    worst = sorted(recited, key=lambda item: item.gain)[:N_WORST]
    return SelfTest(
        total=_mean_row(Row("", "total", None, None, 0), recited),
        n_sentences=len(passages),
        chunks=_row_chunks(originals, recited),
        pages=_row_pages(originals, recited),
        worst=_let_say(asker, worst, batch=batch),
    )


def _recite(asker: AdaptedModel, passages: Sequence[Passage]) -> list[Recited]:
    """Score a batch of passages with the adapter and with the base alone."""
    wanted = [asker.encode(passage.wanted) for passage in passages]
    adapter = _score(asker, [asker.prompt(ask(p)) for p in passages], wanted)
    with asker.model.disable_adapter():
        base = _score(asker, [asker.prompt_alone(ask(p)) for p in passages], wanted)
    return [Recited(*scored) for scored in zip(passages, base, adapter, strict=True)]


def ask(passage: Passage) -> str:
    """The passage's first half in the wording of a question."""
    return WORDING.format(passage.given)


def _score(
    asker: AdaptedModel, prompts: Sequence[list[int]], wanted: Sequence[list[int]]
) -> list[float]:
    """NLL per token of each wanted text after its prompt."""
    pad = asker.end_token()
    scores = token_log_probs(asker.model, prompts, wanted, batch=len(prompts), pad=pad)
    return [-float(log_probs.mean()) for log_probs in scores]


def _let_say(asker: AdaptedModel, worst: Sequence[Recited], *, batch: int) -> tuple[Recited, ...]:
    """The same with the adapter's own greedy continuations, as long as `asker` answers."""
    end = asker.end_token()
    answers = answer_greedily(
        asker.model,
        [asker.prompt(ask(item.passage)) for item in worst],
        max_tokens=asker.options.max_tokens,
        batch=batch,
        end=end,
        pad=end,
    )
    texts = [
        str(asker.base_tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in answers
    ]
    return tuple(
        Recited(item.passage, item.base_nll, item.adapter_nll, said)
        for item, said in zip(worst, texts, strict=True)
    )


def _row_chunks(originals: Originals, recited: Sequence[Recited]) -> tuple[Row, ...]:
    """One row a chunk, those without a passage included."""
    rows = []
    for stretch in originals.stretches:
        name, chunk = stretch.document.name, stretch.chunk
        place = stretch.place or (name if chunk is None else f"chunk {chunk}: {_begin(stretch)}")
        own = [
            item for item in recited if (item.passage.document, item.passage.chunk) == (name, chunk)
        ]
        rows.append(_mean_row(Row(name, place, chunk, None, 0), own))
    return tuple(rows)


def _begin(stretch: Stretch) -> str:
    """The first words of a stretch, where nothing else says which one it is."""
    words = stretch.document.text[stretch.start : stretch.stop].split()[:_BEGIN_WORDS]
    return " ".join(words) + " …"


def _row_pages(originals: Originals, recited: Sequence[Recited]) -> tuple[Row, ...]:
    """One row a page, those without a passage included."""
    rows = []
    for document in originals.documents:
        name = document.name
        for page in sorted({s.page for s in document.sections if s.page is not None}):
            own = [
                item
                for item in recited
                if (item.passage.document, item.passage.page) == (name, page)
            ]
            rows.append(_mean_row(Row(name, f"p. {page}", None, page, 0), own))
    return tuple(rows)


def _mean_row(row: Row, recited: Sequence[Recited]) -> Row:
    """The row with the means of some passages."""
    if not recited:
        return row
    return Row(
        row.document,
        row.place,
        row.chunk,
        row.page,
        len(recited),
        take_mean([item.base_nll for item in recited]).value,
        take_mean([item.adapter_nll for item in recited]).value,
        take_mean([item.gain for item in recited]),
    )


def _places(row: Row, key: str) -> dict[str, Any]:
    number = row.chunk if key == "chunk" else row.page
    return {"document": row.document, key: number, "place": row.place}


def _scores(row: Row) -> dict[str, Any]:
    return {
        "n": row.n,
        "base_nll": row.base_nll,
        "adapter_nll": row.adapter_nll,
        "gain": None if row.gain is None else row.gain.value,
        "stderr": None if row.gain is None else row.gain.stderr,
    }
