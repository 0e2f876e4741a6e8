"""Where elements of a page are moved to, and how they are scaled, as far as styles tell it.

Takes declarations and where the elements around are; distances in pixels, to the right and down.
How large elements are, and where they would be by themselves, is not known.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tinycss2

from d2l.documents.readers.css_colors import split_at_commas
from d2l.documents.readers.css_grammar import split_words
from d2l.documents.readers.css_values import SCREEN, parse_length, parse_share
from d2l.documents.readers.css_words import ANGLES

FAR = -500.0  # pixels: what is moved so far to the left or up is off the screen
FAR_RIGHT = 5000.0  # pixels: nobody scrolls as far to the right
FAR_FLOAT = -2000.0  # pixels: columns stand side by side by large margins to the left
FAR_FIXED = 2000.0  # pixels: what does not scroll is below the screen
FAR_SHARE = -2.0  # of what is around it
LEAST_SCALE = 0.1
Point = tuple[float, float]
Matrix = tuple[float, float, float, float, float, float]  # as in `transform: matrix()`
SAME: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
AXES = (("left", "right", "width"), ("top", "bottom", "height"))


@dataclass(frozen=True)
class Spot:
    """How far an element is moved from where it would be; `block`: the same of what distances are
    counted from, None: the page."""

    at: Point = (0.0, 0.0)
    block: Point | None = None
    scale: float = 1.0
    is_off: bool = False


UNMOVED = Spot()


def find_spot(declared: Mapping[str, str], around: Spot, em: float, n_children: int) -> Spot:
    """Where an element is, from what is declared for it and where its parent is."""
    position = declared.get("position", "static")
    matrix = multiply(
        read_rotation(declared.get("rotate", "")), read_transform(declared.get("transform", ""), em)
    )
    scales = [parse_share(part) for part in declared.get("scale", "").split()[:2]]
    least = least_scale(matrix) * (parse_share(declared.get("zoom", "")) or 1.0)
    least *= min((abs(scale) for scale in scales if scale is not None), default=1.0)
    moves = [_travel(part, em) for part in declared.get("translate", "").split()[:2]]
    moves = [move + by for move, by in zip([*moves, 0.0, 0.0], matrix[4:], strict=False)]
    at = [0.0, 0.0]
    is_far = False
    for axis, names in enumerate(AXES):
        here, is_out = _move(declared, names, position, _Axis(axis, around, em))
        at[axis] = here + moves[axis]
        is_far = is_far or is_out
    spot: Point = (at[0], at[1])
    if spot != around.at:
        is_far = is_far or min(spot) <= FAR or spot[0] >= FAR_RIGHT
    if is_far and _reaches_back(declared, spot, em, n_children):
        spot, is_far = (0.0, 0.0), False
    is_far = is_far or has_far_margin(declared, spot, around, em)
    is_block = position in ("relative", "absolute", "fixed", "sticky") or matrix != SAME
    block = spot if is_block else around.block
    return Spot(spot, block, around.scale * least, is_far or least < LEAST_SCALE)


@dataclass(frozen=True)
class _Axis:
    """One of two directions, with where the parent is."""

    index: int
    around: Spot
    em: float

    @property
    def screen(self) -> float:
        """Pixels of the screen in this direction."""
        return SCREEN["height" if self.index else "width"]


def _move(
    declared: Mapping[str, str], names: tuple[str, str, str], position: str, axis: _Axis
) -> tuple[float, bool]:
    """Where an element is in one direction, and whether that is off the screen for sure."""
    parent = axis.around.at[axis.index]
    if position not in ("relative", "absolute", "fixed"):
        return parent, False
    block = axis.around.block if position == "absolute" else None
    is_page = position == "fixed" or (position == "absolute" and block is None)
    start, end = (_distance(declared.get(name, ""), axis, is_page) for name in names[:2])
    if position == "relative":
        return parent + (start if start is not None else -(end or 0.0)), False
    base = block[axis.index] if block is not None else 0.0
    if start is not None:
        at = base + start
        unit = declared.get(names[0], "")
        ends = unit.endswith(("%", "vw", "vh")) and at >= axis.screen
        return at, position == "fixed" and (at >= FAR_FIXED or ends)
    if end is None:
        return parent, False
    if end < 0:  # beyond the right or the lower end of what is around
        return parent, end <= FAR
    # How high what is around may be is known of the screen alone.
    room = axis.screen if is_page or axis.index == 0 else FAR_RIGHT
    if is_page and declared.get(names[1], "").endswith("%") and end >= axis.screen:
        return parent, True
    return parent, base + room - end <= FAR


def _distance(value: str, axis: _Axis, is_page: bool) -> float | None:
    """A distance in pixels; None if it is none. Of shares of what is not known, large ones."""
    if not value.endswith("%"):
        return parse_length(value, axis.em)
    share = parse_share(value)
    if share is None:
        return None
    far = -1.0 if is_page else FAR_SHARE
    return 0.0 if far < share < 0 else share * axis.screen


def _reaches_back(declared: Mapping[str, str], spot: Point, em: float, n_children: int) -> bool:
    """Whether an element is so wide that some of what is side by side in it is on the screen."""
    width = parse_length(declared.get("width", ""), em)
    return n_children > 1 and width is not None and spot[0] <= FAR and spot[0] + width > 0


def has_far_margin(declared: Mapping[str, str], spot: Point, around: Spot, em: float) -> bool:
    """Whether margins, and room inside that makes up for them, move text off the screen."""
    is_float = declared.get("float") in ("left", "right")
    for axis, side in enumerate(("left", "top")):
        written = declared.get(f"margin-{side}", "")
        share = parse_share(written) if written.endswith("%") else None
        if share is not None and share <= FAR_SHARE:
            return True
        margin = parse_length(written, em) or 0.0
        room = parse_length(declared.get(f"padding-{side}", ""), em) or 0.0
        if side == "left" and margin + room >= FAR_RIGHT:
            return True
        moved = max(0.0, spot[axis] - around.at[axis])
        if margin < 0 and margin + room + moved <= (FAR_FLOAT if is_float and not axis else FAR):
            return True
    return False


def read_transform(value: str, em: float) -> Matrix:
    """All of a transform as one matrix; what is not known of it moves nothing."""
    matrix = SAME
    for token in split_words(value) if "(" in value else ():
        if token.type == "function":
            parts = [tinycss2.serialize(part).strip() for part in split_at_commas(token.arguments)]
            matrix = multiply(matrix, _one_transform(token.lower_name, parts, em))
    return matrix


def read_rotation(value: str) -> Matrix:
    """The matrix of a `rotate`."""
    words = value.split()
    if len(words) == 2 and words[0] in ("x", "y", "z"):
        return _turn(f"rotate{words[0]}", words[1:])
    return _turn("rotate", words) if len(words) == 1 else SAME


def multiply(one: Matrix, other: Matrix) -> Matrix:
    """The matrix that does what `other` does, and then what `one` does."""
    a, b, c, d, e, f = one
    p, q, r, s, t, u = other
    return (
        a * p + c * q, b * p + d * q, a * r + c * s, b * r + d * s,
        a * t + c * u + e, b * t + d * u + f,
    )  # fmt: skip


def _one_transform(name: str, parts: list[str], em: float) -> Matrix:
    if name in ("translate", "translate3d"):
        across, down = (*(_travel(part, em) for part in parts), 0.0)[:2]
        return (1.0, 0.0, 0.0, 1.0, across, down)
    if name in ("translatex", "translatey"):
        move = _travel(parts[0], em)
        return (1.0, 0.0, 0.0, 1.0, *((move, 0.0) if name[-1] == "x" else (0.0, move)))
    if name in ("scale", "scale3d", "scalex", "scaley"):
        factors = [1.0 if (one := parse_share(part)) is None else one for part in parts]
        across, down = factors[0], factors[min(1, len(factors) - 1)]
        across, down = (1.0 if name == "scaley" else across), (1.0 if name == "scalex" else down)
        return (across, 0.0, 0.0, down, 0.0, 0.0)
    if name in ("matrix", "matrix3d"):
        numbers = [0.0 if (one := parse_share(part)) is None else one for part in parts]
        places = (0, 1, 2, 3, 4, 5) if name == "matrix" else (0, 1, 4, 5, 12, 13)
        if len(numbers) > places[-1]:
            a, b, c, d, e, f = (numbers[place] for place in places)
            return (a, b, c, d, e, f)
        return SAME
    return _turn(name, parts)


def _turn(name: str, parts: list[str]) -> Matrix:
    """A rotation or a slant; rotations out of the screen make what is seen narrower."""
    angles = [angle for part in parts if (angle := read_angle(part)) is not None]
    if not angles:
        return SAME
    cos, sin = math.cos(angles[0]), math.sin(angles[0])
    if name == "rotate3d" and len(parts) == 4:
        x, y, z = (parse_share(part) or 0.0 for part in parts[:3])
        angle = read_angle(parts[3]) or 0.0
        cos, sin = math.cos(angle), math.sin(angle)
        name = "rotatex" if not y and not z else "rotatey" if not x and not z else "rotatez"
        if x and y:
            return SAME
    if name in ("rotate", "rotatez"):
        return (cos, sin, -sin, cos, 0.0, 0.0)
    if name == "rotatex":
        return (1.0, 0.0, 0.0, cos, 0.0, 0.0)
    if name == "rotatey":
        return (cos, 0.0, 0.0, 1.0, 0.0, 0.0)
    across = math.tan(angles[0]) if name in ("skew", "skewx") else 0.0
    down = math.tan(angles[-1]) if name == "skewy" or (name == "skew" and len(angles) > 1) else 0.0
    return (1.0, down, across, 1.0, 0.0, 0.0)


def read_angle(value: str) -> float | None:
    """An angle in radians; None if it is none."""
    token: Any = tinycss2.parse_one_component_value(value)
    if token.type == "error":
        return None
    if token.type == "number":
        return float(token.value) if token.value == 0 else None
    if token.type != "dimension" or token.lower_unit not in ANGLES:
        return None
    angle = math.radians(token.value * ANGLES[token.lower_unit])
    return angle if math.isfinite(angle) else None


def _travel(value: str, em: float) -> float:
    """How far a transform moves, in pixels; of shares of the element itself, large ones alone."""
    if value.endswith("%"):
        share = parse_share(value) or 0.0
        return share * SCREEN["width"] if share <= FAR_SHARE or share >= -2 * FAR_SHARE else 0.0
    return parse_length(value, em) or 0.0


def least_scale(matrix: Matrix) -> float:
    """How much a matrix makes an element smaller, in the direction where it does so most."""
    a, b, c, d = matrix[:4]
    total, product = a * a + b * b + c * c + d * d, a * d - b * c
    if not math.isfinite(total):
        return 0.0
    most = math.sqrt((total + math.sqrt(max(0.0, total * total - 4 * product * product))) / 2)
    return abs(product) / most if most else 0.0
