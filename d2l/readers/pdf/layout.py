"""Lines of a page to flowing text: rows, paragraphs, hyphens.

Lines with positions in, text out, where only a paragraph, list item, table row or line of code ends
a line.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence, Set
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from d2l.readers.parsing import CELL

# Letter shapes that fonts draw as one glyph, spelled out.
LIGATURES = {ord(char): unicodedata.normalize("NFKC", char) for char in "ﬀﬁﬂﬃﬄﬅﬆ"}
LIGATURES |= {0xA0: " ", 0xAD: "-", 0x2010: "-", 0x2011: "-"}
LIGATURES |= {0x7F: "•"}  # WinAnsiEncoding's sign for every code without a character
# TeX draws accents beside their letters; possible apostrophes, home folders and quotes are not
# changed.
ACCENTS = {"¨": "\u0308", "´": "\u0301", "`": "\u0300", "ˆ": "\u0302", "˜": "\u0303",
           "ˇ": "\u030c", "˘": "\u0306", "˚": "\u030a", "˝": "\u030b", "¸": "\u0327"}  # fmt: skip
ACCENTED = re.compile(
    r"(?P<mark>[¨ˇ˘˚˝¸])(?P<letter>[A-Za-zı])|(?P<acute>´)(?P<under>[aceinouyzıACEINOUYZ]|s(?=[^\W\d_]))"
    r"|(?<=[^\W\d_])(?P<other>[`ˆ˜])(?P<vowel>[aeinouı])|(?P<base>[cCsStT])(?P<cedilla>¸)"
)
LEADER = re.compile(r"(?: ?[.·…_]){5,}| ?(?:\. ){3,}\.?")
HAS_LEADER = re.compile(r" \.\.\. ?\S{1,8}$| \.\.\.(?: ?[\divxlc–-],?)*$")
CJK = r"\u2e80-\u2fdf\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
GAP_IN_CJK = re.compile(f"(?<=[{CJK}]) (?=[{CJK}])")
# Control characters, and halves of surrogate pairs.
JUNK = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")

BULLET = re.compile(r"[•◦▪▫‣⁃∙●○■□*] ?\S|[–—-] ?\w")
ITEM_MARK = re.compile(r"[•◦▪▫‣⁃∙●○■□–—]$|\(?(?:\d{1,3}|[a-zA-Z])[.)]$")  # on its own
NUMBER = re.compile(r"\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,5})[.)] |\d+(?:\.\d+)+ ")
SENTENCE_END = re.compile(r"[.!?:;。！？：；…][\"')\]»”’]*$")
HYPHEN_END = re.compile(r"[^\W\d_]-$")
URL_END = re.compile(r"(?:https?:|(?:https?:|www\.)\S*[/.:?=&_-])$")

PARAGRAPH_GAP = 1.25  # times the usual distance of baselines
INDENT = 0.8  # times the font size; less is noise
FULL = 0.98  # of the column, if the ends of lines are known
ABOUT_FULL = 0.92  # if they are estimates
MIN_COLUMN = 0.7  # of the page's wide lines; narrower blocks are lists, not paragraphs
MIN_COLUMN_EMS = 18  # shortest lines of a paragraph, even in columns, unless justified
MIN_JUSTIFIED_EMS = 8
SAME_X = 1.0  # points between the beginnings of aligned lines
JUSTIFIED = 1.0  # points between the ends of justified lines


class Line(NamedTuple):
    """A line of text; `x` runs along the writing, `y` upward, both in points like `size`."""

    text: str
    x: float
    y: float
    size: float
    bold: bool = False
    mono: bool = False
    cells: int = 1  # more than one: a row of a table
    end: float | None = None  # position of its end; None: unknown
    starts: tuple[float, ...] = ()  # positions of the cells of a row, if they are known

    @property
    def right(self) -> float:
        """Position of the line's end, estimated if it is unknown."""
        if self.end is not None and self.end > self.x:
            return self.end
        return self.x + self.size * sum(map(estimate_em, self.text)) * (1.1 if self.mono else 1.0)

    @property
    def width(self) -> float:
        """Length of the line."""
        return self.right - self.x


class Paragraph(NamedTuple):
    """A paragraph, list item, table row or line of code: its text, the line ends before it, and its
    lines on the page."""

    gap: str
    text: str
    lines: Sequence[Line]


