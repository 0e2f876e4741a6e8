"""Style sheets of a page: the declarations for each of its elements.

Sheets as text and a tree of lxml in, declarations by property out, if they can hide text. Linked
sheets are not fetched, and scripts are not run. Properties of a rule that may hold or not have the
value `UNKNOWN`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import tinycss2

from d2l.readers.colors import parse_color
from d2l.readers.css_selectors import (
    Context,
    Matcher,
    Selector,
    Specificity,
    TooMuchWork,
    read_selector,
    split_at_commas,
)

UNKNOWN = "?"
#: Values that change nothing unless another value holds.
USUAL = ("none", "auto", "static", "relative")
#: Values that keep the parent's value, for properties that elements inherit.
INHERITING = ("inherit", "unset")
#: Properties by which an element's position, size or color is unknown.
EFFECTS = frozenset(("text-shadow", "text-fill-color", "text-stroke", "filter", "backdrop-filter",
                     "mix-blend-mode", "background-clip"))  # fmt: skip
WARPS = frozenset(("transform", "translate", "scale", "zoom", "offset-path"))
OFFSETS = ("left", "right", "top", "bottom")
PULL = "pull"  # a margin that is not plain and positive
SHIFTS = WARPS | frozenset(("position", *OFFSETS, "grid-area", "grid-row", "grid-column", PULL))
PROPERTIES = EFFECTS | SHIFTS | frozenset((
    "display", "visibility", "opacity", "font-size", "color", "background-color",
    "background-image", "width", "height",
    "max-width", "max-height", "text-indent", "color-scheme", "box-shadow",
))  # fmt: skip
#: Properties with the value "yes" if they may show an element later.
MOVING = ("animation", "transition")
#: Words of an animation or a transition that name no properties.
TIMING = frozenset((
    "ease", "ease-in", "ease-out", "ease-in-out", "linear", "step-start", "step-end",
    "normal", "allow-discrete",
))  # fmt: skip
FADING = frozenset(("all", "opacity", "visibility", "transform", "translate", "scale", "left",
                    "right", "top", "color", "font-size", "text-indent", "var"))  # fmt: skip
FUNCTION = re.compile(r"(?:cubic-bezier|steps|linear)\([^()]{0,200}\)")
LONG_NUMBER = re.compile(r"\d{300,}")  # no Python makes a number of thousands of digits
WORD = re.compile(r"[a-z][a-z-]{2,40}")
SHADOW = "d2l-shadow"  # a visible template
#: Elements whose sheets are not used if scripts run, or not for the page.
NO_PART = ("noscript", "template", "textarea", "iframe", SHADOW)
MAX_NESTED_RULES = 20
MAX_WORK = 5_000_000  # selectors tried: some seconds

Declarations = Mapping[str, str]
#: A sheet's text, and true if a browser surely uses it.
Sheet = tuple[str, bool]


class Declaration(NamedTuple):
    """A value of a property. The highest rank holds: by importance, then in the element itself,
    then by specificity, then by order."""

    rank: tuple[bool, bool, Specificity, int]
    name: str
    value: str
    is_sure: bool


class Sheets:
    """The style sheets of a page. `is_complete`: they import no other sheets."""

    def __init__(self, sheets: Iterable[Sheet]) -> None:
        self._matcher = Matcher()
        self._n_rules = 0
        self._settled: dict[tuple[int, str], Declarations] = {}
        self.is_complete = True
        for text, is_sure in sheets:
            rules = tinycss2.parse_stylesheet(LONG_NUMBER.sub("9", text), True, True)
            self._add_rules(rules, is_sure)

    def _add_rules(
        self, rules: Iterable[Any], is_sure: bool, outer: list[Any] | None = None, depth: int = 0
    ) -> None:
        """Add rules; `outer` collects conditional declarations of the rule around them."""
        if depth > MAX_NESTED_RULES:
            raise TooMuchWork
        for rule in rules:
            if rule.type == "qualified-rule":
                self._add_style(rule, is_sure and outer is None, depth)
            elif rule.type == "at-rule":
                self._add_at_rule(rule, is_sure, outer, depth)

    def _add_at_rule(self, rule: Any, is_sure: bool, outer: list[Any] | None, depth: int) -> None:
        name = rule.lower_at_keyword
        applies = read_media(serialize(rule.prelude)) if name == "media" else None
        if name == "import":
            self.is_complete = False
        elif rule.content is not None and applies is not False and "keyframes" not in name:
            rules = tinycss2.parse_blocks_contents(rule.content, True, True)
            if outer is not None:
                outer.extend(rules)
            self._add_rules(rules, is_sure and bool(applies), outer, depth + 1)

    def _add_style(self, rule: Any, is_sure: bool, depth: int) -> None:
        content = tinycss2.parse_blocks_contents(rule.content, True, True)
        selectors = [read_selector(part) for part in split_at_commas(rule.prelude)]
        # Browsers ignore a rule with an unknown selector.
        is_sure = is_sure and all(selector.is_sure for selector in selectors)
        in_conditions: list[Any] = []
        self._add_rules(content, False, in_conditions, depth + 1)
        self._declare(selectors, content, is_sure)
        self._declare(selectors, in_conditions, False)

    def _declare(
        self, selectors: Iterable[Selector], content: Iterable[Any], is_sure: bool
    ) -> None:
        declared = list(read_declarations(content))
        self._n_rules += 1
        ranked: dict[tuple[Specificity, bool], tuple[Declaration, ...]] = {}
        for selector in selectors if declared else ():
            key = selector.specificity, selector.is_part
            ranked[key] = ranked.get(key) or tuple(
                Declaration(
                    (is_important, False, selector.specificity, self._n_rules),
                    name,
                    value,
                    is_sure and not selector.is_part,
                )
                for name, value, is_important in declared
                # A part, such as "::before", may paint the ground of the text.
                if not selector.is_part or name.startswith("background")
            )
            self._matcher.add(selector, ranked[key])

    def declare(self, root: Any) -> Iterator[tuple[Any, Declarations]]:
        """Yield every element of a page with its declarations; raises TooMuchWork."""
        self._matcher.work_left = MAX_WORK
        contexts: dict[Any, Context] = {}  # of the next child of an element
        for element in root.iter("*"):
            parent = element.getparent()
            matches = self._matcher.match(element, contexts.get(parent, Context()))
            contexts[parent], contexts[element] = matches.behind, matches.inside
            inline = element.get("style", "")
            key = (id(matches.payloads), inline)  # the matcher keeps the payloads
            if key not in self._settled:
                ranked = [declaration for payload in matches.payloads for declaration in payload]
                self._matcher.spend(len(ranked))
                self._settled[key] = settle([*ranked, *(read_inline(inline) if inline else ())])
            yield element, self._settled[key]


@lru_cache(maxsize=2)
def read_sheets(sheets: tuple[Sheet, ...]) -> Sheets:
    """Read the sheets of a page; sheets of all chapters of a book are read once."""
    return Sheets(sheets)


def settle(declarations: list[Declaration]) -> Declarations:
    """Find the values that hold, by property."""
    values: dict[str, str] = {}
    for _, name, value, is_sure in sorted(declarations, key=lambda declaration: declaration.rank):
        if is_sure or values.get(name) == value:
            values[name] = value
        elif name not in values and value in USUAL:
            continue
        elif name not in MOVING:
            values[name] = UNKNOWN
        elif value == "yes":
            values[name] = value
    return values


def read_declarations(content: Iterable[Any]) -> Iterator[tuple[str, str, bool]]:
    """Yield (property, value, is important) of the relevant declarations in a block."""
    for item in content:
        if item.type != "declaration":
            continue
        name = item.lower_name.removeprefix("-webkit-").removeprefix("-moz-")
        value = serialize(item.value).strip().lower()
        yield from ((*pair, item.important) for pair in expand(name, value))


def expand(name: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield the properties that a property sets, with their values."""
    if name in MOVING:
        yield name, "yes" if moves(name, value) else "no"
    elif name in ("animation-name", "transition-duration", "transition-property"):
        # Scripts give animations the name "none" until a reader scrolls there.
        if name == "animation-name" or moves(name, value):
            yield name.partition("-")[0], "yes"
    elif name == "all":
        yield from ((each, UNKNOWN) for each in sorted(PROPERTIES))
    elif name == "inset":
        yield from ((side, UNKNOWN) for side in OFFSETS)
    elif name.startswith("margin"):
        yield PULL, value if re.search(r"[-(?]", value) else "none"
    elif name == "font":
        yield "font-size", value if value in INHERITING else UNKNOWN
    elif name == "background":
        is_plain = value == "none" or parse_color(value) is not None
        color = "transparent" if value == "none" else value
        yield "background-color", color if is_plain else UNKNOWN
        yield "background-image", "none" if is_plain else UNKNOWN
        yield "background-clip", "text" if "text" in value.split() else "border-box"
    elif name in PROPERTIES:
        yield name, value


