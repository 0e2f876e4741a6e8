"""Observed answers against expected ones → which state an adapter is in at an endpoint."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d2l.evaluation.live.endpoint import Endpoint, Observed
from d2l.evaluation.live.expectations import Expectations, Expected
from d2l.evaluation.live.states import RIGHT, STATES
from d2l.progress import Progress, silent

#: Distances, from 0 to 1, beyond which a state is not recognized, and by which states differ.
FARTHEST, MARGIN = 0.4, 0.02


@dataclass(frozen=True)
class LiveReport:
    """The distance of what was observed to every state, the likely ones first among `found`.

    `found` is empty where none is near; several are there where they cannot be told apart.
    `by` says what was compared: "token probabilities" or "answers".
    """

    url: str
    model: str
    n_questions: int
    by: str
    distances: Mapping[str, float]
    found: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """Whether the adapter is in effect, and nothing else fits as well."""
        return self.found == (RIGHT,)

    @property
    def said(self) -> str:
        """The finding in one line."""
        if not self.found:
            return (
                "the answers fit neither the adapter nor its base: is it another base or adapter?"
            )
        if RIGHT in self.found and not self.passes:
            return "the adapter changes too little to tell whether it is in effect"
        return ", or ".join(STATES[name].said for name in self.found)

    @property
    def advice(self) -> str:
        """What to do about it; "" where all is well."""
        if not self.found:
            return "name the adapter that is served there, and compare the base's name and file"
        if RIGHT in self.found and not self.passes:
            return "ask about an adapter of a longer document"
        return STATES[self.found[0]].advice

    def to_json(self) -> dict[str, Any]:
        """As `d2l check --live --json` prints it."""
        return {
            "url": self.url,
            "model": self.model,
            "passes": self.passes,
            "found": list(self.found),
            "message": self.said,
            "fix": self.advice,
            "questions": self.n_questions,
            "by": self.by,
            "distances": {name: round(d, 4) for name, d in self.distances.items()},
        }


def check_live(
    endpoint: Endpoint, expectations: Expectations, watch: Progress = silent
) -> LiveReport:
    """Ask the questions and compare; raises ProbeError where the endpoint cannot be asked."""
    seen = [
        endpoint.ask(question.text, expectations.max_tokens)
        for question in watch(expectations.questions, "asking")
    ]
    told = all(observed.top is not None for observed in seen)
    measure = _compare_tops if told else _compare_answers
    distances = {
        name: _mean(
            [
                measure(observed, question.expected[name])
                for observed, question in zip(seen, expectations.questions, strict=True)
                if name in question.expected
            ]
        )
        for name in STATES
    }
    return LiveReport(
        endpoint.url,
        endpoint.model,
        len(seen),
        "token probabilities" if told else "answers",
        distances,
        _find_nearest(distances),
    )


def _find_nearest(distances: Mapping[str, float]) -> tuple[str, ...]:
    """The nearest state, and those that are as near but for a margin; none if all are far."""
    ranked = sorted(distances, key=lambda name: distances[name])
    nearest = distances[ranked[0]]
    if nearest > FARTHEST:
        return ()
    return tuple(name for name in ranked if distances[name] <= nearest + MARGIN)


def _compare_tops(observed: Observed, expected: Expected) -> float:
    """Total variation between two distributions of the first token, from 0 to 1.

    What is not among the likeliest tokens counts as one token more. Engines differ in how they
    write white space around tokens, so it does not count.
    """
    one, other = _add_up(observed.top or ()), _add_up(expected.top)
    apart = sum(abs(one.get(key, 0.0) - other.get(key, 0.0)) for key in one.keys() | other.keys())
    return 0.5 * (apart + abs(sum(one.values()) - sum(other.values())))


def _add_up(top: Sequence[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for token, logprob in top:
        key = token.replace("\u0120", " ").replace("\u2581", " ").strip()  # as BPE writes spaces
        found[key] = found.get(key, 0.0) + math.exp(min(logprob, 0.0))
    return found


def _compare_answers(observed: Observed, expected: Expected) -> float:
    """The share of two answers behind what both begin with, from 0 to 1."""
    longest = max(len(observed.answer), len(expected.answer))
    pairs = zip(observed.answer, expected.answer, strict=False)
    n_same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    return 1 - n_same / longest if longest else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 1.0
