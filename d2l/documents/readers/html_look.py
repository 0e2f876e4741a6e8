"""How the text of an element of a page looks: its color, what is under it, its size and its place.

Takes declarations, gives looks; what is not known is taken to be seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from d2l.documents.readers.colors import BLACK, WHITE, Color, looks_like, read_hex
from d2l.documents.readers.css_colors import parse_color
from d2l.documents.readers.css_grammar import split_words, stops_of
from d2l.documents.readers.css_places import UNMOVED, Spot
from d2l.documents.readers.css_values import EM, parse_length
from d2l.documents.readers.css_words import WIDE

TINY = 2.0  # pixels: text of this size or less cannot be read
LEAST_OPACITY = 0.07  # black of less on white has less contrast than `colors.LEAST_CONTRAST`
DARK = (0.07, 0.07, 0.07)  # what browsers paint under pages that are dark by themselves
UNSEEN, OFF = "invisible", "off the page"


@dataclass(frozen=True)
class Look:
    """How the text of an element is shown; `whole` hides all below it, `own` what does not say
    otherwise."""

    color: Color = BLACK
    alpha: float = 1.0
    ground: Color = WHITE
    size: float = EM
    is_visible: bool = True
    is_indented_away: bool = False
    opacity: float = 1.0
    whole: str = ""
    #: Those of the element and all above it, with their dashes.
    variables: Mapping[str, str] = field(default_factory=dict)
    spot: Spot = UNMOVED
    is_filled: bool = False  # with a color that `color` does not change

    @property
    def own(self) -> str:
        """Why the element's own text cannot be seen; "" if it can."""
        if not self.is_visible:
            return UNSEEN
        if self.size * min(1.0, self.spot.scale) <= TINY:
            return "tiny"
        if self.is_indented_away:
            return OFF
        if self.alpha < LEAST_OPACITY:
            return "transparent"
        return "in the color of its ground" if looks_like(self.color, self.ground) else ""


def compute_colors(element: Any, declared: Mapping[str, str], look: Look) -> Look:
    """The color of an element's text, and of what is under it."""
    schemes = declared.get("color-scheme", "").split()
    if element.tag == "html" and "dark" in schemes and "light" not in schemes:
        look = replace(look, color=WHITE, ground=DARK)
    look = compute_text_color(element, declared, look)
    painted = declared.get("background-color", "") or read_old_color(element.get("bgcolor", ""))
    picture = declared.get("background-image", "url()" if element.get("background") else "")
    is_clipped = declared.get("background-clip", "") == "text"
    if is_unpainted(declared):
        return look
    has_picture = bool(picture) and picture != "none"
    ground = paint_over(look.ground, painted) if painted else look.ground
    if has_picture:
        shade = read_picture(picture)
        ground = paint_over(ground, shade) if shade else None
    if not is_clipped:
        return replace(look, ground=ground)
    # Only letters are painted: what of the text itself is transparent shows the background.
    shade_of = parse_color(painted)
    is_painted = has_picture or "var(" in painted or (shade_of is not None and shade_of[1] > 0)
    if look.alpha >= 1 or not is_painted:
        return look
    return replace(look, color=ground, alpha=1.0)


def compute_text_color(element: Any, declared: Mapping[str, str], look: Look) -> Look:
    """The color of an element's text; one that fills letters holds before any other."""
    fill = declared.get("-webkit-text-fill-color", "")
    if fill in ("currentcolor", "initial"):
        look = replace(look, is_filled=False)
        fill = ""
    if fill and fill not in WIDE:
        return set_color(replace(look, is_filled=True), fill)
    old_text = element.get("text" if element.tag == "body" else "color", "")
    written = declared.get("color", "")
    if not written and element.tag in ("body", "font"):
        written = read_old_color(old_text)
    return look if look.is_filled else set_color(look, written)


def set_color(look: Look, written: str) -> Look:
    """A look with the color that is declared, if any is."""
    if written == "initial":
        return replace(look, color=BLACK, alpha=1.0)
    if not written or written in WIDE or written == "currentcolor":
        return look
    color = parse_color(written.lower())
    return replace(look, color=color[0] if color else None, alpha=color[1] if color else 1.0)


def is_unpainted(declared: Mapping[str, str]) -> bool:
    """Whether nothing of an element's background is seen: it has no box, or one without size."""
    if declared.get("display") == "contents" or declared.get("visibility") == "hidden":
        return True
    if any(name.startswith(("padding", "border")) for name in declared):
        return False
    return any(
        size is not None and size <= 1 and not is_at_least(declared, side, EM, 1.0)
        for side in ("width", "height")
        for size in (parse_length(declared.get(side, ""), EM),)
    )


def is_at_least(declared: Mapping[str, str], side: str, em: float, pixels: float) -> bool:
    """Whether an element has more width or height than so many pixels, whatever else is said."""
    least = declared.get(f"min-{side}", "auto")
    length = parse_length(least, em)
    return least not in (*WIDE, "auto") and (length is None or length > pixels)


def read_picture(value: str) -> str:
    """The color of a gradient that has one alone, as a value; "" for any other picture."""
    words = split_words(value)
    if len(words) != 1 or words[0].type != "function" or "gradient" not in words[0].lower_name:
        return ""
    stops = [parse_color(stop) for stop in stops_of(words[0])]
    if not stops or None in stops or any(stop != stops[0] for stop in stops):
        return ""
    return stops_of(words[0])[0]


def read_old_color(value: str) -> str:
    """A color of an old attribute, whose digits may stand without their mark."""
    value = value.strip().lower()
    return f"#{value}" if read_hex(value) is not None else value


def paint_over(ground: Color, value: str) -> Color:
    """The ground after a background was painted on it."""
    if value in WIDE or value == "transparent":
        return ground
    parsed = parse_color(value)
    if parsed is None:
        return None if "var(" in value else ground
    color, alpha = parsed
    if alpha == 0:
        return ground
    if alpha >= 1 or ground is None or color is None:
        return color if alpha >= 1 else None
    red, green, blue = (
        alpha * over + (1 - alpha) * under for over, under in zip(color, ground, strict=True)
    )
    return red, green, blue
