"""What a reader's parser takes and gives, and the bounds that it keeps.

Takes the bytes of one document, gives sections; knows no format and no process.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from d2l.errors import DocumentError
from d2l.progress import Steps, ignore_steps
from d2l.readers.findings import Finding, gather

CELL = " | "  # between the cells of a table row, in every format
MAX_TITLE_CHARS = 200  # of a heading; the rest of a longer title is left out
MAX_LEVEL = 9  # of a heading; deeper ones count as this deep
_RAISED_NUMBER = re.compile(r"[+\u2212-]?\d")


class Heading(NamedTuple):
    """A heading at a character of its section's text; level 1 is the topmost."""

    start: int
    level: int
    title: str


class Section(NamedTuple):
    """A stretch of text from one place of a document.

    `page` counts from 1 and is set for paged formats; `heading` is the nearest heading above.
    `headings` are those that stand in the text itself, in order: none where a section goes on.
    """

    text: str
    page: int | None = None
    heading: str | None = None
    headings: tuple[Heading, ...] = ()


@dataclass(frozen=True)
class ParseRequest:
    """The bytes of one document and how to read them."""

    name: str  # what messages call the document
    data: bytes
    password: str | None = None
    encoding: str | None = None
    max_chars: int = 100_000_000
    max_unpacked_bytes: int = 1 << 30  # of an archive's members together
    on_progress: Steps = ignore_steps
    include_hidden: bool = False  # text that a reader of the document cannot see, too


class Parsed(NamedTuple):
    """What a parser found: the text, and what the user should be told about it."""

    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()  # warnings: text that may be missing or wrong
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()  # nothing of the text is lost


Parser = Callable[[ParseRequest], Parsed]


def bound_text(sections: Iterable[Section], request: ParseRequest) -> Iterator[Section]:
    """Pass sections on, their headings bounded, until they hold more text than allowed; then raise
    DocumentError."""
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


def joins_number(before: str, raised: str) -> bool:
    """Whether a raised number follows a digit, so that the two would read as one number."""
    return before[-1:].isdigit() and _RAISED_NUMBER.match(raised) is not None


def name_left_out(n_chars: int, what: str) -> tuple[str, ...]:
    """A remark on text that is left out on purpose, if there is any."""
    s = "" if n_chars == 1 else "s"
    return (f"{n_chars:,} character{s} of {what} left out",) if n_chars else ()


def damaged(request: ParseRequest, kind: str, why: str) -> DocumentError:
    """Say that a file of a known kind cannot be parsed; the caller raises the result."""
    return DocumentError(
        f"{request.name}: damaged or not a valid {kind} ({why})",
        hint="get an intact copy of the file, or open it in its own program and save it anew",
    )


def all_hidden(request: ParseRequest, findings: Iterable[Finding]) -> DocumentError:
    """Say that no text is left but what cannot be seen; the caller raises the result."""
    hidden = (finding for finding in gather(findings) if finding.kind == "hidden")
    reasons = ", ".join(finding.what for finding in hidden)
    return DocumentError(
        f"{request.name}: all of its text is hidden ({reasons})",
        hint="look at the document, and give --include-hidden if it shall be compiled all the same",
    )
