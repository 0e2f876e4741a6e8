"""Widths of a PDF's fonts: the dictionary of a font in, a measure for its strings out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from pypdf.generic import ArrayObject, DictionaryObject

from d2l.readers.pdf.fonts import list_resources, look_up, read_numbers
from d2l.readers.pdf.layout import estimate_em

TYPEWRITER_WIDTH = 0.6  # of every character of Courier


@dataclass(frozen=True)
class Measure:
    """The widths of a font's codes in ems; without widths, it guesses by the characters' shapes."""

    widths: Mapping[int, float] = field(default_factory=dict)
    default: float | None = None  # width of other codes; None: guess
    n_bytes: int = 1  # of a code

    def measure(self, raw: bytes) -> float:
        """Measure the width of a string in ems."""
        n = self.n_bytes
        codes = (int.from_bytes(raw[start : start + n], "big") for start in range(0, len(raw), n))
        return sum(
            self.widths.get(code, estimate_em(chr(code)) if self.default is None else self.default)
            for code in (raw if n == 1 else codes)
        )


GUESS = Measure()


def find_measures(resources: Any, known: dict[int, Measure]) -> dict[str, Measure]:
    """Find the measures of the fonts in resources; `known` keeps them between pages."""
    fonts = list_resources(resources, "/Font")
    return {name: measure_font(font, known) for name, font in fonts.items()}


def measure_font(font: DictionaryObject, known: dict[int, Measure]) -> Measure:
    """Read the measure of a font once; `known` keeps it."""
    if id(font) not in known:
        known[id(font)] = read_measure(font)
    return known[id(font)]


def read_measure(font: DictionaryObject) -> Measure:
    """Read the widths of a font of any kind."""
    if font.get("/Subtype") == "/Type0":
        return read_composite(font)
    widths = read_numbers(look_up(font, "/Widths"))
    first = look_up(font, "/FirstChar")
    if not widths or not isinstance(first, int):
        is_courier = "Courier" in str(font.get("/BaseFont", ""))
        return Measure(default=TYPEWRITER_WIDTH) if is_courier else GUESS
    unit = 0.001
    if font.get("/Subtype") == "/Type3":  # in its own units
        unit = abs((read_numbers(look_up(font, "/FontMatrix")) or [unit])[0])
    return Measure(dict(zip(count(first), (unit * width for width in widths), strict=False)), 0.0)


def read_composite(font: DictionaryObject) -> Measure:
    """Read the widths of a font of two-byte codes, as if codes were numbers of glyphs."""
    listed = look_up(font, "/DescendantFonts")
    descendant = listed[0].get_object() if isinstance(listed, ArrayObject) and listed else None
    if not isinstance(descendant, DictionaryObject):
        return Measure(default=1.0, n_bytes=2)
    default = look_up(descendant, "/DW")
    widths: dict[int, float] = {}
    entries = look_up(descendant, "/W")
    pending: list[float] = []  # the first glyph of a run, and the last if the run has one width
    for entry in entries if isinstance(entries, ArrayObject) else ():
        entry = entry.get_object()
        if isinstance(entry, ArrayObject) and len(pending) == 1:
            run = (0.001 * width for width in read_numbers(entry))
            widths |= zip(count(int(pending[0])), run, strict=False)
            pending = []
        elif isinstance(entry, (int, float)):
            pending.append(entry)
            if len(pending) == 3:
                first, last = int(pending[0]), min(int(pending[1]), 0xFFFF)
                widths |= dict.fromkeys(range(first, last + 1), 0.001 * pending[2])
                pending = []
    return Measure(widths, 0.001 * default if isinstance(default, (int, float)) else 1.0, 2)
