"""Styles of a DOCX document: how text looks by its properties and by those of the styles it names.

Takes elements of properties, gives looks; knows nothing of what is on a page. Not the styles of
python-docx: those search all styles for each base, and raise on values that Word passes over.
"""

import re
from typing import Any

from d2l.readers.colors import read_hex
from d2l.readers.docx_markup import W

#: Values of properties by name, as they are written. "color", "shade" (behind a run) and "block"
#: (behind a paragraph) are six digits, `UNKNOWN`, or anything else for no color of their own.
#: "heading" is the level of one, "0" for a title.
Look = dict[str, str]
UNKNOWN = "?"
WORD_2010 = "{http://schemas.microsoft.com/office/word/2010/wordml}"
OUTLINE_LEVELS = tuple("012345678")  # "9" is body text
_HEADING = re.compile(r"(?:heading|(title)|subtitle)\b(?: ([1-9])\b)?", re.I)
#: Letters may be seen by these whatever their color.
EFFECTS = ("textFill", "textOutline", "outline", "shadow", "emboss", "imprint")
KEPT = frozenset(("vanish", "rtl", "cs", "sz", "szCs", "highlight", *EFFECTS))


class Styles:
    """Styles by kind and id; each is worked out once, after the style that it is based on."""

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
        """Read a style; one that is missing stands for the usual style of its kind."""
        at = (kind, identity)
        if at not in self._elements:
            at = (kind, self._usual.get(kind, ""))
        chain = []
        while at in self._elements and at not in self._known:
            chain.append(at)
            self._known[at] = {}  # for styles that are based on each other in a ring
            at = (kind, value_of(self._elements[at], "basedOn"))
        look = self._known.get(at, {})
        for at in reversed(chain):
            look = self._known[at] = look | _read_style(self._elements[at])
        return look


def _read_style(style: Any) -> Look:
    """Read what a style says itself; "varies" if cells of its tables have grounds of their own."""
    look = read_run(style.find(W + "rPr")) | read_block(style.find(W + "pPr"))
    shades = (f"{W}tblStylePr", f"{W}tcPr/{W}shd", f"{W}tblPr/{W}shd")
    if any(style.find(shade) is not None for shade in shades):
        look["varies"] = UNKNOWN
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
    """Read what a `w:pPr` says of the ground of its paragraph."""
    shade = properties.find(W + "shd") if properties is not None else None
    return {} if shade is None else {"block": read_shade(shade)}


def read_shade(shade: Any) -> str:
    """Read the color of a `w:shd`; patterns of two colors are not known."""
    pattern = shade.get(W + "val", "clear")
    if pattern == "solid":
        color = read_color(shade, "color", "themeColor")
        return color if read_hex(color) else UNKNOWN
    if pattern == "clear":
        return read_color(shade, "fill", "themeFill")
    return "" if pattern == "nil" else UNKNOWN


def read_color(element: Any, plain: str, themed: str) -> str:
    """Read a color. Themes are not read, so one of theirs is known only if its name and the digits
    that Word wrote beside it both say white."""
    digits, name = element.get(W + plain, ""), element.get(W + themed)
    is_white = name in ("background1", "light1") and digits.upper() == "FFFFFF"
    return digits if name is None or is_white else UNKNOWN


def value_of(properties: Any, name: str) -> str:
    """Give the value of a property, "" without it: the id of a style, as a rule."""
    found = properties.find(W + name) if properties is not None else None
    return found.get(W + "val", "") if found is not None else ""


def is_on(value: str | None) -> bool:
    """Whether a property with this value is on."""
    return value not in (None, "0", "false", "off")