def moves(name: str, value: str) -> bool:
    """True if an animation or a transition may show hidden text."""
    words = set(WORD.findall(FUNCTION.sub("", value))) - TIMING
    if words & {"none", *INHERITING, "initial", "revert"} or value in ("0s", "0ms"):
        return False
    return name == "animation" or not words or bool(words & FADING)


def serialize(tokens: Iterable[Any]) -> str:
    """Write tokens as text; `UNKNOWN` if they are nested too deeply."""
    try:
        return str(tinycss2.serialize(tokens))
    except RecursionError:
        return UNKNOWN


@lru_cache(maxsize=10_000)
def read_inline(style: str) -> tuple[Declaration, ...]:
    """Read the declarations of a style attribute; pages repeat a few of them many times."""
    content = tinycss2.parse_blocks_contents(LONG_NUMBER.sub("9", style), True, True)
    return tuple(
        Declaration((is_important, True, (0, 0, 0), order), name, value, is_sure=True)
        for order, (name, value, is_important) in enumerate(read_declarations(content))
    )


def read_media(text: str) -> bool | None:
    """True if a list of media holds on a screen; None: unknown."""
    kinds = [part.strip().lower().removeprefix("only ") for part in text.split(",")]
    if kinds == [""] or any(kind in ("all", "screen") for kind in kinds):
        return True
    return False if all(kind.startswith(("print", "speech")) for kind in kinds) else None


def read_use(element: Any) -> bool | None:
    """True if a browser uses the sheet of a style or link element; None: unknown."""
    kinds = element.get("rel", "").lower().split()
    is_late = element.get("as") == "style" or element.get("onload") is not None
    if element.tag == "link" and "stylesheet" not in kinds and not is_late:
        return False
    if element.get("type", "").partition(";")[0].strip().lower() not in ("", "text/css"):
        return False
    if next(element.iterancestors(*NO_PART), None) is not None:
        return False
    is_late = is_late or element.get("disabled") is not None
    if is_late or "alternate" in kinds or element.get("title"):
        return None  # one of several, or a script enables it
    return read_media(element.get("media", ""))


def find_sheets(root: Any) -> Iterator[Sheet]:
    """Yield the sheets inside a page."""
    for element in root.iter("style"):
        use = read_use(element)
        if use is not False and element.text:
            yield element.text, bool(use)


def links_sheets(root: Any) -> bool:
    """True if a page links to style sheets."""
    return any(read_use(link) is not False for link in root.iter("link"))
