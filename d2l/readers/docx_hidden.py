"""Hidden text of a DOCX document: marked as hidden, tiny, or white on white.

Runs of WordprocessingML in, reasons out. In doubt text counts as visible: in text boxes, in tables
whose style shades their cells, and on pages with a picture or shape behind the text.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from d2l.readers.colors import looks_like, read_hex
from d2l.readers.docx_markup import RUNS, TEXT_BOX, W
from d2l.readers.docx_styles import (
    EFFECTS,
    UNKNOWN,
    Look,
    Styles,
    is_on,
    read_block,
    read_color,
    read_run,
    read_shade,
    value_of,
)
from d2l.readers.findings import Finding

MARKED, SMALL, GROUND = "marked as hidden", "tiny", "in the color of its ground"
TINY = 1.0  # points: text of this size or less cannot be read
HIGHLIGHTS = {
    "white": "FFFFFF", "black": "000000", "yellow": "FFFF00", "green": "00FF00", "cyan": "00FFFF",
    "magenta": "FF00FF", "blue": "0000FF", "red": "FF0000", "darkBlue": "000080",
    "darkCyan": "008080", "darkGreen": "008000", "darkMagenta": "800080", "darkRed": "800000",
    "darkYellow": "808000", "darkGray": "808080", "lightGray": "C0C0C0",
}  # fmt: skip
#: Elements that may have a ground of their own, with their element of properties.
GROUNDS = {W + "tc": "tcPr", W + "tr": "tblPrEx", W + "tbl": "tblPr"}
_SIZE = re.compile(r"(\d{1,6}(?:\.\d{0,6})?)(pt|)")
_BEHIND = re.compile(r"z-index:\s{0,9}-")


class Surroundings(NamedTuple):
    """Look of a paragraph's text by its surroundings, and the shades under it, uppermost first."""

    base: Look
    styles: tuple[Look, ...]  # that toggle `vanish`: of its table, and its own
    shades: tuple[str, ...]


class HiddenRuns:
    """Finds hidden runs of a document, and counts their characters."""

    def __init__(self, styles: Styles, page: str) -> None:
        self._styles = styles
        self._page = page
        self._find_surroundings = lru_cache(256)(self._read_surroundings)
        self.findings: list[Finding] = []

    def is_hidden(self, run: Any, n_more: int = 0) -> bool:
        """True if a run with text is hidden; its characters are then counted, with `n_more`."""
        texts = (text for text in run.iter("{*}t") if next(text.iterancestors(*RUNS)) is run)
        n_chars = n_more + count_chars(texts)
        reason = self._explain(run) if n_chars else ""
        self.note(reason, n_chars)
        return bool(reason)

    def is_marked(self, run: Any) -> bool:
        """True if a run is marked as hidden, by itself or by a style; nothing is counted."""
        return self._explain(run) == MARKED

    def hides_box(self, box: Any) -> bool:
        """True if the run with a text box is marked as hidden; the box is then counted."""
        run = next(box.iterancestors(*RUNS), None)
        is_hidden = run is not None and self.is_marked(run)
        self.note(MARKED if is_hidden else "", count_chars(box.iter(W + "t")))
        return is_hidden

    def note(self, reason: str, n_chars: int) -> None:
        """Count characters that are hidden for a reason; "" if they are visible."""
        if reason and n_chars:
            self.findings.append(Finding("hidden", reason, n_chars))

    def _explain(self, run: Any) -> str:
        """Explain why a run is hidden; "" if it is visible."""
        around = self._find_surroundings(next(run.iterancestors(W + "p"), run))
        properties = run.find(W + "rPr")
        own = read_run(properties)
        style = self._styles.find("character", value_of(properties, "rStyle"))
        look = around.base | style | own
        is_hidden = is_on(own.get("vanish"))
        if "vanish" not in own:  # a property that styles toggle: ISO 29500-1, 17.7.3
            toggles = [is_on(named.get("vanish")) for named in (style, *around.styles)]
            is_hidden = sum(toggles) % 2 == 1 or is_on(self._styles.defaults.get("vanish"))
        if is_hidden:
            return MARKED
        is_complex = is_on(look.get("rtl")) or is_on(look.get("cs"))
        size = _SIZE.fullmatch(look.get("szCs" if is_complex else "sz", ""))
        if size and float(size[1]) * (1 if size[2] else 0.5) <= TINY:
            return SMALL
        color = read_hex(look.get("color", ""))
        if color is None or any(is_on(look.get(effect)) for effect in EFFECTS):
            return ""
        marker = HIGHLIGHTS.get(look.get("highlight", ""), "")
        shades = (marker, look.get("shade", ""), *around.shades)
        ground = next(shade for shade in shades if shade == UNKNOWN or read_hex(shade))
        return GROUND if looks_like(color, read_hex(ground)) else ""

    def _read_surroundings(self, paragraph: Any) -> Surroundings:
        properties = paragraph.find(W + "pPr")
        style = self._styles.find("paragraph", value_of(properties, "pStyle"))
        table: Look | None = None
        shades = []
        for outer in paragraph.iterancestors(*GROUNDS, TEXT_BOX):
            if outer.tag == TEXT_BOX:
                shades.append(UNKNOWN)
                break
            shade = outer.find(f"{W}{GROUNDS[outer.tag]}/{W}shd")
            if shade is not None:  # programs shade a whole table or row differently
                shades.append(read_shade(shade) if outer.tag == W + "tc" else UNKNOWN)
            if outer.tag == W + "tbl":
                named = self._styles.find("table", value_of(outer.find(W + "tblPr"), "tblStyle"))
                shades.append(named.get("varies", ""))
                table = named if table is None else table
        table = table or {}
        below = self._styles.defaults | table
        block = (below | style | read_block(properties)).get("block", "")
        base = style if "varies" in table else below | style
        return Surroundings(base, (table, style), (block, *shades, self._page))


def count_chars(texts: Iterable[Any]) -> int:
    """Count the characters in elements, without spaces."""
    return sum(len("".join((text.text or "").split())) for text in texts)


def read_page(root: Any, settings: Iterable[Any], others: Iterable[Any]) -> str:
    """Read the color of a document's pages; `UNKNOWN` if a picture or shape is behind the text of
    its body or of `others`: headers and footers."""
    for part in (root, *others):
        is_covered = any(is_on(frame.get("behindDoc")) for frame in part.iter("{*}anchor"))
        shapes = part.iter("{urn:schemas-microsoft-com:vml}*")
        if is_covered or any(_BEHIND.search(shape.get("style", "")) for shape in shapes):
            return UNKNOWN
    background = root.find(W + "background")
    is_shown = any(part.find(W + "displayBackgroundShape") is not None for part in settings)
    if background is None or not is_shown:
        return "FFFFFF"
    if next(background.iter("{*}fill"), None) is not None:
        return UNKNOWN
    color = read_color(background, "color", "themeColor")
    return color if color == UNKNOWN or read_hex(color) else "FFFFFF"
