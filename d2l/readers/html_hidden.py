"""Hidden text of an HTML page, by its styles and attributes.

A tree of lxml and style sheets in, elements with hidden text out. In doubt text counts as visible:
if a condition, a script or a missing sheet decides, and on pictures.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from d2l.readers.colors import BLACK, WHITE, Color, looks_like, parse_color, read_hex
from d2l.readers.css_selectors import TooMuchWork
from d2l.readers.styles import (
    EFFECTS,
    INHERITING,
    MOVING,
    OFFSETS,
    SHIFTS,
    WARPS,
    Declarations,
    Sheet,
    find_sheets,
    links_sheets,
    read_sheets,
)

EM = 16.0  # pixels of an em by default
TINY = 2.0  # pixels: text of this size or less cannot be read
LEAST_OPACITY = 0.07  # black of less on white has less contrast than `colors.LEAST_CONTRAST`
FAR = -999.0  # pixels: text so far to the left or above is off the page
TOO_MUCH_WORK = "its style sheets take too long to judge; text that they hide is kept"
UNSEEN, OFF, NOT_DISPLAYED = "invisible", "off the page", "not displayed"
PIXELS = {"px": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0, "cm": 37.8, "mm": 3.78}
LENGTH = re.compile(
    r"([+-]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:e[+-]?\d{1,2})?)([a-z]{0,5}|%)"
)
#: Values that do not change the text or its position.
PLAIN = frozenset((
    "none", "normal", "initial", "auto", "0", "1", "currentcolor", "transparent", "relative",
    "static", "border-box", "padding-box", "content-box", *INHERITING,
))  # fmt: skip
STILL = PLAIN - {"relative"}  # positions that move no element
#: Attributes that set an element's look without any style.
OLD_ATTRIBUTES = frozenset(("hidden", "popover", "color", "bgcolor", "background", "text"))
#: Elements to whose text browsers give a look of its own.
OWN_LOOK = frozenset(("button", "select", "textarea", "mark"))
BACKGROUND = ("background-color", "background-image")
EXTENTS = ("width", "height", "max-width", "max-height")
PICTURES = ("img", "picture", "video", "canvas", "svg", "iframe", "object", "embed")


class Look(NamedTuple):
    """Look of an element's text; `whole` is the reason why all of it is hidden, `own` that of its
    own text. None: unknown."""

    color: Color = BLACK
    alpha: float = 1.0
    ground: Color = WHITE
    judges_colors: bool = True
    size: float | None = EM
    is_visible: bool = True
    is_indented_away: bool = False
    is_off: bool = False
    opacity: float = 1.0
    moves: bool = False  # an animation may show it later
    is_warped: bool = False  # its size and position are unknown
    is_displayed: bool = True

    @property
    def whole(self) -> str:
        """Reason why all of the element is hidden; "" if some of it may be visible."""
        if not self.is_displayed:
            return NOT_DISPLAYED
        return "transparent" if self.opacity < LEAST_OPACITY and not self.moves else ""

    @property
    def own(self) -> str:
        """Reason why the element's own text is hidden; "" if it is visible."""
        if self.moves:
            return ""
        if not self.is_visible:
            return UNSEEN
        if not self.is_warped and self.size is not None and self.size <= TINY:
            return "tiny"
        if not self.is_warped and (self.is_off or self.is_indented_away):
            return OFF
        if not self.judges_colors:
            return ""
        if self.alpha < LEAST_OPACITY:
            return "transparent"
        return "in the color of its ground" if looks_like(self.color, self.ground) else ""


class HiddenText(NamedTuple):
    """Hidden text of an element: all of it, or its own text without elements below."""

    element: Any
    reason: str
    is_whole: bool

    @property
    def n_chars(self) -> int:
        """Number of characters without spaces."""
        texts = self.element.itertext() if self.is_whole else own_texts(self.element)
        return sum(len("".join(text.split())) for text in texts)

    def remove(self) -> None:
        """Remove the text from the tree; text after the element stays."""
        if self.is_whole:
            empty(self.element)
            return
        self.element.text = None
        for child in self.element:
            child.tail = None


