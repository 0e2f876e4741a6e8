"""Adapter + its document → self-test: does the document come back, asked with its own sentences?

The self-test needs no questions and no other model. It scores the second half of a sentence given
the first half, which the prompt `WORDING` asks to continue: negative log-likelihood (NLL) in nats a
token with the adapter, and with the base alone in its own chat template. The difference is the
gain: an adapter that knows no more than the base gains 0, whatever the base knew before. A part of
the gain can be the document's style rather than its facts. Questions ask for facts: those of a
writer where the base has one (`questions`), or a file with `--qa`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from d2l.adapters.info import read_info
from d2l.bases.models import batched
from d2l.compiler.originals import Originals, read_originals
from d2l.errors import DocumentError
from d2l.evaluation.harm import FEW_PROMPTS, answer_general, measure_harm
from d2l.evaluation.metrics import Row, pick_evenly, take_mean
from d2l.evaluation.part_answers import answer_by_parts, asks_parts
from d2l.evaluation.selftest.passages import (
    MIN_WORDS,
    HalvedSentence,
    choose_passages,
    find_passages,
)
from d2l.evaluation.selftest.questions import (
    AnsweredQuestion,
    answer_questions,
    answer_texts,
    write_questions,
)
from d2l.inference.adapted_model import AdaptedModel, AskOptions
from d2l.inference.likelihood import token_log_probs
from d2l.progress import Progress, silent

WORDING = "How does this go on? {}"
#: How many of the worst passages are shown with what the adapter says instead.
N_WORST = 10
_BEGIN_WORDS = 5
#: Sentences, and questions of a writer, that are asked unless the caller says how many.
LIMIT = 32
#: Questions about a passage of 240 tokens that the base answers, about.
_PER_PASSAGE = 8


@dataclass(frozen=True)
class Recited:
    """A passage with its scores, in nats a token; `said` is the adapter's own continuation, which
    only the worst passages get."""

    passage: HalvedSentence
    base_nll: float
    adapter_nll: float
    said: str | None = None

    @property
    def gain(self) -> float:
        """Nats a token by which the adapter expects the wanted half better than the base does."""
        return self.base_nll - self.adapter_nll

    def to_json(self) -> Row:
        """As `d2l probe --json` prints it."""
        scores = {key: value for key, value in vars(self).items() if key != "passage"}
        return {**vars(self.passage), **scores, "gain": self.gain}


@dataclass(frozen=True)
class SelfTest:
    """The outcome; `n_sentences` counts those of the document, `total["n"]` those that were asked.

    `total` and the rows of `chunks` and `pages` hold means over their passages: `base_nll`,
    `adapter_nll`, `gain` and its `stderr`, all None where `n` is 0. `pages` is empty for formats
    without pages.
    """

    total: Row
    n_sentences: int
    chunks: tuple[Row, ...]
    pages: tuple[Row, ...]
    worst: tuple[Recited, ...]

    def to_json(self) -> dict[str, Any]:
        """As `d2l probe --json` prints it."""
        return {
            "wording": WORDING,
            "sentences": self.n_sentences,
            **self.total,
            "chunks": list(self.chunks),
            "pages": list(self.pages),
            "worst": [recited.to_json() for recited in self.worst],
        }


@dataclass(frozen=True)
class SelfReport:
    """What `d2l probe ADAPTER` tells; `harm` is None until it is measured."""

    adapter: str
    base: str
    selftest: SelfTest
    remarks: tuple[str, ...] = ()
    answered: tuple[AnsweredQuestion, ...] = ()  # questions of a writer, where the base has one
    n_written: int = 0  # questions of it, and those that the base answers from their passage
    n_answerable: int = 0
    harm: Row | None = None

    def to_json(self) -> dict[str, Any]:
        """As `d2l probe --json` prints it."""
        asked = [answered.to_json() for answered in self.answered]
        return {
            "selftest": self.selftest.to_json(),
            **({"questions": asked} if asked else {}),
            **({"questions_written": self.n_written} if self.n_written else {}),
            **({"harm": self.harm} if self.harm else {}),
            "rows": [],
        }


def probe_itself(
    adapter: Path,
    asking: AskOptions,
    *,
    document: str | None = None,
    limit: int = LIMIT,
    harm: bool = True,
    watch: Progress = silent,
) -> Iterator[SelfReport]:
    """Test one adapter with at most `limit` sentences of its own document, and as many questions;
    raises D2LError.

    `document` stands in for the compiled document where that has moved. Gives the report before
    harm is measured, which takes minutes, and with `harm` once more with it.
    """
    originals = read_originals(read_info(adapter), document)  # before weights are loaded
    asker = AdaptedModel.load(adapter, asking)
    selftest = run_selftest(asker, originals, limit=limit, watch=watch)
    written, n_written = write_questions(
        asker,
        originals,
        most=math.ceil(limit / _PER_PASSAGE),
        offline=asking.offline,
        watch=watch,
    )
    answered = answer_questions(asker, pick_evenly(written, limit), watch=watch)
    base = str(asker.info.config.get("base_model_name_or_path"))
    counts = n_written, len(written)
    report = SelfReport(str(adapter), base, selftest, originals.remarks, answered, *counts)
    yield report
    if harm:
        general = answer_general(asker, limit=FEW_PROMPTS, watch=watch)
        yield replace(report, harm=measure_harm(asker, general, watch=watch))


def run_selftest(
    asker: AdaptedModel,
    originals: Originals,
    *,
    limit: int = LIMIT,
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
    for some in watch(batched(choose_passages(passages, limit), batch), "self-test"):
        recited += _recite(asker, some)
    worst = sorted(recited, key=lambda item: item.gain)[:N_WORST]
    said = answer_texts(asker, [ask(item.passage) for item in worst], batch=batch)
    return SelfTest(
        total=_take_means(recited),
        n_sentences=len(passages),
        chunks=_row_chunks(originals, recited),
        pages=_row_pages(originals, recited),
        worst=tuple(replace(item, said=text) for item, text in zip(worst, said, strict=True)),
    )


def _recite(asker: AdaptedModel, passages: Sequence[HalvedSentence]) -> list[Recited]:
    """Score a batch of passages with the adapter and with the base alone."""
    wanted = [asker.encode(passage.wanted) for passage in passages]
    texts = [ask(passage) for passage in passages]
    if asks_parts(asker):
        pairs, parts = zip(texts, wanted, strict=True), asker.options.parts
        adapter = [
            -float(answer_by_parts(asker, *pair, parts, max_tokens=0)[0].mean()) for pair in pairs
        ]
    else:
        adapter = _score(asker, [asker.prompt(text) for text in texts], wanted)
    with asker.model.disable_adapter():
        base = _score(asker, [asker.prompt_alone(text) for text in texts], wanted)
    return [Recited(*scored) for scored in zip(passages, base, adapter, strict=True)]


def ask(passage: HalvedSentence) -> str:
    """The prompt that asks to continue the passage's first half."""
    return WORDING.format(passage.given)


