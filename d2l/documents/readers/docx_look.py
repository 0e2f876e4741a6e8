"""How text of a DOCX document looks, by what its properties say: those of runs, paragraphs, cells.

Takes elements of properties, gives looks; knows no styles and no places.
"""

import re
from typing import Any, NamedTuple

from d2l.documents.readers.colors import BLACK, WHITE, Color, looks_like
from d2l.documents.readers.docx_theme import FILL, Paint, Theme, W, read_fill, read_named

HIGHLIGHTS: dict[str, Color] = {
    "white": WHITE, "black": BLACK, "yellow": (1.0, 1.0, 0.0), "green": (0.0, 1.0, 0.0),
    "cyan": (0.0, 1.0, 1.0), "magenta": (1.0, 0.0, 1.0), "blue": (0.0, 0.0, 1.0),
    "red": (1.0, 0.0, 0.0), "darkBlue": (0.0, 0.0, 0.5), "darkCyan": (0.0, 0.5, 0.5),
    "darkGreen": (0.0, 0.5, 0.0), "darkMagenta": (0.5, 0.0, 0.5), "darkRed": (0.5, 0.0, 0.0),
    "darkYellow": (0.5, 0.5, 0.0), "darkGray": (0.5, 0.5, 0.5), "lightGray": (0.75, 0.75, 0.75),
}  # fmt: skip
LETTERS = ("val", "themeColor", "themeTint", "themeShade")  # of a color
PATTERN = ("color", "themeColor", "themeTint", "themeShade")  # of what shades
UNDER = ("fill", "themeFill", "themeFillTint", "themeFillShade")  # of what is under a pattern
#: Points of a unit of length; a number without one has that of its place.
_POINTS = {"pt": 1.0, "in": 72.0, "cm": 72 / 2.54, "mm": 72 / 25.4, "pc": 12.0, "pi": 12.0}
_LENGTH = re.compile(r"([+-]?(?:\d{1,12}(?:\.\d{0,9})?|\.\d{1,9}))(pt|in|cm|mm|pc|pi|)")
_SHARE = re.compile(r"pct(\d{1,2})")
TWIP = 1 / 20  # points


class Ground(NamedTuple):
    """What text stands on, where something says so; its color may still not be known."""

    color: Color
    is_painted: bool = True


BARE = Ground(None, is_painted=False)  # what is under it shows through


class Look(NamedTuple):
    """What one place says of how text looks, lengths in points; None: nothing."""

    is_hidden: bool | None = None
    color: Paint | None = None
    opacity: float | None = None  # of what Word calls a fill of text
    outline: Paint | None = None  # around letters
    size: float | None = None
    is_complex: bool | None = None  # so that the next size counts
    complex_size: float | None = None
    width: int | None = None  # percent
    rule: str | None = None  # what the height of lines means
    height: float | None = None
    marker: Ground | None = None
    ground: Ground | None = None  # of the run, where no marker is
    block: Ground | None = None  # of the paragraph
    cell: Ground | None = None

    def over(self, other: "Look") -> "Look":
        """Both, where this one counts for more."""
        if other is NOTHING or self is NOTHING:
            return self if other is NOTHING else other
        both = zip(self, other, strict=True)
        merged: list[Any] = [theirs if own is None else own for own, theirs in both]
        return Look(*merged)


NOTHING = Look()


def read_look(properties: Any, theme: Theme) -> Look:
    """What a `w:rPr` says."""
    if properties is None or not len(properties):
        return NOTHING
    filled, outline = (properties.find(FILL + name) for name in ("textFill", "textOutline"))
    paint = read_fill(filled, theme) if filled is not None else None
    color = properties.find(W + "color")
    if paint is None and color is not None:
        paint = Paint(read_named(color, LETTERS, theme))
    right_to_left, complex = (is_on(properties, name) for name in ("rtl", "cs"))
    return Look(
        is_on(properties, "vanish"),
        paint,
        paint.opacity if paint is not None and filled is not None else None,
        read_fill(outline, theme) if outline is not None else None,
        read_length(value_of(properties, "sz"), 0.5),
        right_to_left if complex is None else complex or bool(right_to_left),
        read_length(value_of(properties, "szCs"), 0.5),
        read_count((value_of(properties, "w") or "").removesuffix("%")),
        marker=read_highlight(properties),
        ground=read_shading(properties, theme),
    )


def read_block(properties: Any, theme: Theme) -> Look:
    """What a `w:pPr` says of its paragraph's lines and ground."""
    if properties is None or not len(properties):
        return NOTHING
    spacing = properties.find(W + "spacing")
    rule = height = None
    if spacing is not None:
        rule, height = spacing.get(W + "lineRule"), read_length(spacing.get(W + "line"), TWIP)
    return Look(rule=rule, height=height, block=read_shading(properties, theme))


def read_highlight(properties: Any) -> Ground | None:
    """The ground that a marker paints; None where none is named."""
    name = value_of(properties, "highlight")
    return None if name is None else Ground(HIGHLIGHTS[name]) if name in HIGHLIGHTS else BARE


def read_shading(properties: Any, theme: Theme) -> Ground | None:
    """The ground that a `w:shd` paints; None where nothing is said."""
    shade = properties.find(W + "shd") if properties is not None else None
    if shade is None:
        return None
    pattern = shade.get(W + "val", "clear")
    under = read_named(shade, UNDER, theme)
    over = read_named(shade, PATTERN, theme)
    if pattern == "nil":
        return BARE
    if pattern == "clear":
        return BARE if under is None else Ground(under)
    if pattern == "solid":
        return Ground(over)
    if share := _SHARE.fullmatch(pattern):
        pairs = zip(over or BLACK, under or WHITE, strict=True)
        part = int(share[1]) / 100
        red, green, blue = (one * part + other * (1 - part) for one, other in pairs)
        return Ground((red, green, blue))
    return Ground(under if looks_like(over, under) else None)


def is_on(properties: Any, name: str) -> bool | None:
    """Whether properties switch something on; None if they do not name it."""
    found = properties.find(W + name)
    return None if found is None else is_true(found.get(W + "val", "1"))


def style_of(properties: Any, name: str) -> str:
    """The id of the style that properties name."""
    return (value_of(properties, name) or "") if properties is not None else ""


def value_of(properties: Any, name: str) -> str | None:
    """The value of a property; None without it."""
    found = properties.find(W + name)
    value: str | None = found.get(W + "val") if found is not None else None
    return value


def is_true(value: str) -> bool:
    """Whether a property that is there is on."""
    return value not in ("0", "false", "off")


def read_count(value: str | None) -> int | None:
    """A number that is small enough to be one; None for anything else."""
    return (
        int(value) if value and value.isascii() and value.isdecimal() and len(value) < 7 else None
    )


def read_length(value: str | None, bare: float) -> float | None:
    """A length in points; `bare` is how many points a number without a unit means one of."""
    found = _LENGTH.fullmatch(value[:30]) if value else None
    return float(found[1]) * (_POINTS[found[2]] if found[2] else bare) if found else None
