"""A document as the compiler sees it: text that knows where it came from.

Knows nothing of files or formats: readers make these values.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Source:
    """One input before it is read: a file, or standard input.

    `name` is safe to print. Without a path the bytes are `data`, or what standard input holds.
    """

    name: str
    path: Path | None = None
    data: bytes | None = None


@dataclass(frozen=True)
class Section:
    """A stretch of text from one place of a document.

    `page` counts from 1 and is set for paged formats; `heading` is the nearest heading above.
    """

    text: str
    page: int | None = None
    heading: str | None = None


@dataclass(frozen=True)
class Document:
    """One input as text.

    `name` is what messages and provenance call it (the path as given, or "-");
    `format` is a key of `readers.READERS`; `digest` is the SHA-256 of the input's bytes in hex.
    """

    name: str
    format: str
    sections: tuple[Section, ...]
    digest: str
    size_bytes: int
    notes: tuple[str, ...] = ()  # what the reader wants told, e.g. "3 of 12 pages have no text"

    @cached_property
    def text(self) -> str:
        """All sections, joined by an empty line; a plain text file comes back unchanged."""
        return SEPARATOR.join(section.text for section in self.sections)

    def spans(self) -> Iterator[tuple[int, int, Section]]:
        """Yield (start, stop, section) in characters of `text`; a separator belongs to the left."""
        start = 0
        for section in self.sections:
            stop = start + len(section.text) + len(SEPARATOR)
            yield start, stop, section
            start = stop

    def where(self, start: int, stop: int) -> str:
        """Name the place of characters start…stop of `text`: "p. 3-5", "§ Filters", or ""."""
        hit = [s for begin, end, s in self.spans() if begin < max(stop, start + 1) and end > start]
        pages = [section.page for section in hit if section.page is not None]
        if pages:
            first, last = min(pages), max(pages)
            return f"p. {first}" if first == last else f"p. {first}-{last}"
        headings = [section.heading for section in hit if section.heading]
        if not headings:
            return ""
        first_heading, last_heading = headings[0], headings[-1]
        if first_heading == last_heading:
            return f"§ {first_heading}"
        return f"§ {first_heading} … {last_heading}"
