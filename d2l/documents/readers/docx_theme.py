"""Colors of a DOCX document: its theme's, by name, and what fills drawings and letters.

Takes elements of python-docx, gives colors; reads only the theme and the settings.
"""

import colorsys
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import lxml.etree

from d2l.documents.readers.colors import BLACK, WHITE, Color, looks_like, read_hex
from d2l.documents.readers.css_colors import parse_color

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
FILL = "{http://schemas.microsoft.com/office/word/2010/wordml}"  # of letters, since Word 2010
Theme = Mapping[str, tuple[float, float, float]]
_KIND = "/theme"  # the end of a relation's type
#: What the theme's own names are called in text; the settings may map some to others of them.
_LONG = {
    "lt1": "light1", "dk1": "dark1", "lt2": "light2", "dk2": "dark2",
    "hlink": "hyperlink", "folHlink": "followedHyperlink",
}  # fmt: skip
#: Names of text and ground: (attribute in the settings, usual color, the name in drawings).
_MAPPED = {
    "background1": ("bg1", "light1", "bg1"),
    "background2": ("bg2", "light2", "bg2"),
    "text1": ("t1", "dark1", "tx1"),
    "text2": ("t2", "dark2", "tx2"),
}
_PRESET = re.compile(r"^(dk|lt|med)(?=[A-Z])")
_FULL = {"dk": "dark", "lt": "light", "med": "medium"}
_SHARE = re.compile(r"(-?\d{1,9}(?:\.\d{1,9})?)(%?)")


class Paint(NamedTuple):
    """What something is painted with; a color that is not known may be any."""

    color: Color
    opacity: float = 1.0


def read_theme(document: Any) -> Theme:
    """Colors by name ("background1", "bg1"); empty where there is a theme that cannot be read."""
    parts = [
        relation.target_part
        for relation in document.part.rels.values()
        if relation.reltype.endswith(_KIND) and not relation.is_external
    ]
    own: dict[str, tuple[float, float, float]] = {"lt1": WHITE, "dk1": BLACK}
    if parts:
        parser = lxml.etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
        try:
            root = lxml.etree.fromstring(parts[0].blob, parser)
        except lxml.etree.LxmlError:  # a damaged one: nothing is known of it
            return {}
        for element in root.iterfind(f"{DRAWING}themeElements/{DRAWING}clrScheme/*"):
            color = read_paint(element, {}).color
            if color is not None:
                own[str(element.tag).rpartition("}")[2]] = color
    found = own | {_LONG[name]: color for name, color in own.items() if name in _LONG}
    mapping = document.settings.element.find(W + "clrSchemeMapping")
    for name, (attribute, usual, short) in _MAPPED.items():
        called = mapping.get(W + attribute, usual) if mapping is not None else usual
        if called in found:
            found[name] = found[short] = found[called]
    return found


def read_named(element: Any, names: tuple[str, str, str, str], theme: Theme) -> Color:
    """The color that an element's attributes give, whose names are those of plain digits, of a
    color of the theme, of its tint and its shade; None where they say none."""
    digits, named, tinted, shaded = (element.get(W + name, "") for name in names)
    if named not in theme:
        return read_hex(digits)
    hue, light, saturation = colorsys.rgb_to_hls(*theme[named])
    for digits, lightest in ((shaded, 0.0), (tinted, 1.0)):
        share = _read_byte(digits)
        if share is not None:
            light = light * share + lightest * (1 - share)
    return colorsys.hls_to_rgb(hue, light, saturation)


def read_fill(holder: Any, theme: Theme) -> Paint | None:
    """What the properties of a shape or of letters fill them with; None if they do not say.

    A gradient or a pattern counts where all of its colors look alike, else its color is not known.
    """
    for element in holder:
        kind = str(element.tag).rpartition("}")[2]
        if kind == "noFill":
            return Paint(None, 0.0)
        if kind == "solidFill":
            return read_paint(element, theme)
        if kind == "gradFill":
            return _join(read_paint(stop, theme) for stop in element.iterfind("{*}gsLst/{*}gs"))
        if kind == "pattFill":
            return _join(read_paint(side, theme) for side in element)
        if kind in ("blipFill", "grpFill"):
            return Paint(None)
    return None


def _join(paints: Iterable[Paint]) -> Paint:
    """Several paints as one."""
    found = list(paints)
    if not found:
        return Paint(None)
    same = all(looks_like(found[0].color, other.color) for other in found)
    return Paint(found[0].color if same else None, max(paint.opacity for paint in found))


def read_paint(holder: Any, theme: Theme) -> Paint:
    """The color inside an element of a drawing, with what changes it."""
    for element in holder:
        color = _read_plain(element, theme)
        opacity = 1.0
        for change in element:
            share = _read_share(_get(change, "val"))
            if share is None:
                continue
            if change.tag == FILL + "alpha":
                opacity = 1 - share  # here it says how clear
            elif change.tag == DRAWING + "alpha":
                opacity = share
            elif color is not None:
                color = _change(color, str(change.tag).rpartition("}")[2], share)
        return Paint(color, opacity)
    return Paint(None)


def _read_plain(element: Any, theme: Theme) -> Color:
    """A color before anything changes it."""
    kind, value = str(element.tag).rpartition("}")[2], _get(element, "val")
    if kind == "srgbClr":
        return read_hex(value)
    if kind == "sysClr":
        return read_hex(_get(element, "lastClr")) or {"window": WHITE}.get(value)
    if kind == "schemeClr":
        return theme.get(value)
    if kind == "prstClr":
        whole = _PRESET.sub(lambda match: _FULL[match[1]], value[:30]).lower()
        return (parse_color(whole) or (None,))[0]
    if kind == "scrgbClr":
        red, green, blue = (_read_share(_get(element, name)) for name in "rgb")
        if red is None or green is None or blue is None:
            return None
        red, green, blue = (min(1.0, max(0.0, part)) ** (1 / 2.2) for part in (red, green, blue))
        return red, green, blue
    return None


def _change(color: tuple[float, float, float], how: str, share: float) -> Color:
    """A color made lighter or darker; not known where something else is done to it."""
    hue, light, saturation = colorsys.rgb_to_hls(*color)
    if how in ("lumMod", "shade"):
        light *= share
    elif how == "lumOff":
        light += share
    elif how == "lum":
        light = share
    elif how == "tint":
        light = light * share + 1 - share
    elif how == "satMod":
        saturation *= share
    else:
        return None
    return colorsys.hls_to_rgb(hue, min(1.0, max(0.0, light)), min(1.0, max(0.0, saturation)))


def _get(element: Any, name: str) -> str:
    """An attribute of a drawing, or of the fill of letters."""
    value: str = element.get(name) or element.get(FILL + name) or ""
    return value


def _read_byte(digits: str) -> float | None:
    """Two hexadecimal digits as a share of one."""
    gray = read_hex(digits * 3) if len(digits) == 2 else None
    return None if gray is None else gray[0]


def _read_share(value: str) -> float | None:
    """A share of one: in thousandths of a percent, or in percent with its sign behind."""
    found = _SHARE.fullmatch(value)
    return float(found[1]) / (100 if found[2] else 100_000) if found else None
