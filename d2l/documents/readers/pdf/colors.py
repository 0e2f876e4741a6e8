"""The colors that a PDF page sets, as red, green and blue.

Takes color spaces and operands of pypdf, gives colors; what cannot be told is None.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pypdf.generic import ArrayObject, DictionaryObject

from d2l.documents.readers.colors import BLACK, WHITE, Color
from d2l.documents.readers.pdf.fonts import look_up
from d2l.documents.readers.pdf.functions import evaluate

GRAY, RGB, CMYK = "/DeviceGray", "/DeviceRGB", "/DeviceCMYK"
SHORT_NAMES = {"/G": GRAY, "/RGB": RGB, "/CMYK": CMYK, "/CalGray": GRAY, "/CalRGB": RGB}
BY_COMPONENTS = {1: GRAY, 3: RGB, 4: CMYK}
MAX_NESTED_SPACES = 4


@dataclass(frozen=True)
class Space:
    """A color space: one of the three of devices, or what stands in an array."""

    name: str
    detail: Any = None  # the array, if it is one


DEVICE_GRAY = Space(GRAY)


def find_space(name: Any, resources: Any) -> Space:
    """Give the color space that an operator or another space names."""
    value = name.get_object() if hasattr(name, "get_object") else name
    spaces = look_up(resources, "/ColorSpace") if isinstance(resources, DictionaryObject) else None
    if isinstance(value, str) and isinstance(spaces, DictionaryObject) and value in spaces:
        value = spaces[value].get_object()
    if isinstance(value, str):
        return Space(SHORT_NAMES.get(value, value))
    if isinstance(value, ArrayObject) and value:
        kind = str(value[0].get_object())
        return Space(SHORT_NAMES.get(kind, kind), value)
    return Space("")


def first_color(space: Space) -> Color:
    """The color that a space begins with: black, or none that is known."""
    return BLACK if space.name in (GRAY, RGB, CMYK, "/ICCBased", "/Lab") else None


def leaves_ink(space: Space) -> bool:
    """Whether a space has a color that is painted at all: the ink named None never is."""
    if space.name not in ("/Separation", "/DeviceN") or not space.detail or len(space.detail) < 2:
        return True
    named = space.detail[1].get_object()
    names = named if isinstance(named, ArrayObject) else [named]
    return any(name != "/None" for name in names)


def read_color(space: Space, operands: Sequence[Any], resources: Any, depth: int = 0) -> Color:
    """Give the color of operands in a space."""
    values = [float(value) for value in operands if isinstance(value, (int, float))]
    if depth > MAX_NESTED_SPACES or not values:
        return None
    detail = space.detail
    if space.name == "/ICCBased":
        parts = look_up(detail[1].get_object(), "/N")
        return device_color(BY_COMPONENTS.get(parts, "") if isinstance(parts, int) else "", values)
    if space.name == "/Lab":
        return lab_color(values)
    if space.name == "/Indexed":
        return indexed_color(detail, int(values[0]), resources, depth)
    if space.name in ("/Separation", "/DeviceN"):
        return ink_color(detail, values, resources, depth)
    return device_color(space.name, values)


def device_color(name: str, values: Sequence[float]) -> Color:
    """Give the color of one of the three spaces of devices."""
    if name == GRAY:
        return values[0], values[0], values[0]
    if name == RGB and len(values) >= 3:
        return values[0], values[1], values[2]
    if name == CMYK and len(values) >= 4:
        cyan, magenta, yellow, black = values[:4]
        return (1 - cyan) * (1 - black), (1 - magenta) * (1 - black), (1 - yellow) * (1 - black)
    return None


def lab_color(values: Sequence[float]) -> Color:
    """Give grays of the Lab space; its colors are not told."""
    if len(values) < 3 or max(abs(values[1]), abs(values[2])) > 3:
        return None
    lightness = min(100.0, max(0.0, values[0]))
    linear = ((lightness + 16) / 116) ** 3 if lightness > 8 else lightness / 903.3
    gray = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return gray, gray, gray


def indexed_color(detail: Any, index: int, resources: Any, depth: int) -> Color:
    """Give a color of a table."""
    base = find_space(detail[1], resources)
    table = detail[3].get_object()
    raw = table.get_data() if hasattr(table, "get_data") else table
    if isinstance(raw, str):
        raw = getattr(raw, "original_bytes", raw.encode("latin-1", "replace"))
    n_parts = {GRAY: 1, RGB: 3, CMYK: 4}.get(base.name, 0)
    if base.name == "/ICCBased":
        n_parts = int(look_up(base.detail[1].get_object(), "/N"))
    entry = raw[index * n_parts : (index + 1) * n_parts]
    return read_color(base, [part / 255 for part in entry], resources, depth + 1)


def ink_color(detail: Any, tints: Sequence[float], resources: Any, depth: int) -> Color:
    """Give the color of one ink or more: none of them is the paper's white."""
    if not any(tint > 0 for tint in tints):
        return WHITE
    if str(detail[1]) in ("/Black", "/All"):
        return 1 - tints[0], 1 - tints[0], 1 - tints[0]
    mixed = evaluate(detail[3], tints)
    if mixed is None:
        return None
    return read_color(find_space(detail[2], resources), mixed, resources, depth + 1)