def estimate_em(char: str) -> float:
    """Guess the width of a character in ems, from its usual shape."""
    if char in "iljtfrI.,;:'|!()[]-/ ":
        return 0.3
    if char in "mwMW—…":
        return 0.85
    if unicodedata.east_asian_width(char) in "WF":
        return 1.0
    return 0.66 if char.isupper() else 0.5


def clean_line(text: str) -> str:
    """Spell out ligatures, shorten dot leaders, drop control characters."""
    text = ACCENTED.sub(join_accent, JUNK.sub("", text.translate(LIGATURES)))
    text = " ".join(LEADER.sub(" ... ", text).split())
    return GAP_IN_CJK.sub("", text)


def join_accent(match: re.Match[str]) -> str:
    """Join an accent and its letter, if there is a character for both."""
    letter = next(filter(None, match.group("letter", "under", "vowel", "base"))).replace("ı", "i")
    mark = ACCENTS[next(filter(None, match.group("mark", "acute", "other", "cedilla")))]
    joined = unicodedata.normalize("NFC", letter + mark)
    return joined if len(joined) == 1 else match[0]


def merge_rows(lines: Sequence[Line]) -> list[Line]:
    """Join pieces on the same baseline that are drawn from left to right."""
    merged: list[Line] = []
    for line in lines:
        last = merged[-1] if merged else None
        if last and line.x > last.x and abs(line.y - last.y) < 0.3 * min(line.size, last.size):
            gap = 0.6 if last.end is None else 1.0  # justified words are up to an em apart
            far = line.x - last.right > gap * line.size and not ITEM_MARK.match(last.text)
            merged[-1] = last._replace(
                text=last.text + (CELL if far else " ") + line.text,
                bold=last.bold and line.bold,
                mono=last.mono and line.mono,
                cells=last.cells + far,
                end=line.end,
                starts=(last.starts or (last.x,)) + (line.starts or (line.x,))[not far :],
            )
        else:
            merged.append(line)
    return merged


def gather_words(pages: Sequence[Sequence[Line]]) -> frozenset[str]:
    """Collect the document's words, with inner hyphens, for judging hyphens at line ends."""
    inner = (line.text.rpartition(" ")[0] for lines in pages for line in lines)
    return frozenset(
        word for text in inner for word in re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", text.lower())
    )


def is_monospaced(pages: Sequence[Sequence[Line]]) -> bool:
    """True if a document is typewritten, so that monospaced type is no sign of code."""
    lines = [line for page in pages for line in page]
    return sum(line.mono for line in lines) > 0.8 * len(lines)


def flow_page(
    lines: Sequence[Line], words: Set[str], *, monospaced: bool = False
) -> Iterator[Paragraph]:
    """Yield the paragraphs of a page with joined lines; a wide gap becomes a blank line."""
    if not lines:
        return
    leading = usual_leading(lines)
    columns = column_edges(lines, leading)
    gap, text, start = "", lines[0].text, 0
    for index, (above, below) in enumerate(pairwise(lines)):
        code = above.mono and below.mono and not monospaced
        if not code and runs_on(lines[start : index + 2], columns[index], leading):
            text = join_text(text, below.text, words)
            continue
        yield Paragraph(gap, text, lines[start : index + 1])
        start = index + 1
        in_table = above.cells > 1 and below.cells > 1
        usual = leading_of(above, below, leading) * (2.0 if in_table else 1.0)
        apart = not 0 < above.y - below.y <= PARAGRAPH_GAP * usual
        gap, text = "\n\n" if apart or ends_heading(above, below) else "\n", below.text
    yield Paragraph(gap, text, lines[start:])


def usual_leading(lines: Sequence[Line]) -> dict[int, float]:
    """Find the usual distance of baselines for each rounded font size."""
    gaps: dict[int, list[float]] = {}
    for above, below in pairwise(lines):
        gap = above.y - below.y
        if 0.8 * above.size < gap < 2.6 * above.size and same_size(above, below):
            gaps.setdefault(round(above.size), []).append(gap)
    return {size: median(distances) for size, distances in gaps.items()}


def leading_of(above: Line, below: Line, leading: dict[int, float]) -> float:
    """Find the usual distance, at most that of loosely set text."""
    size = max(above.size, below.size)
    return min(leading.get(round(above.size), 1.2 * size), 2.0 * size)


