"""Shapes that cut elements of a page: whether anything of an element's text is left.

Takes the text of a value and the size of type in pixels; how large the element is, is not known.
"""

import re
from collections.abc import Callable
from typing import Any

import tinycss2

from d2l.documents.readers.css_colors import split_at_commas
from d2l.documents.readers.css_grammar import split_words
from d2l.documents.readers.css_values import SCREEN, parse_length

NEARLY_ALL = 95.0  # percent
LEAST_SHARE = 2.0  # percent of an element's width or height
LEAST_PART = 0.3  # of the size of type: of lines that are cut lower, nothing can be read
TALL = 500.0  # pixels: few paragraphs are higher
DRAWS = re.compile(r"[lhvcsqta]", re.I)
DIGITS = re.compile(r"\d{1,9}(?:\.\d{0,9})?")

#: A number and its unit ("px", "%"); both, where the number is 0.
Side = tuple[float, str]


def is_cut_away(value: str, size: float) -> bool:
    """Whether a `clip-path` leaves nothing of an element."""
    for token in split_words(value):
        if token.type == "function" and token.lower_name in SHAPES:
            return SHAPES[token.lower_name](token.arguments, size)
    return False


def is_clipped_away(value: str, size: float) -> bool:
    """Whether an old `clip`, of distances from the top and the left, leaves nothing."""
    for token in split_words(value):
        if token.type == "function" and token.lower_name == "rect":
            return _rect(token.arguments, size)
    return False


def _sides(tokens: list[Any], size: float) -> list[Side | None]:
    """Lengths and percentages, up to the first other word; None for `auto` and what is not
    known."""
    sides: list[Side | None] = []
    for token in tokens:
        if token.type == "ident" and token.lower_value != "auto":
            break
        if token.type in ("whitespace", "comment") or token == ",":
            continue
        if token.type == "percentage":
            sides.append((token.value, "%"))
        else:
            length = parse_length(tinycss2.serialize([token]), size)
            sides.append(None if length is None else (length, "px"))
    return sides


def _inset(tokens: list[Any], size: float) -> bool:
    sides = _sides(tokens, size)
    if not sides:
        return False
    top, right = sides[0], sides[min(1, len(sides) - 1)]
    bottom = sides[2] if len(sides) > 2 else top
    left = sides[3] if len(sides) > 3 else right
    return _meet(top, bottom, TALL) or _meet(left, right, SCREEN["width"])


def _meet(one: Side | None, other: Side | None, most: float) -> bool:
    """Whether two sides leave nothing between them."""
    known = [side for side in (one, other) if side is not None]
    shares = sum(number for number, unit in known if unit == "%")
    lengths = sum(number for number, unit in known if unit == "px")
    return shares >= NEARLY_ALL or lengths >= most


def _radius(tokens: list[Any], size: float) -> bool:
    return any(_is_small(side, size / 2) for side in _sides(tokens, size))


def _is_small(side: Side | None, least: float) -> bool:
    return side is not None and side[0] <= (LEAST_SHARE if side[1] == "%" else least)


def _rect(tokens: list[Any], size: float) -> bool:
    top, right, bottom, left = (*_sides(tokens, size), None, None, None, None)[:4]
    start: Side = (0.0, "")
    return _ends_before(bottom, top or start, size) or _ends_before(right, left or start, size)


def _ends_before(end: Side | None, start: Side, size: float) -> bool:
    if end is None or (end[1] != start[1] and start[0] != 0 and end[0] != 0):
        return False
    least = LEAST_SHARE if "%" in (end[1], start[1]) else size * LEAST_PART
    return end[0] - start[0] <= least


def _xywh(tokens: list[Any], size: float) -> bool:
    return any(_is_small(side, size * LEAST_PART) for side in _sides(tokens, size)[2:])


def _polygon(tokens: list[Any], size: float) -> bool:
    points: list[tuple[float, float]] = []
    units = set()
    for part in split_at_commas(tokens):
        sides = _sides(part, size)
        if len(sides) != 2:
            continue  # the rule by which it is filled
        for side in sides:
            if side is None:
                return False
            if side[0]:
                units.add(side[1])
        points.append((sides[0][0], sides[1][0]))  # type: ignore[index]
    if len(units) > 1:
        return False
    across, down = [x for x, _ in points], [y for _, y in points]
    if not points or max(across) <= 0 or max(down) <= 0:
        return True
    if units == {"%"} and (min(across) >= 100 or min(down) >= 100):
        return True
    ends = [*points[1:], points[0]]
    area = abs(sum(x * v - u * y for (x, y), (u, v) in zip(points, ends, strict=True))) / 2
    return area <= (100 * LEAST_SHARE if units == {"%"} else size * size / 2)


def _path(tokens: list[Any], size: float) -> bool:
    drawn = "".join(str(token.value) for token in tokens if token.type == "string")
    numbers = [float(number) for number in DIGITS.findall(drawn)]
    return not DRAWS.search(drawn) or max(numbers, default=0.0) <= size * LEAST_PART


SHAPES: dict[str, Callable[[list[Any], float], bool]] = {
    "inset": _inset, "circle": _radius, "ellipse": _radius, "rect": _rect, "xywh": _xywh,
    "polygon": _polygon, "path": _path,
}  # fmt: skip