def empty(element: Any) -> None:
    """Empty an element, and rename it to a tag of no page; removing it would take time that grows
    with the text around it."""
    element.clear(keep_tail=True)
    element.tag = "d2l-gone"


def own_texts(element: Any) -> Iterator[str]:
    """Yield the texts of an element that are not in elements below it."""
    yield element.text or ""
    for child in element:
        yield child.tail or ""


def find_hidden(
    root: Any, sheets: Iterable[Sheet] | None = None
) -> tuple[list[HiddenText], tuple[str, ...]]:
    """Find the hidden texts of a page, without blank ones, and notes. `sheets`: those that the page
    links to; None: they are not available."""
    try:
        rules = read_sheets((*(sheets or ()), *find_sheets(root)))
        declared = dict(rules.declare(root))
    except TooMuchWork:
        return [], (TOO_MUCH_WORK,)
    themes = (meta for meta in root.iter("meta") if "color-scheme" in meta.get("name", "").lower())
    has_theme = any("dark" in meta.get("content", "").lower() for meta in themes)
    is_complete = rules.is_complete and (sheets is not None or not links_sheets(root))
    start = Look(judges_colors=is_complete and not has_theme)
    overlaid = find_overlaid(declared)
    looks: dict[Any, Look] = {}
    texts: list[HiddenText] = []
    for element, declarations in declared.items():
        parent = looks.get(element.getparent(), start)
        if parent.whole or element.tag in ("head", "style", "script", "title"):
            looks[element] = parent
            continue
        look = compute(element, declarations, parent)
        if element in overlaid and look.ground is not None:
            look = look._replace(ground=None)
        looks[element] = look
        if reason := look.whole or look.own:
            hidden = HiddenText(element, reason, bool(look.whole))
            if hidden.n_chars:
                texts.append(hidden)
    return texts, ()


def find_overlaid(declared: dict[Any, Declarations]) -> set[Any]:
    """Find elements whose ground may be painted by other elements than the text's ancestors: a
    positioned element, or a column of a table."""

    def is_still(element: Any) -> bool:
        return declared[element].get("position", "static") in STILL

    overlaid = set()
    for element, declarations in declared.items():
        if is_still(element) and element.tag not in ("col", "colgroup"):
            continue
        if not changes(declarations, BACKGROUND) and next(element.iter(*PICTURES), None) is None:
            continue
        around = element.getparent()
        while around is not None and around.getparent() is not None and is_still(around):
            around = around.getparent()
        overlaid.add(around)
    return overlaid


def compute(element: Any, declared: Declarations, parent: Look) -> Look:
    """Compute an element's look, from its declarations and its parent's look."""
    is_link = element.tag == "a" and "color" not in declared  # browsers give links a color
    has_look = is_link or element.tag in OWN_LOOK
    if not declared and not has_look and not OLD_ATTRIBUTES.intersection(element.attrib):
        return parent
    look = parent._replace(
        size=EM if element.tag in OWN_LOOK else compute_size(declared, parent.size),
        moves=parent.moves or any(declared.get(name) == "yes" for name in MOVING),
        is_warped=parent.is_warped or changes(declared, WARPS),
        is_displayed=is_displayed(element, declared),
    )
    visibility = declared.get("visibility", "inherit")
    if visibility not in INHERITING:
        look = look._replace(is_visible=visibility not in ("hidden", "collapse"))
    indent = declared.get("text-indent", "inherit")
    if indent not in INHERITING:
        length = parse_length(indent, look.size)
        look = look._replace(is_indented_away=length is not None and length <= FAR)
    if declared.get("display") != "contents":  # without a box of its own
        opacity = min(1.0, parse_opacity(declared.get("opacity", "1")))
        look = look._replace(opacity=look.opacity * opacity, is_off=is_off(declared, look))
    look = paint(element, declared, look)
    return look._replace(color=None, alpha=1.0) if has_look else look


def is_displayed(element: Any, declared: Declarations) -> bool:
    """True if an element is displayed, or a click on its tab displays it."""
    if element.get("role") == "tabpanel":
        return True
    display = declared.get("display", "revert")
    if display.startswith("revert"):  # browsers decide, by attributes
        return element.get("hidden") is None and element.get("popover") is None
    return display != "none"


