"""Styles of a DOCX document: the look of text by its own properties and those of its styles.

Elements of properties in, looks out. Not the styles of python-docx: it searches all styles for each
base, and raises on values that Word ignores.
"""

import re
from typing import Any

from d2l.readers.colors import read_hex
from d2l.readers.docx_markup import W

#: Values of properties by name, unchanged. "color", "shade" (behind a run) and "block" (behind a
#: paragraph) are six digits, `UNKNOWN`, or any other text for no color of their own. "heading" is
#: its level, "0" for a title.
Look = dict[str, str]
UNKNOWN = "?"
WORD_2010 = "{http://schemas.microsoft.com/office/word/2010/wordml}"
OUTLINE_LEVELS = tuple("012345678")  # "9" is body text
_HEADING = re.compile(r"(?:heading|(title)|subtitle)\b(?: ([1-9])\b)?", re.I)
#: Effects that may make letters of any color visible.
EFFECTS = ("textFill", "textOutline", "outline", "shadow", "emboss", "imprint")
KEPT = frozenset(("vanish", "rtl", "cs", "sz", "szCs", "highlight", *EFFECTS))


class Styles:
    """Styles by kind and id; each is computed once, after its base."""

    def __init__(self, root: Any) -> None:
        self._elements: dict[tuple[str, str], Any] = {}
        self._usual: dict[str, str] = {}
        self._known: dict[tuple[str, str], Look] = {}
        for style in root.iter(W + "style"):
            kind, identity = style.get(W + "type", "paragraph"), style.get(W + "styleId", "")
            self._elements[kind, identity] = style
            if is_on(style.get(W + "default", "0")):
                self._usual.setdefault(kind, identity)
        of_run, of_paragraph = (
            root.find(f"{W}docDefaults/{W}{name}Default/{W}{name}") for name in ("rPr", "pPr")
        )
        self.defaults = read_run(of_run) | read_block(of_paragraph)

    def find(self, kind: str, identity: str) -> Look:
        """Find a style; the default style of its kind if it is missing."""
        at = (kind, identity)
        if at not in self._elements:
            at = (kind, self._usual.get(kind, ""))
        chain = []
        while at in self._elements and at not in self._known:
            chain.append(at)
            self._known[at] = {}  # for styles whose bases form a ring
            at = (kind, value_of(self._elements[at], "basedOn"))
        look = self._known.get(at, {})
        for at in reversed(chain):
            look = self._known[at] = look | _read_style(self._elements[at])
        return look


def _read_style(style: Any) -> Look:
    """Read a style's own properties; "varies" if cells of its tables have their own grounds, "head"
    if their first row has a look of its own."""
    look = read_run(style.find(W + "rPr")) | read_block(style.find(W + "pPr"))
    shades = (f"{W}tblStylePr", f"{W}tcPr/{W}shd", f"{W}tblPr/{W}shd")
    if any(style.find(shade) is not None for shade in shades):
        look["varies"] = UNKNOWN
    if any(part.get(W + "type") == "firstRow" for part in style.iter(W + "tblStylePr")):
        look["head"] = "1"
    outlined = style.find(f"{W}pPr/{W}outlineLvl")
    named = _HEADING.match(value_of(style, "name"))
    if named and named[1]:
        look["heading"] = "0"
    elif outlined is not None and (level := outlined.get(W + "val")) in OUTLINE_LEVELS:
        look["heading"] = str(int(level) + 1)
    elif outlined is not None or named:
        look["heading"] = (named and named[2]) or "1"
    return look


def read_run(properties: Any) -> Look:
    """Read a `w:rPr`."""
    look: Look = {}
    for child in properties if properties is not None else ():
        space, _, name = str(child.tag).rpartition("}")
        if f"{space}}}" not in (W, WORD_2010):
            continue
        if name == "color":
            look[name] = read_color(child, "val", "themeColor")
        elif name == "shd":
            look["shade"] = read_shade(child)
        elif name in KEPT:
            look[name] = child.get(W + "val", "1")
    return look


def read_block(properties: Any) -> Look:
    """Read the ground of a paragraph from its `w:pPr`."""
    shade = properties.find(W + "shd") if properties is not None else None
    return {} if shade is None else {"block": read_shade(shade)}


def read_shade(shade: Any) -> str:
    """Read the color of a `w:shd`; `UNKNOWN` for patterns of two colors."""
    pattern = shade.get(W + "val", "clear")
    if pattern == "solid":
        color = read_color(shade, "color", "themeColor")
        return color if read_hex(color) else UNKNOWN
    if pattern == "clear":
        return read_color(shade, "fill", "themeFill")
    return "" if pattern == "nil" else UNKNOWN


def read_color(element: Any, plain: str, themed: str) -> str:
    """Read a color. Themes are not read: a theme's color is known only if both its name and the
    digits that Word wrote beside it mean white."""
    digits, name = element.get(W + plain, ""), element.get(W + themed)
    is_white = name in ("background1", "light1") and digits.upper() == "FFFFFF"
    return digits if name is None or is_white else UNKNOWN


def value_of(properties: Any, name: str) -> str:
    """Read the value of a property, such as the id of a style; "" without it."""
    element = properties.find(W + name) if properties is not None else None
    return element.get(W + "val", "") if element is not None else ""


def is_on(value: str | None) -> bool:
    """True if a property with this value is on."""
    return value not in (None, "0", "false", "off")
