"""A document for the compiler: text with its pages and headings, made by the readers."""

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path

from d2l.readers.findings import Finding
from d2l.readers.parsing import Heading, Section

SEPARATOR = "\n\n"
_NUMBER = re.compile(r"(?:[^\W\d_]+ )?(?P<number>\d{1,4}(?:\.\d{1,4}){0,7})(?=[.: ]|$)")


@dataclass(frozen=True)
class Source:
    """A file or standard input, before it is read.

    `name` is safe to print. Without a path the bytes are `data`, or those of standard input.
    `include_hidden`: keep text that a reader of the document cannot see.
    """

    name: str
    path: Path | None = None
    data: bytes | None = None
    include_hidden: bool = False
    shared: str = ""  # the name to pass on with an adapter: without the user's folders


@dataclass(frozen=True)
class Document:
    """A document's text, with its source.

    `name` stands in messages and provenance (the path as given, or "-"); `format` is a key of
    `formats.FORMATS`; `digest` is the SHA-256 of the input's bytes in hex.
    """

    name: str
    format: str
    sections: tuple[Section, ...] = field(repr=False)
    digest: str
    size_bytes: int
    notes: tuple[str, ...] = ()  # text that may be missing or wrong: "3 of 12 pages have no text"
    findings: tuple[Finding, ...] = ()  # hidden text, and the like
    include_hidden: bool = False  # `text` holds hidden text, too
    shared: str = ""  # as `Source.shared`
    remarks: tuple[str, ...] = ()  # other notes of the reader; no text is lost

    @classmethod
    def from_text(cls, text: str, *, name: str = "text") -> "Document":
        """Make a document of a text without a file; its adapter calls it `name`."""
        data = text.encode("utf-8", errors="backslashreplace")
        digest = hashlib.sha256(data).hexdigest()
        return cls(name, "text", (Section(text),), digest, len(data), shared=name)

    @cached_property
    def text(self) -> str:
        """Text of the sections, joined by empty lines; that of a plain text file is unchanged."""
        return SEPARATOR.join(section.text for section in self.sections)

    def spans(self) -> Iterator[tuple[int, int, Section]]:
        """Yield (start, stop, section) in characters of `text`; a separator belongs to the left."""
        for (start, stop), section in zip(pairwise(self._starts), self.sections, strict=True):
            yield start, stop, section

    @cached_property
    def _starts(self) -> list[int]:
        """Start of each section in `text`, and the end of the last with its separator."""
        lengths = (len(section.text) + len(SEPARATOR) for section in self.sections)
        return list(accumulate(lengths, initial=0))

    def find_page(self, position: int) -> int | None:
        """Find the page with a character of `text`; None in formats without pages."""
        for start, stop, section in self.spans():
            if start <= position < stop:
                return section.page
        return None

    def heading_path(self, position: int) -> tuple[str, ...]:
        """Titles of the headings above a character of `text`, or around it, outermost first."""
        starts, paths = self._paths
        return paths[bisect_right(starts, position)]

    @property
    def heading_starts(self) -> list[int]:
        """Positions of headings in `text`, in order."""
        return list(dict.fromkeys(self._paths[0]))

    @cached_property
    def _paths(self) -> tuple[list[int], list[tuple[str, ...]]]:
        """Positions of headings, and the heading paths: before the first, and from each on."""
        starts: list[int] = []
        paths: list[tuple[str, ...]] = [()]
        above: list[Heading] = []
        for at, _, section in self.spans():
            for heading in section.headings:
                above = [other for other in above if _is_below(heading, other)] + [heading]
                starts.append(at + heading.start)
                paths.append(tuple(heading.title for heading in above))
        return starts, paths

    def where(self, start: int, stop: int) -> str:
        """Name the place of characters start…stop of `text`: "p. 3-5", "§ Filters", or ""."""
        first = max(0, bisect_right(self._starts, start) - 1)
        hit = self.sections[first : bisect_left(self._starts, max(stop, start + 1))]
        pages = [section.page for section in hit if section.page is not None]
        if pages:
            return "p. " + "-".join(map(str, sorted({min(pages), max(pages)})))
        headings = [section.heading for section in hit if section.heading]
        if not headings:  # a plain text is one section
            starts, paths = self._paths
            inside = slice(bisect_right(starts, start), bisect_left(starts, stop) + 1)
            headings = [path[-1] for path in paths[inside] if path]
        return "§ " + " … ".join(dict.fromkeys((headings[0], headings[-1]))) if headings else ""


def _is_below(heading: Heading, other: Heading) -> bool:
    """True if a heading is below an earlier one: by its level, or by its number, since some books
    give "Chapter 4" and "4.1" the same level."""
    number, outer = _NUMBER.match(heading.title), _NUMBER.match(other.title)
    if number and outer and number["number"].startswith(outer["number"] + "."):
        return True
    return other.level < heading.level
