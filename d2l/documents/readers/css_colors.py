"""Colors of style sheets, as red, green and blue.

Takes the text of a value, gives a color of `colors`; knows no element and no sheet.
"""

from functools import cache
from typing import Any

import tinycss2
import tinycss2.color4

from d2l.documents.readers.colors import Color
from d2l.documents.readers.css_values import EM, work_out

#: Colors of the system on a usual one; None: those that are not known here.
SYSTEM_COLORS: dict[str, str | None] = {
    "canvas": "white", "canvastext": "black", "field": "white", "fieldtext": "black",
    "window": "white", "windowtext": "black", "background": "white", "infotext": "black",
    "buttontext": "black", "menutext": "black", "captiontext": "black", "linktext": "#0000ee",
    "visitedtext": "#551a8b", "activetext": "red", "highlighttext": None, "highlight": None,
    "buttonface": None, "buttonborder": None, "accentcolor": None, "accentcolortext": None,
    "graytext": None, "mark": None, "marktext": None, "selecteditem": None, "menu": None,
    "selecteditemtext": None, "-webkit-link": "#0000ee",
}  # fmt: skip
#: Spaces of red, green and blue; what is seen of them differs little from sRGB.
LIKE_SRGB = ("srgb", "display-p3", "a98-rgb", "rec2020", "prophoto-rgb")
#: Rows that make linear sRGB of X, Y and Z, for each white point.
FROM_XYZ = {
    "xyz-d65": ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570)),
    "xyz-d50": ((3.1339, -1.6169, -0.4906), (-0.9788, 1.9161, 0.0335), (0.0719, -0.2290, 1.4052)),
}
CHANNELS = {
    "rgb": "r g b", "rgba": "r g b", "hsl": "h s l", "hsla": "h s l", "hwb": "h w b",
    "lab": "l a b", "lch": "l c h", "oklab": "l a b", "oklch": "l c h",
}  # fmt: skip
#: Spaces that colors are mixed in.
SPACES = frozenset((*LIKE_SRGB, *FROM_XYZ, *CHANNELS, "srgb-linear", "xyz"))
MAX_NESTED_COLORS = 8
UNKNOWN: tuple[Color, float] = (None, 1.0)

Shade = tuple[Color, float]


@cache
def parse_color(value: str) -> Shade | None:
    """A color (None: not known here) and its opacity; None if browsers take it for no color."""
    return _parse(value, 0)


def _parse(value: str, depth: int) -> Shade | None:
    if value in SYSTEM_COLORS:
        plain = SYSTEM_COLORS[value]
        if plain is None:
            return UNKNOWN
        value = plain
    token = tinycss2.parse_one_component_value(value, skip_comments=True)
    if token.type == "function" and depth < MAX_NESTED_COLORS:
        found = _mix(token, depth)
        if found is not None:
            return found
        value = work_out(value, EM)
    try:
        parsed = tinycss2.color4.parse_color(value)
    except (ValueError, TypeError, AssertionError, AttributeError):  # a function without a color
        return None
    if parsed == "currentcolor":
        return UNKNOWN
    return None if parsed is None or isinstance(parsed, str) else to_srgb(parsed)


def _mix(token: Any, depth: int) -> Shade | None:
    """What a function that takes other colors gives; None for any other function, and none."""
    name = token.lower_name
    if name == "light-dark":
        parts = split_at_commas(token.arguments)
        colors = [_parse(tinycss2.serialize(part).strip(), depth + 1) for part in parts]
        return colors[0] if len(colors) == 2 and all(colors) else None  # pages are light
    if name == "color-mix":
        space, *mixed = split_at_commas(token.arguments)
        named = tinycss2.serialize(space).lower().split()
        if named[:1] != ["in"] or len(named) < 2 or named[1] not in SPACES:
            return None
        shades = []
        for part in mixed:
            words = [one for one in part if one.type not in ("whitespace", "percentage")]
            shades.append(_parse(tinycss2.serialize(words).strip(), depth + 1))
        known = [shade for shade in shades if shade is not None]
        if len(known) != 2 or len(shades) != 2:
            return None
        return known[0] if known[0] == known[1] else UNKNOWN
    words = [one for one in token.arguments if one.type not in ("whitespace", "comment")]
    if name not in CHANNELS or not words or words[0].type != "ident":
        return None
    if words[0].lower_value != "from" or len(words) < 5:
        return None
    origin = _parse(tinycss2.serialize([words[1]]), depth + 1)
    if origin is None:
        return None
    channels = " ".join(tinycss2.serialize([one]) for one in words[2:5]).lower()
    if channels != CHANNELS[name]:
        return UNKNOWN
    if len(words) == 7 and words[6].type in ("number", "percentage"):
        share = words[6].value / (100 if words[6].type == "percentage" else 1)
        return origin[0], min(1.0, max(0.0, share))
    return origin if len(words) == 5 else UNKNOWN


def split_at_commas(tokens: Any) -> list[list[Any]]:
    """The parts of a list, which commas part."""
    parts: list[list[Any]] = [[]]
    for token in tokens:
        if token == ",":
            parts.append([])
        elif token.type != "comment":
            parts[-1].append(token)
    return parts


def to_srgb(parsed: Any) -> Shade:
    """A color of tinycss2 and its opacity."""
    space, alpha = parsed.space, float(parsed.alpha)
    if space in LIKE_SRGB:
        red, green, blue = (float(part or 0) for part in parsed.coordinates)
    elif space in ("hsl", "hwb"):
        red, green, blue = parsed.to("srgb").coordinates
    elif space == "srgb-linear":
        red, green, blue = (_bend(float(part or 0)) for part in parsed.coordinates)
    else:
        white = "xyz-d50" if space in ("lab", "lch", "xyz-d50") else "xyz-d65"
        try:
            at = parsed.to(white).coordinates if space != "xyz" else parsed.coordinates
        except (NotImplementedError, OverflowError, ValueError):
            return None, alpha
        red, green, blue = (
            _bend(sum(weight * (part or 0) for weight, part in zip(row, at, strict=True)))
            for row in FROM_XYZ[white]
        )
    red, green, blue = (min(1.0, max(0.0, part)) for part in (red, green, blue))
    return (red, green, blue), alpha


def _bend(linear: float) -> float:
    """A part of sRGB from its light."""
    part = min(1.0, max(0.0, linear))
    return 12.92 * part if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055