def _score(
    asker: AdaptedModel, prompts: Sequence[list[int]], wanted: Sequence[list[int]]
) -> list[float]:
    """NLL per token of each wanted text after its prompt."""
    pad = asker.end_token()
    scores = token_log_probs(asker.model, prompts, wanted, batch=len(prompts), pad=pad)
    return [-float(log_probs.mean()) for log_probs in scores]


def _row_chunks(originals: Originals, recited: Sequence[Recited]) -> tuple[Row, ...]:
    """A row for every chunk, also for one without a passage."""
    rows = []
    for stretch in originals.stretches:
        name, chunk = stretch.document.name, stretch.chunk
        begins = " ".join(
            stretch.document.text[stretch.start : stretch.stop].split()[:_BEGIN_WORDS]
        )
        place = stretch.place or (name if chunk is None else f"chunk {chunk}: {begins} …")
        own = [r for r in recited if (r.passage.document, r.passage.chunk) == (name, chunk)]
        rows.append({"document": name, "chunk": chunk, "place": place, **_take_means(own)})
    return tuple(rows)


def _row_pages(originals: Originals, recited: Sequence[Recited]) -> tuple[Row, ...]:
    """A row for every page, also for one without a passage."""
    rows = []
    for document in originals.documents:
        name = document.name
        for page in sorted({s.page for s in document.sections if s.page is not None}):
            own = [r for r in recited if (r.passage.document, r.passage.page) == (name, page)]
            place = f"p. {page}"
            rows.append({"document": name, "page": page, "place": place, **_take_means(own)})
    return tuple(rows)


def _take_means(recited: Sequence[Recited]) -> Row:
    """Means over passages; None where there are none."""
    if not recited:
        return {"n": 0, "base_nll": None, "adapter_nll": None, "gain": None, "stderr": None}
    gain, error = take_mean([item.gain for item in recited])
    return {
        "n": len(recited),
        "base_nll": take_mean([item.base_nll for item in recited])[0],
        "adapter_nll": take_mean([item.adapter_nll for item in recited])[0],
        "gain": gain,
        "stderr": error,
    }
