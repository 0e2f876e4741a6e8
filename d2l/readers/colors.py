"""Colors, and the contrast of text on its ground."""

from functools import cache

import tinycss2.color4

#: Red, green and blue from 0 to 1; None: unknown, so the text counts as visible.
Color = tuple[float, float, float] | None

WHITE = (1.0, 1.0, 1.0)
BLACK = (0.0, 0.0, 0.0)
#: Text of less contrast cannot be read: #f0f0f0 on white has 1.14, and pale print has 1.6 (#ccc).
LEAST_CONTRAST = 1.15
#: Colors of one brightness may still differ: red on blue, yellow on white.
LEAST_DIFFERENCE = 0.15


def looks_like(color: Color, other: Color) -> bool:
    """True if text of one color cannot be seen on the other; False if either is unknown."""
    if color is None or other is None:
        return False
    if color == other:
        return True
    if max(abs(a - b) for a, b in zip(color, other, strict=True)) > LEAST_DIFFERENCE:
        return False
    light, dark = sorted((luminance(color), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05) < LEAST_CONTRAST


def luminance(color: tuple[float, float, float]) -> float:
    """Relative luminance of an sRGB color, by the Web Content Accessibility Guidelines."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (min(1.0, max(0.0, value)) for value in color)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def read_hex(digits: str) -> Color:
    """Read a color of six hexadecimal digits; None for other texts."""
    if len(digits) != 6 or not all(char in "0123456789abcdefABCDEF" for char in digits):
        return None
    red, green, blue = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    return red, green, blue


@cache
def parse_color(value: str) -> tuple[Color, float] | None:
    """Parse a style sheet's value: (color or None if it is unknown, opacity); None if the value is
    no plain color."""
    try:
        parsed = tinycss2.color4.parse_color(value)
    except (ValueError, TypeError, AssertionError, AttributeError):  # a function without a color
        return None
    if parsed is None or isinstance(parsed, str):
        return None
    if parsed.space not in ("srgb", "hsl", "hwb"):
        return None, float(parsed.alpha)
    rgb = parsed.coordinates if parsed.space == "srgb" else parsed.to("srgb").coordinates
    red, green, blue = (min(1.0, max(0.0, float(part or 0))) for part in rgb)
    return (red, green, blue), float(parsed.alpha)
