"""Marks of list items and headings in a DOCX document: a dash, or the number that Word prints.

The numbering parts, and paragraphs in reading order in; their marks out.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from d2l.readers.docx_markup import W
from d2l.readers.docx_styles import value_of

N_LEVELS = 9  # of lists
MOST_LETTERED = 780  # "aa" follows "z": from here on, the letters of a number would fill a line
ROMAN = tuple(
    zip((1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
        ("m", "cm", "d", "cd", "c", "xc", "l", "xl", "x", "ix", "v", "iv", "i"), strict=True)
)  # fmt: skip


class _Level(NamedTuple):
    """A level of a list: its first number, the format of numbers, and the text around them."""

    start: int
    kind: str
    text: str


_Levels = dict[int, _Level]  # by depth


class Numbering:
    """Counts the items of all lists."""

    def __init__(self, parts: Iterable[Any]) -> None:
        self._lists: dict[str, tuple[str, _Levels, dict[int, int]]] = {}
        self._counts: dict[str, dict[int, int]] = {}  # by the list that defines the levels
        self._begun: set[str] = set()
        for root in parts:
            defined = {a.get(W + "abstractNumId", ""): a for a in root.iter(W + "abstractNum")}
            styled = {value_of(a, "styleLink"): name for name, a in defined.items()}
            levels = {name: _read_levels(a) for name, a in defined.items()}
            for number in root.iter(W + "num"):
                name = value_of(number, "abstractNumId")
                link = value_of(defined.get(name), "numStyleLink")
                name = styled.get(link, name) if link else name
                starts = {
                    read_small(override.get(W + "ilvl")): read_small(start)
                    for override in number.iter(W + "lvlOverride")
                    if (start := value_of(override, "startOverride"))
                }
                own = levels.get(name, {}) | _read_levels(number)
                self._lists[number.get(W + "numId", "")] = (name, own, starts)

    def count(self, number: str, depth: int) -> str:
        """Count an item; return its mark, "" if Word prints none."""
        name, levels, starts = self._lists.get(number, ("", {}, {}))
        level = levels.get(depth)
        if level is None:
            return ""
        counts = self._counts.setdefault(name, {})
        if number not in self._begun:
            self._begun.add(number)
            counts |= {at: start - 1 for at, start in starts.items()}
        counts[depth] = counts.get(depth, level.start - 1) + 1
        for deeper in range(depth + 1, N_LEVELS):
            counts.pop(deeper, None)

        def write(match: re.Match[str]) -> str:
            outer = levels.get(int(match[1]) - 1, level)
            return write_number(counts.get(int(match[1]) - 1, outer.start), outer.kind)

        return "-" if level.kind == "bullet" else re.sub("%([1-9])", write, level.text).strip()


def _read_levels(root: Any) -> _Levels:
    """Read the levels that a list defines."""
    return {
        read_small(level.get(W + "ilvl")): _Level(
            read_small(value_of(level, "start") or "1"),
            value_of(level, "numFmt"),
            value_of(level, "lvlText"),
        )
        for level in root.iter(W + "lvl")
    }


def write_number(number: int, kind: str) -> str:
    """Write a number as letters, Roman or decimal; unknown kinds are decimal."""
    written = str(number)
    if kind.endswith("Letter") and 0 < number < MOST_LETTERED:
        written = chr(97 + (number - 1) % 26) * ((number - 1) // 26 + 1)
    elif kind.endswith("Roman") and 0 < number < 4000:
        written = ""
        for value, letters in ROMAN:
            written += letters * (number // value)
            number %= value
    elif kind == "decimalZero":
        written = written.zfill(2)
    return written.upper() if kind.startswith("upper") else "" if kind == "none" else written


def read_small(text: str | None) -> int:
    """Read a small number; other texts are 0."""
    text = text or ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else 0
