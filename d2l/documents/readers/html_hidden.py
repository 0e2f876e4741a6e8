"""What of an HTML page's text a reader cannot see, by its styles and attributes.

Takes a tree of lxml and style sheets, gives the elements whose text is hidden. In doubt text is
taken to be seen: on pictures, and where a script or a sheet elsewhere decides.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import cssselect2

from d2l.documents.findings import Finding
from d2l.documents.readers.colors import BLACK, WHITE, Color, looks_like, read_hex
from d2l.documents.readers.css_colors import parse_color
from d2l.documents.readers.css_grammar import expand, is_valid
from d2l.documents.readers.css_selectors import QuirkyElement
from d2l.documents.readers.css_values import (
    EM,
    SIZES,
    parse_length,
    parse_share,
    put_in,
    work_out,
)
from d2l.documents.readers.css_words import WIDE
from d2l.documents.readers.page_sheets import find_sheets
from d2l.documents.readers.styles import Declarations, Sheets, is_variable

TINY = 2.0  # pixels: text of this size or less cannot be read
FAR = -500.0  # pixels: what is moved so far to the left or up is off the screen
FAR_RIGHT = 5000.0  # pixels: nobody scrolls as far to the right
FAR_SHARE = -200.0  # percent of what is around it
LEAST_SCALE = 0.1
MAX_VARIABLE_CHARS = 500
LEAST_OPACITY = 0.07  # black of less on white has less contrast than `colors.LEAST_CONTRAST`
CLIPPED = re.compile(
    r"rect\( ?0(?:px)?[, ]|rect\( ?(\d{1,4}px)[, ]+\1[, ]+\1|inset\( ?(?:[5-9]\d|100)%"
    r"|inset\( ?[\w.]{1,9}%? (?:[\w.]{1,9}%? ){0,2}100%|inset\( ?[\w.]{1,9} (?:[5-9]\d|100)% ?\)"
    r"|(?:circle|ellipse)\( ?0"
    r"|polygon\( ?0(?:px|%)? 0(?:px|%)? ?, ?0(?:px|%)? 0(?:px|%)? ?[,)]"
)
MOVED_AWAY = re.compile(
    r"translate(?:3d|x|y)?\( ?(?:[^,()]{1,20},)? ?-(?:\d{4,9}|[2-9]\d{2}(?:vw|vh|%))"
    r"|translatex?\( ?\d{4,9}px|scale(?:3d|x|y)?\( ?0?(?:\.0\d{0,9})? ?[,)]|matrix\( ?0 ?, ?0 ?, ?0"
    r"|rotate[xy]\( ?-?(?:90|270)deg|rotate3d\((?: ?[01] ?,){2} ?0 ?, ?-?(?:90|270)deg"
)
BLURRED = re.compile(
    r"blur\( ?(?:[89]|\d{2,4})(?:\.\d{0,4})?px|contrast\( ?0?(?:\.0\d{0,4})?%? ?\)"
)
PICTURE = re.compile(r"url\(|gradient\(|image\(|image-set\(")

_CUTTING = ("hidden", "clip", "scroll", "auto")

NOT_DISPLAYED, UNSEEN = "not displayed", "invisible"
OFF, CLIPPED_AWAY = "off the page", "clipped away"


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

    @property
    def own(self) -> str:
        """Why the element's own text cannot be seen; "" if it can."""
        if not self.is_visible:
            return UNSEEN
        if self.size <= TINY:
            return "tiny"
        if self.is_indented_away:
            return OFF
        if self.alpha < LEAST_OPACITY:
            return "transparent"
        return "in the color of its ground" if looks_like(self.color, self.ground) else ""


@dataclass(frozen=True)
class HiddenText:
    """Text of an element that cannot be seen: all of it, or what is not in elements below."""

    element: Any
    reason: str
    is_whole: bool

    @property
    def n_chars(self) -> int:
        """How many characters, spaces left out."""
        texts = self.element.itertext() if self.is_whole else own_texts(self.element)
        return sum(len("".join(text.split())) for text in texts)

    def take_out(self) -> None:
        """Take the text out of the tree; what follows the element stays."""
        if self.is_whole and self.element.getparent() is not None:
            self.element.drop_tree()
            return
        self.element.text = None
        for child in self.element:
            if self.is_whole:
                self.element.remove(child)
            else:
                child.tail = None


