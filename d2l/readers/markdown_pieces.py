"""Cut Markdown into code, markup and text, like the programs that display it.

Text in, positions out, in one pass: each word ahead is searched once.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from d2l.readers.text import ATX, FENCE, skip_front_matter

BlockKind = Literal["code", "html", "inline", "comment"]
PieceKind = Literal["text", "code", "tag", "comment", "definition", "start", "end"]

#: Marks of quotes and list items, before the content of a line.
_PREFIX = re.compile(r"[ \t]*+(?:>[ \t]?|[-*+](?:[ \t]++|(?=\n|$))|\d{1,9}[.)][ \t]++)*+[ \t]*+")
_ITEM = re.compile(r"[-*+\d]")
_INDENT = re.compile(r"[ \t]*")
_RAW_START = re.compile(r"<(?:script|pre|style|textarea)(?=[\s>]|$)", re.I)
_RAW_END = re.compile(r"</(?:script|pre|style|textarea)>", re.I)
# Elements that begin a block of markup, which contains no Markdown and ends at an empty line.
_BLOCK_TAG = re.compile(
    r"</?(?:address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd"
    r"|details|dialog|dir|div|dl|dt|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]"
    r"|head|header|hr|html|iframe|legend|li|link|main|menu|menuitem|nav|noframes|ol|optgroup"
    r"|option|p|param|search|section|summary|table|tbody|td|tfoot|th|thead|title|tr|track|ul)"
    r"(?=[\s/>]|$)",
    re.I,
)
#: A tag as in browsers: values in quotes may contain anything but an empty line.
TAG = re.compile(
    r"<(?P<slash>/?)(?P<name>[A-Za-z][A-Za-z0-9-]{0,60})(?=[\s/>])"
    r"(?P<rest>(?:[^<>=]|=\s{0,20}(?:\"[^\"]*\"|'[^']*')|=)*+)>"
)
_BOGUS = re.compile(r"<(?:![A-Za-z\[]|\?[A-Za-z])")  # comments of another spelling begin
_SPECIAL = re.compile(r"\\[\\`<]|`+|<!--|<[A-Za-z/!?]")
_TICKS = re.compile(r"`+")
#: A definition of a link: its label, target and title.
DEFINITION = re.compile(
    r" {0,3}\[(?P<label>(?:[^\[\]\\]|\\.){1,999})\]:[ \t]*+(?:\n[ \t]*+)?(?!\n)"
    r"(?P<where><[^<>\n]*>|[^\s<]\S*+)"
    r"(?P<title>(?:[ \t]++|[ \t]*+\n[ \t]*+)(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?[ \t]*+(?:\n|\Z)"
)


class MarkupPiece(NamedTuple):
    """A stretch of the text; the pieces "start" and "end" of a paragraph are empty."""

    kind: PieceKind
    start: int
    end: int


class _Block(NamedTuple):
    kind: BlockKind
    start: int
    end: int


class _Fence(NamedTuple):
    """An open code fence: its mark, its indent, and if it is in a quote."""

    mark: str
    indent: int
    is_quoted: bool


@dataclass
class _Cutter:
    """Cuts a text into blocks line by line."""

    text: str
    blocks: list[_Block] = field(default_factory=list)
    mode: BlockKind | None = None  # of the block that the next line may continue
    fence: _Fence | None = None
    is_raw: bool = False  # inside an element that an empty line does not end
    offset: int = 0  # column of the text of the open list item; 0: none is open
    is_quoted: bool = False  # of the block of markup that the next line may continue

    def run(self) -> list[_Block]:
        """Cut the text into blocks in order; between them are empty lines and marks."""
        at = 0
        if self.text.startswith("---"):
            for _ in range(skip_front_matter(self.text.split("\n"))):
                at = self._line_end(at)
        while at < len(self.text):
            at = self._take_line(at)
        return self.blocks

    def _line_end(self, at: int) -> int:
        end = self.text.find("\n", at)
        return len(self.text) if end < 0 else end + 1

    def _add(self, kind: BlockKind, start: int, end: int, *, goes_on: bool) -> None:
        if goes_on and self.blocks and self.blocks[-1].kind == kind:
            self.blocks[-1] = self.blocks[-1]._replace(end=end)
        else:
            self.blocks.append(_Block(kind, start, end))

    def _take_line(self, start: int) -> int:
        """Take a line, and the block that it opens; return the start of the next line."""
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
            self.offset = 0  # at the left edge, only words continue a list item
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
        """Take a comment, which includes empty lines; without an end it takes the rest."""
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
    """Yield the pieces of a block of markup, or of a paragraph."""
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
    """A search for a word: for rising positions, it searches the text only once."""

    text: str
    word: str
    end: int  # of the search
    position: int = -1  # of the last find

    def find(self, at: int) -> int:
        """Find the end of the next word from a position on; -1: none."""
        if self.position < at:
            start = self.text.find(self.word, at, self.end)
            self.position = self.end if start < 0 else start
        return -1 if self.position >= self.end else self.position + len(self.word)


def _find_ticks(text: str, start: int, end: int) -> dict[int, list[int]]:
    """Find the starts of runs of backticks, by their length."""
    ticks: dict[int, list[int]] = {}
    for match in _TICKS.finditer(text, start, end):
        ticks.setdefault(len(match[0]), []).append(match.start())
    return ticks


def _next_ticks(ticks: dict[int, list[int]], length: int, at: int) -> int:
    """Find the end of the next run of this length; -1: none."""
    starts = ticks.get(length, [])
    number = bisect_left(starts, at)
    return starts[number] + length if number < len(starts) else -1
