"""What of an HTML page's text a reader cannot see, by its styles and attributes.

Takes a tree of lxml and style sheets, gives the elements whose text is hidden. In doubt text is
taken to be seen: on pictures, and where a script or a sheet elsewhere decides.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import cssselect2
import tinycss2

from d2l.documents.findings import Finding
from d2l.documents.readers.css_clips import is_clipped_away, is_cut_away
from d2l.documents.readers.css_grammar import expand, is_valid, split_words
from d2l.documents.readers.css_places import FAR, FAR_RIGHT, find_spot
from d2l.documents.readers.css_selectors import QuirkyElement
from d2l.documents.readers.css_values import EM, SIZES, parse_length, parse_share, put_in, work_out
from d2l.documents.readers.css_words import WIDE
from d2l.documents.readers.html_look import (
    LEAST_OPACITY,
    OFF,
    UNSEEN,
    Look,
    compute_colors,
    is_at_least,
)
from d2l.documents.readers.page_sheets import find_sheets
from d2l.documents.readers.styles import Declarations, Sheets, is_variable

MAX_VARIABLE_CHARS = 500
BLURRED = 8.0  # pixels
LEAST_CONTRAST = 0.05  # of what a filter leaves
LEAST_PART = 0.3  # of the size of type: of lines that are cut lower, nothing can be read
_ROOM = (
    "width",
    "height",
    "max-width",
    "max-height",
    "line-height",
    "padding-top",
    "padding-bottom",
)
#: They say how an element looks without any style.
OLD_ATTRIBUTES = frozenset(("hidden", "popover", "color", "bgcolor", "background", "text"))
_CUTTING = ("hidden", "clip", "scroll", "auto", "overlay")

NOT_DISPLAYED, CLIPPED_AWAY = "not displayed", "clipped away"


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
    if not declared and not OLD_ATTRIBUTES.intersection(element.attrib):
        return parent
    size = compute_size(declared, parent.size)
    look = replace(parent, size=size)
    look = compute_colors(element, declared, look)
    visibility = declared.get("visibility", "")
    if visibility in ("hidden", "collapse"):
        look = replace(look, is_visible=False)
    elif visibility in ("visible", "initial"):
        look = replace(look, is_visible=True)
    if declared.get("text-indent", "unset") not in WIDE - {"initial"}:
        look = replace(look, is_indented_away=is_indented_away(declared, size))
    if declared.get("display") == "contents":  # it has no box of its own
        return replace(look, whole=hide_whole(element, declared, look))
    spot = look.spot
    if declared:
        spot = find_spot(declared, look.spot, size, len(element))
    opacity = parse_share(declared.get("opacity", ""))
    opacity = 1.0 if opacity is None else min(1.0, max(0.0, opacity))
    look = replace(look, opacity=look.opacity * opacity, spot=spot)
    return replace(look, whole=hide_whole(element, declared, look))


def is_indented_away(declared: Declarations, size: float) -> bool:
    """Whether the first line of a text begins where nobody sees it."""
    written = declared["text-indent"].split()[0]
    is_cut = declared.get("overflow-x", "") in ("hidden", "clip")
    if written.endswith("%"):
        share = parse_share(written) or 0.0
        is_beside = share >= 1 and is_cut and declared.get("white-space") == "nowrap"
        return share <= -1 or is_beside
    indent = parse_length(written, size) or 0.0
    return indent <= FAR or indent >= (-FAR if is_cut else FAR_RIGHT)


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


def hide_whole(element: Any, declared: Declarations, look: Look) -> str:
    """Why nothing in an element can be seen; "" if some may be."""
    display = declared.get("display", "")
    if display.startswith("revert"):  # what browsers do by themselves
        display = ""
    if display in ("none", "table-column", "table-column-group"):
        return NOT_DISPLAYED
    if not display and (element.get("hidden") is not None or element.get("popover") is not None):
        return NOT_DISPLAYED
    if display == "contents":
        return ""
    if declared.get("content-visibility") == "hidden":
        return NOT_DISPLAYED
    filtered, is_blurred = read_filter(declared.get("filter", ""), look.size)
    if is_blurred:
        return UNSEEN
    if look.opacity * filtered < LEAST_OPACITY:
        return "transparent"
    if look.spot.is_off:
        return OFF
    if is_cut_away(declared.get("clip-path", ""), look.size):
        return CLIPPED_AWAY
    is_out_of_flow = declared.get("position") in ("absolute", "fixed")
    if is_out_of_flow and is_clipped_away(declared.get("clip", ""), look.size):
        return CLIPPED_AWAY
    if element.tag in ("td", "th") and not is_out_of_flow:  # cells grow with their text
        return ""
    return CLIPPED_AWAY if is_squeezed(declared, look.size) else ""


def read_filter(value: str, size: float) -> tuple[float, bool]:
    """The opacity that a filter leaves, and whether it makes text one with its ground."""
    opacity, is_blurred = 1.0, False
    for token in split_words(value) if "(" in value else ():
        if token.type != "function" or token.lower_name not in ("blur", "contrast", "opacity"):
            continue
        inner = tinycss2.serialize(token.arguments).strip()
        share = parse_share(inner)
        if token.lower_name == "blur":
            is_blurred = is_blurred or (parse_length(inner, size) or 0.0) >= BLURRED
        elif token.lower_name == "contrast":
            is_blurred = is_blurred or (share is not None and share <= LEAST_CONTRAST)
        elif share is not None:
            opacity *= min(1.0, max(0.0, share))
    return opacity, is_blurred


def is_squeezed(declared: Declarations, em: float) -> bool:
    """Whether an element has no room for its text, and cuts off what does not fit."""
    contained = declared.get("contain", "").split()
    is_cut = bool({"strict", "content", "paint"}.intersection(contained)) or any(
        declared.get(name, "") in _CUTTING for name in ("overflow-x", "overflow-y")
    )
    if not is_cut:
        return False
    lengths = {name: parse_length(declared.get(name, ""), em) for name in _ROOM}
    heights = [lengths[name] for name in ("height", "max-height")]
    if all(height is None for height in heights) and {"strict", "size"}.intersection(contained):
        heights = [0.0]
    # What is below the lines is not cut.
    is_high = is_at_least(declared, "height", em, em * LEAST_PART)
    if is_high or "%" in declared.get("padding-bottom", ""):
        heights = []
    below, above = lengths["padding-bottom"] or 0.0, 0.0
    if declared.get("box-sizing") == "border-box":
        below, above = 0.0, lengths["padding-top"] or 0.0
    line = lengths["line-height"]
    for height in heights:
        if height is None:
            continue
        if height + below - above <= em * LEAST_PART:
            return True
        if line is not None and (line - em) / 2 >= height + below:  # lines stand below it
            return True
    least = em * LEAST_PART if "padding-right" not in declared else 0.0
    if is_at_least(declared, "width", em, least):
        return False
    widths = (lengths["width"], lengths["max-width"])
    return any(width is not None and width <= least for width in widths) or (
        line is not None and line <= 1
    )


def count_hidden(found: Iterable[HiddenText]) -> Iterator[Finding]:
    """What to tell of hidden text."""
    for hidden in found:
        if hidden.n_chars:  # what was furniture is gone by now
            yield Finding("hidden", hidden.reason, hidden.n_chars)