def own_texts(element: Any) -> Iterator[str]:
    """The text of an element that is not in elements below it."""
    yield element.text or ""
    for child in element:
        yield child.tail or ""


def find_hidden(root: Any, sheets: Iterable[str], *, is_quirky: bool = False) -> list[HiddenText]:
    """Give all hidden text of a page that holds more than space, each once."""
    rules = Sheets([*sheets, *find_sheets(root)], is_quirky=is_quirky)
    start = Look(variables=rules.variables)
    looks: dict[Any, Look] = {}
    found: list[HiddenText] = []
    wrapper = QuirkyElement if is_quirky else cssselect2.ElementWrapper
    for wrapped in wrapper.from_html_root(root).iter_subtree():
        element = wrapped.etree_element
        if element.tag in ("head", "style", "script", "title"):
            continue
        parent = looks.get(element.getparent(), start)
        if parent.whole:
            looks[element] = parent
            continue
        declared = rules.declare(wrapped, element.get("style", ""))
        looks[element] = look = compute(element, *settle(declared, parent))
        if reason := look.whole or look.own:
            hidden = HiddenText(element, reason, bool(look.whole))
            if hidden.n_chars:
                found.append(hidden)
    return found


def settle(declared: Declarations, parent: Look) -> tuple[Declarations, Look]:
    """Declarations with shorthands taken apart, variables put in and sums worked out, and the
    parent with these variables."""
    own = {name: value for name, value in declared.items() if is_variable(name)}
    if own:
        parent = replace(parent, variables=set_variables(parent.variables, own))
    values: dict[str, str] = {}
    for short, written in declared.items():
        if is_variable(short):
            continue
        value = written
        if "(" in written:
            value = work_out(put_in(written, parent.variables), parent.size)
            if "var(" not in value and not is_valid(short, value):
                value = "unset"  # so it is where a variable holds what makes no sense
        for name, part in expand(short, value):
            values[name] = part
    return values, parent


def set_variables(above: Mapping[str, str], own: Mapping[str, str]) -> Mapping[str, str]:
    """Variables of an element: those above it, and its own of a length that styles have."""
    variables = dict(above)
    for name, value in own.items():
        if value == "initial":
            variables.pop(name, None)
        elif value not in WIDE and len(value) <= MAX_VARIABLE_CHARS:
            variables[name] = value
    return variables


def compute(element: Any, declared: Declarations, parent: Look) -> Look:
    """How an element is shown, from what is declared for it and how its parent is."""
    size = compute_size(declared, parent.size)
    look = replace(parent, size=size)
    look = compute_colors(element, declared, look)
    visibility = declared.get("visibility", "")
    if visibility in ("hidden", "collapse"):
        look = replace(look, is_visible=False)
    elif visibility in ("visible", "initial"):
        look = replace(look, is_visible=True)
    if "text-indent" in declared:
        indent = parse_length(declared["text-indent"], size)
        is_cut = "hidden" in declared.get("overflow", "") + declared.get("overflow-x", "")
        is_away = indent is not None and (indent <= FAR or (is_cut and indent >= -FAR))
        is_beside = declared["text-indent"] == "100%" and is_cut
        look = replace(
            look,
            is_indented_away=is_away or (is_beside and declared.get("white-space") == "nowrap"),
        )
    opacity = parse_share(declared.get("opacity", ""))
    if opacity is not None:
        look = replace(look, opacity=look.opacity * opacity)
    return replace(look, whole=hide_whole(element, declared, look))


def compute_size(declared: Declarations, inherited: float) -> float:
    """The size of type in pixels."""
    value = declared.get("font-size", "")
    if value in SIZES or value == "initial":
        return SIZES.get(value, EM)
    if value in ("smaller", "larger"):
        return inherited * (1.2 if value == "larger" else 1 / 1.2)
    if value.endswith("%"):
        share = parse_share(value)
        return inherited if share is None else inherited * share
    size = parse_length(value, inherited)
    return inherited if size is None else size


