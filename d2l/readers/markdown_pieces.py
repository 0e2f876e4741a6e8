"""Markdown cut into what is code, markup, and text, as its readers' programs cut it.

Takes text, gives places in it; knows nothing of what markup means. One pass: whatever is looked
for ahead is looked for once.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from d2l.readers.text import ATX, FENCE, skip_front_matter

BlockKind = Literal["code", "html", "inline", "comment"]
PieceKind = Literal["text", "code", "tag", "comment", "definition", "start", "end"]

#: Start and end of quotes and list items, before what a line holds.
_PREFIX = re.compile(r"[ \t]*+(?:>[ \t]?|[-*+](?:[ \t]++|(?=\n|$))|\d{1,9}[.)][ \t]++)*+[ \t]*+")
_ITEM = re.compile(r"[-*+\d]")
_INDENT = re.compile(r"[ \t]*")
_RAW_START = re.compile(r"<(?:script|pre|style|textarea)(?=[\s>]|$)", re.I)
_RAW_END = re.compile(r"</(?:script|pre|style|textarea)>", re.I)
# Elements that begin a block of markup, which ends with an empty line, and holds no Markdown.
_BLOCK_TAG = re.compile(
    r"</?(?:address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd"
    r"|details|dialog|dir|div|dl|dt|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]"
    r"|head|header|hr|html|iframe|legend|li|link|main|menu|menuitem|nav|noframes|ol|optgroup"
    r"|option|p|param|search|section|summary|table|tbody|td|tfoot|th|thead|title|tr|track|ul)"
    r"(?=[\s/>]|$)",
    re.I,
)
#: A tag, as browsers take it: values in quotes may hold anything but an empty line.
TAG = re.compile(
    r"<(?P<slash>/?)(?P<name>[A-Za-z][A-Za-z0-9-]{0,60})(?=[\s/>])"
    r"(?P<rest>(?:[^<>=]|=\s{0,20}(?:\"[^\"]*\"|'[^']*')|=)*+)>"
)
_BOGUS = re.compile(r"<(?:![A-Za-z\[]|\?[A-Za-z])")  # comments of another spelling begin
_SPECIAL = re.compile(r"\\[\\`<]|`+|<!--|<[A-Za-z/!?]")
_TICKS = re.compile(r"`+")
#: A definition of a link: its label, where it leads, and its title.
DEFINITION = re.compile(
    r" {0,3}\[(?P<label>(?:[^\[\]\\]|\\.){1,999})\]:[ \t]*+(?:\n[ \t]*+)?(?!\n)"
    r"(?P<where><[^<>\n]*>|[^\s<]\S*+)"
    r"(?P<title>(?:[ \t]++|[ \t]*+\n[ \t]*+)(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?[ \t]*+(?:\n|\Z)"
)


class MarkupPiece(NamedTuple):
    """A stretch of the text; "start" and "end" of a paragraph are empty."""

    kind: PieceKind
    start: int
    end: int


class _Block(NamedTuple):
    kind: BlockKind
    start: int
    end: int


class _Fence(NamedTuple):
    """An open code fence: its mark, and how deep in lists and quotes it stands."""

    mark: str
    indent: int
    is_quoted: bool


@dataclass
class _Cutter:
    """Cut a text into blocks line by line."""

    text: str
    found: list[_Block] = field(default_factory=list)
    mode: BlockKind | None = None  # of the block that the next line may go on with
    fence: _Fence | None = None
    is_raw: bool = False  # inside an element that an empty line does not end
    offset: int = 0  # where the text of the open list item begins; 0: none is open
    is_quoted: bool = False  # where the block of markup stands that the next line may go on with

    def run(self) -> list[_Block]:
        """Give the blocks in order; what is between them is empty lines and marks."""
        at = 0
        if self.text.startswith("---"):
            for _ in range(skip_front_matter(self.text.split("\n"))):
                at = self._line_end(at)
        while at < len(self.text):
            at = self._take_line(at)
        return self.found

    def _line_end(self, at: int) -> int:
        end = self.text.find("\n", at)
        return len(self.text) if end < 0 else end + 1

    def _add(self, kind: BlockKind, start: int, end: int, *, goes_on: bool) -> None:
        if goes_on and self.found and self.found[-1].kind == kind:
            self.found[-1] = self.found[-1]._replace(end=end)
        else:
            self.found.append(_Block(kind, start, end))

    def _take_line(self, start: int) -> int:
        """Take the line that begins here, and what it opens; give where the next one begins."""
        end = self._line_end(start)
        line = self.text[start:end]
        if self.fence is not None and self._stays_in_fence(self.fence, line):
            self._add("code", start, end, goes_on=True)
            stripped = line.lstrip(" \t>").rstrip()
            if stripped.startswith(self.fence.mark) and not stripped.strip(self.fence.mark[0]):
                self.fence = None
            return end
        self.fence = None
        if self.is_raw:
            self._add("html", start, end, goes_on=True)
            self.is_raw = _RAW_END.search(line) is None
            return end
        if not line.strip():
            self.mode = None
            return end
        indent = len(_INDENT.match(line)[0].expandtabs(4))  # type: ignore[index]  # always matches
        if self.mode is None and indent >= self.offset + 4:
            self._add("code", start, end, goes_on=False)
            return end
        return self._take_content(start, end, indent)

    def _stays_in_fence(self, fence: _Fence, line: str) -> bool:
        if not line.strip():
            return not fence.is_quoted
        if fence.is_quoted:
            return line.lstrip(" \t").startswith(">")
        return len(_INDENT.match(line)[0].expandtabs(4)) >= fence.indent  # type: ignore[index]

    def _take_content(self, start: int, end: int, indent: int) -> int:
        prefix = _PREFIX.match(self.text, start, end)
        at = prefix.end() if prefix else start
        marks = self.text[start:at]
        if self.mode == "html" and (">" in marks if self.is_quoted else indent >= self.offset):
            self._add("html", start, end, goes_on=True)
            return end
        line = self.text[at:end]
        opening = FENCE.match(line.rstrip("\n"))
        if _ITEM.search(marks):
            self.offset, self.mode = at - start, None
        elif indent < self.offset and (self.mode is None or opening or line.startswith("<")):
            self.offset = 0  # only words go on with a list item from the edge
        if opening:
            is_quoted = ">" in marks
            self.fence = _Fence(opening["mark"], 0 if is_quoted else self.offset, is_quoted)
            self._add("code", at, end, goes_on=False)
            self.mode = None
        elif line.startswith("<!--"):
            return self._take_comment(at)
        elif _RAW_START.match(line):
            self.is_raw = _RAW_END.search(line) is None
            self._add("html", at, end, goes_on=False)
            self.mode = None
        else:
            tag = TAG.match(line) if self.mode is None else None
            if _BLOCK_TAG.match(line) or (tag and not line[tag.end() :].strip()):
                self._add("html", at, end, goes_on=False)
                self.mode, self.is_quoted = "html", ">" in marks
            else:
                self._add("inline", at, end, goes_on=self.mode == "inline")
                self.mode = None if ATX.match(line) else "inline"
        return end

    def _take_comment(self, start: int) -> int:
        """A comment goes on over empty lines, to the end of the text if nothing ends it."""
        close = self.text.find("-->", start + 2)
        close = len(self.text) if close < 0 else close + 3
        self._add("comment", start, close, goes_on=False)
        end = self._line_end(close) if close < len(self.text) else close
        if self.text[close:end].strip():
            self._add("html", close, end, goes_on=False)
        return end


def cut(text: str) -> Iterator[MarkupPiece]:
    """Yield the pieces of a Markdown text in order."""
    resume = 0  # a comment in markup may reach over the ends of blocks
    for block in _Cutter(text).run():
        start = max(block.start, resume)
        if start >= block.end:
            continue
        if block.kind in ("code", "comment"):
            yield MarkupPiece("code" if block.kind == "code" else "comment", start, block.end)
            continue
        if block.kind == "inline":
            yield MarkupPiece("start", start, start)
        for piece in _cut_block(text, start, block.end, is_html=block.kind == "html"):
            yield piece
            resume = piece.end
        if block.kind == "inline":
            yield MarkupPiece("end", block.end, block.end)


def _cut_block(text: str, at: int, end: int, *, is_html: bool) -> Iterator[MarkupPiece]:
    """Pieces of a block of markup, or of a paragraph."""
    while not is_html and (definition := DEFINITION.match(text, at, end)):
        yield MarkupPiece("definition", at, definition.end())
        at = definition.end()
    ticks = {} if is_html else _find_ticks(text, at, end)
    comments = _Ahead(text, "-->", len(text) if is_html else end)
    brackets = _Ahead(text, ">", end)
    begin = at
    while special := _SPECIAL.search(text, at, end):
        at = special.end()
        kind: PieceKind = "tag"
        stop = -1
        if special[0].startswith("`"):
            kind, stop = "code", _next_ticks(ticks, len(special[0]), at)
        elif special[0] == "<!--":
            kind, stop = "comment", comments.find(at - 2)
            stop = len(text) if is_html and stop < 0 else stop
        elif _BOGUS.match(text, special.start(), end):
            kind, stop = "comment", brackets.find(at)
        elif special[0].startswith("<") and (tag := TAG.match(text, special.start(), end)):
            stop = tag.end()
        if stop < 0:
            continue
        if begin < special.start():
            yield MarkupPiece("text", begin, special.start())
        yield MarkupPiece(kind, special.start(), stop)
        begin = at = stop
    if begin < end:
        yield MarkupPiece("text", begin, end)


@dataclass
class _Ahead:
    """Where a word comes next; asked for places in order, it looks at each once."""

    text: str
    word: str
    end: int  # of where it is looked for
    found: int = -1

    def find(self, at: int) -> int:
        """The end of the next one from a place on; -1: there is none."""
        if self.found < at:
            next_one = self.text.find(self.word, at, self.end)
            self.found = self.end if next_one < 0 else next_one
        return -1 if self.found >= self.end else self.found + len(self.word)


def _find_ticks(text: str, start: int, end: int) -> dict[int, list[int]]:
    """Where runs of backticks begin, by their length."""
    found: dict[int, list[int]] = {}
    for match in _TICKS.finditer(text, start, end):
        found.setdefault(len(match[0]), []).append(match.start())
    return found


def _next_ticks(found: dict[int, list[int]], length: int, at: int) -> int:
    """The end of the next run of this length; -1: none."""
    places = found.get(length, [])
    number = bisect_left(places, at)
    return places[number] + length if number < len(places) else -1
