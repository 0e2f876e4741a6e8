"""Adapter + its document → self-test: the adapter recites the document's own sentences.

The self-test needs no questions and no other model. It scores the second half of a sentence given
the first half, which the prompt `WORDING` asks to continue: negative log-likelihood (NLL) in nats a
token with the adapter, and with the base alone in its own chat template. The difference is the
gain: an adapter that knows no more than the base gains 0, whatever the base knew before. A part of
the gain can be the document's style rather than its facts. Questions ask for facts: those of a
writer if the base has one (`written`), or a file with `--qa`.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from d2l.adapters.info import read_info
from d2l.bases.models import batched
from d2l.compiler.originals import read_originals
from d2l.errors import DocumentError
from d2l.evaluation.harm import Harm, measure_harm
from d2l.evaluation.metrics import pick_evenly, take_mean
from d2l.evaluation.probe.passages import (
    MIN_WORDS,
    HalvedSentence,
    Place,
    choose_passages,
    find_passages,
    list_places,
)
from d2l.evaluation.probe.written import PageAnswer, answer_questions, write_questions
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.options import AskOptions
from d2l.inference.scoring import Query, answer_adapted, answer_alone
from d2l.progress import Progress, silent

WORDING = "How does this go on? {}"
#: Worst passages that are continued by the adapter.
N_WORST = 10
#: Most sentences, and most questions of a writer: some minutes.
LIMIT = 32
#: Questions about a passage of 240 tokens that the base answers, about.
_PER_PASSAGE = 8
_BATCH = 8


@dataclass(frozen=True)
class Recited:
    """A passage with its scores, in nats a token; `said` is the adapter's own continuation, of the
    worst passages alone."""

    passage: HalvedSentence
    base_nll: float
    adapter_nll: float
    said: str | None = None

    @property
    def gain(self) -> float:
        """Nats a token by which the adapter expects the wanted half better than the base does."""
        return self.base_nll - self.adapter_nll

    def to_json(self) -> dict[str, Any]:
        """The values of `d2l probe --json`."""
        scores = {key: value for key, value in vars(self).items() if key != "passage"}
        return {**vars(self.passage), **scores, "gain": self.gain}


@dataclass(frozen=True)
class Gain:
    """Means over the `n` passages of a place, None without passages; `stderr` is the gain's."""

    n: int
    base_nll: float | None = None
    adapter_nll: float | None = None
    gain: float | None = None
    stderr: float | None = None

    @classmethod
    def of(cls, recited: Sequence[Recited]) -> "Gain":
        """Take the means."""
        if not recited:
            return cls(0)
        base_nll, _ = take_mean([item.base_nll for item in recited])
        adapter_nll, _ = take_mean([item.adapter_nll for item in recited])
        return cls(len(recited), base_nll, adapter_nll, *take_mean([r.gain for r in recited]))


@dataclass(frozen=True)
class PlaceGain:
    """The gain on one chunk or page."""

    place: Place
    gain: Gain

    def to_json(self) -> dict[str, Any]:
        """The values of `d2l probe --json`."""
        return asdict(self.place) | asdict(self.gain)


@dataclass(frozen=True)
class SelfTest:
    """The gain in all, and by place, also of places without a passage; `n_sentences` counts those
    of the document."""

    total: Gain
    n_sentences: int
    places: tuple[PlaceGain, ...]
    worst: tuple[Recited, ...]

    def to_json(self) -> dict[str, Any]:
        """The values of `d2l probe --json`."""
        return {
            "wording": WORDING,
            "sentences": self.n_sentences,
            **asdict(self.total),
            "places": [row.to_json() for row in self.places],
            "worst": [recited.to_json() for recited in self.worst],
        }


@dataclass(frozen=True)
class SelfReport:
    """The outcome of `d2l probe ADAPTER`.

    `answered`: questions of the base's writer. It wrote `n_written`, of which the base answers
    `n_answerable` from their passage.
    """

    adapter: str
    base: str
    selftest: SelfTest
    harm: Harm
    remarks: tuple[str, ...] = ()
    answered: tuple[PageAnswer, ...] = ()
    n_written: int = 0
    n_answerable: int = 0

    def to_json(self) -> dict[str, Any]:
        """The values of `d2l probe --json`."""
        asked = [answered.to_json() for answered in self.answered]
        return {
            "selftest": self.selftest.to_json(),
            **({"questions": asked} if asked else {}),
            **({"questions_written": self.n_written} if self.n_written else {}),
            "harm": asdict(self.harm),
        }


def probe_itself(
    adapter: Path,
    *,
    document: str | None,
    asking: AskOptions,
    watch: Progress = silent,
) -> SelfReport:
    """Test an adapter with sentences of its own document, harm, and questions of a writer.

    At most `LIMIT` sentences, spread evenly over the chunks, and as many questions. `document`
    stands in for the compiled document if that has moved. Raises D2LError.
    """
    info = read_info(adapter)
    originals = read_originals(info, document)  # before weights are loaded
    passages = find_passages(originals.stretches)
    if not passages:
        raise DocumentError(
            f"{originals.documents[0].name}: has no sentence of {MIN_WORDS} or more words, "
            "so it cannot be tested from itself",
            hint="write questions and give them with --qa FILE",
        )
    asker = AdaptedModel.load(adapter, asking)
    recited: list[Recited] = []
    for some in watch(batched(choose_passages(passages, LIMIT), _BATCH), "self-test"):
        asked = [Query(ask(passage), tuple(asker.encode(passage.wanted))) for passage in some]
        own = answer_adapted(asker, asked, max_tokens=0)
        base = answer_alone(asker, asked, max_tokens=0)
        recited += [
            Recited(passage, -float(alone.log_probs.mean()), -float(adapted.log_probs.mean()))
            for passage, alone, adapted in zip(some, base, own, strict=True)
        ]
    worst = sorted(recited, key=lambda item: item.gain)[:N_WORST]
    said = answer_adapted(asker, [Query(ask(item.passage)) for item in worst])
    harm = measure_harm(asker, watch=watch)
    n_passages = math.ceil(LIMIT / _PER_PASSAGE)
    written, n_written = write_questions(
        asker, originals, most=n_passages, offline=asking.offline, watch=watch
    )
    chosen = pick_evenly(written, LIMIT)
    return SelfReport(
        adapter=str(adapter),
        base=str(asker.info.config.get("base_model_name_or_path")),
        selftest=SelfTest(
            total=Gain.of(recited),
            n_sentences=len(passages),
            places=tuple(
                PlaceGain(place, Gain.of([item for item in recited if place.holds(item.passage)]))
                for place in list_places(originals)
            ),
            worst=tuple(replace(item, said=a.text) for item, a in zip(worst, said, strict=True)),
        ),
        answered=answer_questions(asker, chosen, watch=watch),
        harm=harm,
        remarks=originals.remarks,
        n_written=n_written,
        n_answerable=len(written),
    )


def ask(passage: HalvedSentence) -> str:
    """Word the prompt that asks to continue the passage's first half."""
    return WORDING.format(passage.given)