def changes(declared: Declarations, names: Iterable[str]) -> bool:
    """True if one of these properties has another value than usual."""
    return any(declared.get(name, "none") not in PLAIN for name in names)


def compute_size(declared: Declarations, inherited: float | None) -> float | None:
    """Compute the size of type in pixels; None: unknown."""
    value = declared.get("font-size", "inherit")
    if value in INHERITING:
        return inherited
    if value.endswith("%"):
        value = f"{value[:-1]}e-2em"
    return parse_length(value, inherited)


def parse_length(value: str, em: float | None) -> float | None:
    """Parse a length to pixels; None for other values, and for units of unknown size."""
    match = LENGTH.fullmatch(value)
    if match is None or match[2] == "%":
        return None
    number, unit = float(match[1]), match[2]
    if number == 0:
        return 0.0
    # "rem" is unknown: scripts set the root's size.
    scale = em if unit == "em" else PIXELS.get(unit)
    return None if scale is None else number * scale


def parse_opacity(value: str) -> float:
    """Parse an opacity, in percent or not; 1 if it is unknown."""
    match = LENGTH.fullmatch(value)
    if match is None or match[2] not in ("", "%"):
        return 1.0
    return max(0.0, float(match[1])) / (100 if match[2] else 1)


def is_off(declared: Declarations, look: Look) -> bool:
    """True if an element is off the page, to the left, to the right or above; `look.is_off` is its
    parent's."""
    position = declared.get("position", "static")
    given = {side: declared[side] for side in OFFSETS if declared.get(side, "auto") != "auto"}
    if position not in ("relative", "absolute", "fixed"):
        return look.is_off and position in STILL
    lengths = {side: parse_length(value, look.size) for side, value in given.items()}
    known = [length for length in lengths.values() if length is not None]
    if len(known) < len(lengths):
        return False
    opposite = {"left": "right", "right": "left", "top": "bottom"}
    extents = {"left": "width", "right": "width", "top": "height"}
    for side, length in lengths.items():
        if side == "bottom" or length is None or length > FAR or opposite[side] in given:
            continue
        if side == "right" and position == "relative":
            continue
        extent = declared.get(extents[side], "auto")
        size = 0.0 if extent == "auto" else parse_length(extent, look.size)
        if size is not None and length + size <= 0:  # else it reaches into the page
            return True
    return look.is_off and position != "fixed" and all(length < -FAR for length in known)


def paint(element: Any, declared: Declarations, look: Look) -> Look:
    """Compute the colors of an element's text and of its ground."""
    if changes(declared, EFFECTS) or "dark" in declared.get("color-scheme", ""):
        look = look._replace(judges_colors=False)
    ground = None if changes(declared, SHIFTS) else look.ground
    painted = declared.get("background-color", "") or read_old_color(element.get("bgcolor", ""))
    color, alpha = parse_color(painted) or (None, 0.0 if painted in ("", "initial") else 1.0)
    if alpha > 0:
        is_box = declared.get("display") != "contents" and look.is_visible
        # Text may be larger than a box of a given size.
        is_whole = is_box and (color == ground or not any(name in declared for name in EXTENTS))
        ground = color if alpha >= 1 and is_whole else None
    has_picture = changes(declared, ("background-image",)) or element.get("background") is not None
    if has_picture or re.search(r"inset|\?", declared.get("box-shadow", "")):
        ground = None
    look = look._replace(ground=ground)
    written = declared.get("color", "")
    if not written and element.tag in ("body", "font"):
        written = read_old_color(element.get("text" if element.tag == "body" else "color", ""))
    if not written or written in INHERITING or written == "currentcolor":
        return look
    color, alpha = parse_color(written) or (None, 1.0)
    return look._replace(color=color, alpha=alpha)


def read_old_color(value: str) -> str:
    """Read a color of an old attribute; its "#" may be missing."""
    value = value.strip().lower()
    return f"#{value}" if read_hex(value) is not None else value
