"""Plain text with marks: reStructuredText and AsciiDoc cut at their headings, subtitles.

Bytes in any encoding in, their text out.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from d2l.readers.parsing import Parsed, ParseRequest, Section, bound_text
from d2l.readers.sniff import decode
from d2l.readers.text import encoding_notes, split_at

ADOC_TITLE = re.compile(r"(={1,6})[ \t](?=[^\s=])")
ADOC_FENCE = re.compile(r"(-{4,}|\.{4,}|\+{4,}|/{4,}|```)[ \t]*$")
RST_SIGNS = frozenset("=-`:.'\"~^_*+#<>")
LEAST_LINE = 3  # signs of a line below a title
STYLE = re.compile(r"</?(?:[ibu]|font\b[^<>]{0,99})>|\{\\an?\d\}")
TIMES = "-->"


def parse_rst(request: ParseRequest) -> Parsed:
    """Cut reStructuredText at its titles; the text stays unchanged."""
    decoded = decode(request.data, request.name, request.encoding)
    lines = decoded.text.split("\n")
    sections = bound_text(split_at(lines, find_rst_titles(lines)), request)
    return Parsed(tuple(sections), encoding_notes(decoded))


def parse_asciidoc(request: ParseRequest) -> Parsed:
    """Cut AsciiDoc at its titles; the text stays unchanged."""
    decoded = decode(request.data, request.name, request.encoding)
    lines = decoded.text.split("\n")
    sections = bound_text(split_at(lines, find_adoc_titles(lines)), request)
    return Parsed(tuple(sections), encoding_notes(decoded))


def parse_subtitles(request: ParseRequest) -> Parsed:
    """Read the words of subtitles, a line for each, without numbers and times."""
    decoded = decode(request.data, request.name, request.encoding)
    texts = []
    for block in decoded.text.split("\n\n"):
        lines = block.strip().split("\n")
        timed = next((n for n, line in enumerate(lines) if TIMES in line), None)
        if timed is not None:
            texts.append(STYLE.sub("", " ".join(lines[timed + 1 :])).strip())
    section = Section("\n".join(filter(None, texts)))
    return Parsed(tuple(bound_text([section], request)), encoding_notes(decoded))


def find_rst_titles(lines: list[str]) -> Iterator[tuple[int, int, str | None]]:
    """Yield (line, level, title) of lines with a line of signs below, or above and below."""
    styles: list[tuple[str, bool]] = []  # the outermost first
    for number, (title, below) in enumerate(pairwise(lines)):
        line, above = below.rstrip(), lines[number - 1].rstrip() if number else ""
        is_line = len(line) >= max(LEAST_LINE, len(title.rstrip())) and set(line) <= {line[0]}
        if not is_line or line[0] not in RST_SIGNS or not title.strip():
            continue
        is_between = above == line
        if set(title.strip()) <= RST_SIGNS or not (is_between or (not above and title[0] != " ")):
            continue
        style = (line[0], is_between)
        if style not in styles:
            styles.append(style)
        yield number - is_between, styles.index(style) + 1, title.strip()


def find_adoc_titles(lines: list[str]) -> Iterator[tuple[int, int, str | None]]:
    """Yield (line, level, title) of titles outside code."""
    fence = ""
    for number, line in enumerate(lines):
        if (mark := ADOC_FENCE.match(line)) and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        elif not fence and (title := ADOC_TITLE.match(line)):
            yield number, len(title[1]), line[title.end() :].strip()
