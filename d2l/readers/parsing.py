"""Request and result of a reader's parser, and its bounds."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from d2l.errors import DocumentError
from d2l.progress import Steps, ignore_steps
from d2l.readers.findings import Finding, gather

CELL = " | "  # between the cells of a table row, in every format
MAX_TITLE_CHARS = 200  # of a heading; longer titles are cut
MAX_LEVEL = 9  # of a heading; deeper levels are lowered to this
RAISED_NUMBER = re.compile(r"[+\u2212-]?\d")


class Heading(NamedTuple):
    """A heading at a position in its section's text; level 1 is the topmost."""

    start: int
    level: int
    title: str


class Section(NamedTuple):
    """A stretch of text from one place of a document.

    `page` counts from 1 and is set for paged formats; `heading` is the nearest heading above.
    `headings` are those in the text itself, in order: none if it continues another section.
    """

    text: str
    page: int | None = None
    heading: str | None = None
    headings: tuple[Heading, ...] = ()


@dataclass(frozen=True)
class ParseRequest:
    """The bytes of a document, with the options of reading it."""

    name: str  # of the document in messages
    data: bytes
    password: str | None = None
    encoding: str | None = None
    max_chars: int = 100_000_000
    max_unpacked_bytes: int = 1 << 30  # of an archive's members together
    on_progress: Steps = ignore_steps
    include_hidden: bool = False  # keep text that a reader of the document cannot see
    format: str = ""  # key of `formats.FORMATS`


class Parsed(NamedTuple):
    """Result of a parser: the text, and messages for the user."""

    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()  # warnings: text that may be missing or wrong
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()  # notes on text that is complete


Parser = Callable[[ParseRequest], Parsed]


def bound_text(sections: Iterable[Section], request: ParseRequest) -> Iterator[Section]:
    """Yield sections with bounded headings; raises DocumentError if they hold more text than
    allowed."""
    n_chars = 0
    for section in sections:
        n_chars += len(section.text)
        if n_chars > request.max_chars:
            raise DocumentError(
                f"{request.name}: more than {request.max_chars:,} characters of text",
                hint="raise the limit with --max-chars, or give a shorter document",
            )
        yield section._replace(headings=bound_headings(section)) if section.headings else section


def bound_headings(section: Section) -> tuple[Heading, ...]:
    """Shorten the titles of a section's headings; keep at most one heading for each line."""
    n_lines = section.text.count("\n") + 1
    return tuple(
        Heading(start, min(level, MAX_LEVEL), " ".join(title.split())[:MAX_TITLE_CHARS])
        for start, level, title in section.headings[:n_lines]
    )


def name_left_out(n_chars: int, kind: str) -> tuple[str, ...]:
    """Write a remark on text that is left out on purpose, if there is any."""
    s = "" if n_chars == 1 else "s"
    return (f"{n_chars:,} character{s} of {kind} left out",) if n_chars else ()


def damaged(request: ParseRequest, kind: str, why: str) -> DocumentError:
    """Make the error for a damaged file of a known kind."""
    return DocumentError(
        f"{request.name}: damaged or not a valid {kind} ({why})",
        hint="get an intact copy of the file, or open it in its own program and save it anew",
    )


def all_hidden(request: ParseRequest, findings: Iterable[Finding]) -> DocumentError:
    """Make the error for a document whose whole text is hidden."""
    hidden = (finding for finding in gather(findings) if finding.kind == "hidden")
    reasons = ", ".join(finding.what for finding in hidden)
    return DocumentError(
        f"{request.name}: all of its text is hidden ({reasons})",
        hint="look at the document, and give --include-hidden if it shall be compiled all the same",
    )
