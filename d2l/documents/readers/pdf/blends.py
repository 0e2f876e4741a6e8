"""How the colors of a PDF's paints mix with what is under them, and whether the eye can tell.

Takes and gives arrays whose last axis is red, green and blue from 0 to 1. ISO 32000-2, 11.3.5.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from d2l.documents.readers.colors import LEAST_CONTRAST, LEAST_DIFFERENCE
from d2l.documents.readers.pdf.shapes import Floats, Mask

NORMAL = "/Normal"
LUMINOSITY = np.array((0.3, 0.59, 0.11))


def blend(mode: str, back: Floats, ink: Floats) -> Floats:
    """Give what an opaque ink makes of what is under it; a mode that is not known is normal."""
    function = MODES.get(mode)
    with np.errstate(divide="ignore", invalid="ignore"):
        return ink + 0 * back if function is None else function(back, ink)


def vanishes(mode: str, ink: Any) -> bool:
    """Whether an ink leaves no trace whatever is under it."""
    grounds = np.repeat(np.array([[0.0], [0.25], [0.5], [0.75], [1.0]]), 3, axis=1)
    return bool(look_alike(blend(mode, grounds, np.asarray(ink, dtype=float)), grounds).all())


def look_alike(one: Floats, two: Floats) -> Mask:
    """Which colors no one can tell apart, as `colors.looks_like` has it."""
    difference = np.abs(one - two).max(axis=-1)
    first, second = luminance(one) + 0.05, luminance(two) + 0.05
    contrast = np.maximum(first, second) / np.minimum(first, second)
    near = (difference <= LEAST_DIFFERENCE) & (contrast < LEAST_CONTRAST)
    return np.asarray((difference == 0) | near)


def luminance(color: Floats) -> Floats:
    """Relative luminance of sRGB colors."""
    part = np.clip(color, 0, 1)
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ np.array((0.2126, 0.7152, 0.0722)))


def hard_light(back: Floats, ink: Floats) -> Floats:
    """Multiply by dark inks, screen with light ones."""
    return np.where(ink <= 0.5, 2 * back * ink, back + (2 * ink - 1) * (1 - back))


def soft_light(back: Floats, ink: Floats) -> Floats:
    """Darken by dark inks, lighten by light ones."""
    curve = np.where(back <= 0.25, ((16 * back - 12) * back + 4) * back, np.sqrt(back))
    dark = back - (1 - 2 * ink) * back * (1 - back)
    return np.where(ink <= 0.5, dark, back + (2 * ink - 1) * (curve - back))


def dodge(back: Floats, ink: Floats) -> Floats:
    """Lighten what is not black. Versions of the standard differ on black under white: seen."""
    return np.where(ink >= 1, 1.0, np.minimum(1, back / np.maximum(1 - ink, 1e-9)))


def burn(back: Floats, ink: Floats) -> Floats:
    """Darken what is not white. Versions of the standard differ on white under black: seen."""
    return np.where(ink <= 0, 0.0, 1 - np.minimum(1, (1 - back) / np.maximum(ink, 1e-9)))


def set_luminosity(color: Floats, level: Floats) -> Floats:
    """Give colors a luminosity, and take them back into what can be shown."""
    color = color + (level - color @ LUMINOSITY)[..., None]
    gray = (color @ LUMINOSITY)[..., None]
    low, high = color.min(axis=-1, keepdims=True), color.max(axis=-1, keepdims=True)
    color = np.where(low < 0, gray + (color - gray) * gray / (gray - low), color)
    return np.where(high > 1, gray + (color - gray) * (1 - gray) / (high - gray), color)


def set_saturation(color: Floats, level: Floats) -> Floats:
    """Stretch colors so that their largest and smallest part are so far apart."""
    low, high = color.min(axis=-1, keepdims=True), color.max(axis=-1, keepdims=True)
    return np.where(high > low, (color - low) / (high - low) * level[..., None], 0.0)


def hue(back: Floats, ink: Floats) -> Floats:
    """Take the hue of the ink."""
    return set_luminosity(set_saturation(ink + 0 * back, np.ptp(back, axis=-1)), back @ LUMINOSITY)


def saturation(back: Floats, ink: Floats) -> Floats:
    """Take the saturation of the ink."""
    level = np.ptp(ink + 0 * back, axis=-1)
    return set_luminosity(set_saturation(back, level), back @ LUMINOSITY)


MODES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "/Multiply": lambda back, ink: back * ink,
    "/Screen": lambda back, ink: back + ink - back * ink,
    "/Overlay": lambda back, ink: hard_light(ink, back),
    "/Darken": np.minimum,
    "/Lighten": np.maximum,
    "/ColorDodge": dodge,
    "/ColorBurn": burn,
    "/HardLight": hard_light,
    "/SoftLight": soft_light,
    "/Difference": lambda back, ink: np.abs(back - ink),
    "/Exclusion": lambda back, ink: back + ink - 2 * back * ink,
    "/Hue": hue,
    "/Saturation": saturation,
    "/Color": lambda back, ink: set_luminosity(ink + 0 * back, back @ LUMINOSITY),
    "/Luminosity": lambda back, ink: set_luminosity(back, (ink + 0 * back) @ LUMINOSITY),
}