def same_size(above: Line, below: Line) -> bool:
    """True if two lines have the same font size, but for rounding."""
    return abs(above.size - below.size) <= 0.12 * max(above.size, below.size)


def column_edges(lines: Sequence[Line], leading: dict[int, float]) -> list[float]:
    """Find the right edge of each line's block: the lines close above and below it."""
    widths = sorted(line.width for line in lines)
    least = MIN_COLUMN * widths[(9 * len(widths)) // 10]
    blocks: list[list[Line]] = []
    for line in lines:
        last = blocks[-1][-1] if blocks else None
        gap = last.y - line.y if last else 0.0
        if (
            last
            and same_size(last, line)
            and 0 < gap <= PARAGRAPH_GAP * leading_of(last, line, leading)
        ):
            blocks[-1].append(line)
        else:
            blocks.append([line])
    edges = []
    for block in blocks:
        left = min(line.x for line in block)
        edge = max(line.right for line in block)
        n_full = sum(edge - line.right < JUSTIFIED for line in block)
        if n_full < 2 or edge - left < MIN_JUSTIFIED_EMS * block[0].size:
            edge = max(edge, left + max(least, MIN_COLUMN_EMS * block[0].size))
        edges += [edge] * len(block)
    return edges


def runs_on(paragraph: Sequence[Line], edge: float, leading: dict[int, float]) -> bool:
    """True if the last line continues the paragraph of the lines before."""
    above, below = paragraph[-2:]
    if below.cells > 1 or HAS_LEADER.search(above.text):
        return False
    if above.cells > 1 and (len(above.starts) < 2 or abs(below.x - above.starts[-1]) > SAME_X):
        return False
    if above.mono != below.mono and abs(below.x - above.x) > INDENT * above.size:
        return False
    if not same_size(above, below) or ends_heading(above, below):
        return False
    if BULLET.match(below.text):
        return False
    gap = above.y - below.y
    goes_on = below.text[0].islower() and not SENTENCE_END.search(above.text)
    broken_word = bool(HYPHEN_END.search(above.text)) and below.text[0].islower()
    if gap < -above.size:  # up: the next column
        return broken_word or goes_on
    if gap > PARAGRAPH_GAP * leading_of(above, below, leading):
        return False
    # The first line may begin left or right of the others: an indent, or the mark of a list item.
    if len(paragraph) > 2 and abs(below.x - above.x) > INDENT * above.size:
        return False
    if broken_word or (URL_END.search(above.text) and not below.text[0].isupper()):
        return True
    left = min(line.x for line in paragraph)
    next_word = (len(below.text.split(" ", 1)[0]) + 1) / len(below.text) * below.width
    full, half = (ABOUT_FULL, 0.5) if above.end is None else (FULL, 0.75)
    wrapped = above.right + next_word - left >= full * (edge - left)
    if NUMBER.match(below.text) and (
        not wrapped or NUMBER.match(paragraph[0].text) or SENTENCE_END.search(above.text)
    ):
        return False
    starts_item = BULLET.match(above.text) or NUMBER.match(above.text)
    if below.x > above.x + INDENT * above.size and not starts_item:
        return wrapped and not SENTENCE_END.search(above.text)
    return wrapped or (goes_on and above.right - left > half * (edge - left))


def ends_heading(above: Line, below: Line) -> bool:
    """True if bold type ends here, as after a heading."""
    return above.bold and not below.bold


def join_text(text: str, below: str, words: Set[str]) -> str:
    """Append a line to a text: with a space, or as the rest of a broken word or address."""
    if URL_END.search(text):
        return text + below
    if HYPHEN_END.search(text) and not below[0].islower():
        return text + below
    if HYPHEN_END.search(text):
        head = re.split(r"[^\w-]", text)[-1].lower().removesuffix("-")
        tail = re.match(r"[\w-]*", below.lower())
        rest = tail[0].strip("-") if tail else ""
        whole, hyphened = head + rest, f"{head}-{rest}"
        keep = "-" in head or (hyphened in words and whole not in words)
        return text + below if keep else text[:-1] + below
    if re.search(f"[{CJK}]$", text) and re.match(f"[{CJK}]", below):
        return text + below
    return f"{text} {below}"
