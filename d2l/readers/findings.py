"""Findings in a document's text that its user should know before compiling: hidden text, and more.

A finding has counts and places, but no text of the document; of what the reader drops it has the
first words.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["dropped", "hidden", "overflow", "characters", "furniture"]
KINDS: tuple[Kind, ...] = get_args(Kind)

N_PLACES_SHOWN = 5  # in a line for people
MAX_PLACES = 1000  # of one finding; `count` has no bound


@dataclass(frozen=True)
class Finding:
    """A sort of finding in a document.

    `what` names the sort; `count` are characters of text that is left out, else occurrences. Places
    are pages of paged formats, else lines of the text; both count from 1.
    """

    kind: Kind
    what: str
    count: int
    pages: tuple[int, ...] = ()
    lines: tuple[int, ...] = ()


def gather(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Add up findings of the same sort; lost text comes first, each kind's sorts in order."""

    def join(places: Iterable[Sequence[int]]) -> tuple[int, ...]:
        return tuple(sorted({number for numbers in places for number in numbers})[:MAX_PLACES])

    sorts: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        sorts.setdefault((finding.kind, finding.what), []).append(finding)
    added = (
        Finding(
            same[0].kind,
            same[0].what,
            sum(finding.count for finding in same),
            join(finding.pages for finding in same),
            join(finding.lines for finding in same),
        )
        for same in sorts.values()
    )
    return tuple(sorted(added, key=lambda finding: KINDS.index(finding.kind)))


def describe(finding: Finding, *, include_hidden: bool = False) -> str:
    """Describe it: "p. 2, 7: 140 characters of hidden text (white on white), left out"."""
    places = name_places(finding)
    words = _WORDS[finding.kind].format(
        count=f"{finding.count:,}",
        s="" if finding.count == 1 else "s",
        what=finding.what,
        done="included" if include_hidden else "left out",
    )
    return f"{places}: {words}" if places else words


_WORDS: dict[Kind, str] = {
    "dropped": "{count} character{s} of text beside the article left out: {what}",
    "hidden": "{count} character{s} of hidden text ({what}), {done}",
    "overflow": "{count} character{s} cannot be seen ({what}), kept",
    "characters": "{count} invisible character{s} ({what})",
    "furniture": "{count} character{s} left out: {what}",
}


def name_places(finding: Finding) -> str:
    """Name the places: "p. 2, 7", "line 3", or "" if they are unknown."""
    numbers = finding.pages or finding.lines
    if not numbers:
        return ""
    unit = "p." if finding.pages else ("line" if len(numbers) == 1 else "lines")
    more = ", …" if len(numbers) > N_PLACES_SHOWN else ""
    return f"{unit} {', '.join(map(str, numbers[:N_PLACES_SHOWN]))}{more}"