def compute_colors(element: Any, declared: Declarations, look: Look) -> Look:
    """The color of an element's text, and of what is under it."""
    old_text = element.get("text" if element.tag == "body" else "color", "")
    written = declared.get("-webkit-text-fill-color") or declared.get("color")
    written = written or (read_old_color(old_text) if element.tag in ("body", "font") else "")
    if written == "initial":
        look = replace(look, color=BLACK, alpha=1.0)
    elif written and written not in (*WIDE, "currentcolor"):
        color = parse_color(written.lower())
        look = replace(look, color=color[0] if color else None, alpha=color[1] if color else 1.0)
    painted = declared.get("background-color", "") or read_old_color(element.get("bgcolor", ""))
    picture = declared.get("background-image", "url()" if element.get("background") else "")
    if PICTURE.search(picture):
        ground: Color = None
    else:
        ground = paint_over(look.ground, painted) if painted else look.ground
    if "text" in declared.get("background-clip", ""):
        return replace(look, ground=None, alpha=1.0, color=None)
    return replace(look, ground=ground)


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


def hide_whole(element: Any, declared: Declarations, look: Look) -> str:
    """Why nothing in an element can be seen; "" if some may be."""
    display = declared.get("display", "")
    if display.startswith("revert"):  # what browsers do by themselves
        display = ""
    if display == "none" or (element.get("hidden") is not None and not display):
        return NOT_DISPLAYED
    if declared.get("content-visibility") == "hidden":
        return NOT_DISPLAYED
    if element.get("popover") is not None and not display:
        return NOT_DISPLAYED
    if BLURRED.search(declared.get("filter", "")):
        return UNSEEN
    opacity = re.search(r"opacity\( ?([\d.]{1,9}%?) ?\)", declared.get("filter", ""))
    filtered = parse_share(opacity[1]) if opacity else None
    if look.opacity * (1.0 if filtered is None else filtered) < LEAST_OPACITY:
        return "transparent"
    is_out_of_flow = declared.get("position") in ("absolute", "fixed")
    if is_out_of_flow or declared.get("position") == "relative":
        if is_far(declared, ("left", "top"), look.size):
            return OFF
        if is_out_of_flow and (parse_length(declared.get("left", ""), look.size) or 0) >= FAR_RIGHT:
            return OFF
        if is_out_of_flow and is_far(declared, ("right", "bottom"), look.size):
            return OFF
    if is_far(declared, ("margin-left", "margin-top"), look.size):
        return OFF
    if MOVED_AWAY.search(declared.get("transform", "")) or is_moved(declared, look.size):
        return OFF
    if CLIPPED.search(declared.get("clip-path", "")):
        return CLIPPED_AWAY
    if is_out_of_flow and CLIPPED.search(declared.get("clip", "")):
        return CLIPPED_AWAY
    return CLIPPED_AWAY if is_squeezed(declared, look.size) else ""


def is_far(declared: Declarations, names: tuple[str, str], em: float) -> bool:
    """Whether one of two distances moves an element off the screen."""
    for value in (declared.get(name, "") for name in names):
        length = parse_length(value, em)
        share = re.fullmatch(r"(-\d{1,9})%", value)
        if (length is not None and length <= FAR) or (share and float(share[1]) <= FAR_SHARE):
            return True
    return False


def is_moved(declared: Declarations, em: float) -> bool:
    """Whether the properties that do what transforms do leave nothing of an element to see."""
    moves = (parse_length(value, em) for value in declared.get("translate", "").split())
    scales = (parse_share(value) for value in declared.get("scale", "").split())
    zoom = parse_share(declared.get("zoom", ""))
    return (
        any(move is not None and move <= FAR for move in moves)
        or any(scale is not None and scale < LEAST_SCALE for scale in scales)
        or (zoom is not None and 0 < zoom < LEAST_SCALE)
    )


def is_squeezed(declared: Declarations, em: float) -> bool:
    """Whether an element has no room for its text, and cuts off what does not fit."""
    overflow = (declared.get(name, "") for name in ("overflow", "overflow-x", "overflow-y"))
    if not any(word in value for value in overflow for word in _CUTTING):
        return False
    sizes = (
        parse_length(declared.get(name, ""), em)
        for name in ("width", "height", "max-width", "max-height", "line-height")
    )
    return any(size is not None and size <= 1 for size in sizes)


def count_hidden(found: Iterable[HiddenText]) -> Iterator[Finding]:
    """What to tell of hidden text."""
    for hidden in found:
        if hidden.n_chars:  # what was furniture is gone by now
            yield Finding("hidden", hidden.reason, hidden.n_chars)
