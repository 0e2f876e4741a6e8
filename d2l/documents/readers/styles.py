"""Style sheets of a page: what they declare for each of its elements.

Takes sheets as text and a tree of lxml, gives declarations by property; only what decides whether
text can be seen. Sheets elsewhere are not fetched, and scripts are not run.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cssselect2
import tinycss2

from d2l.documents.readers.css_colors import split_at_commas
from d2l.documents.readers.css_conditions import applies_to_screen, is_contained, is_supported
from d2l.documents.readers.css_grammar import is_valid
from d2l.documents.readers.css_selectors import compile_selectors, nest
from d2l.documents.readers.css_words import WIDE
from d2l.documents.readers.page_sheets import read_data

PROPERTIES = frozenset(
    (
        "display", "visibility", "opacity", "font-size", "font", "color", "background",
        "background-color", "background-image", "background-clip",
        "position", "left", "right", "top", "bottom", "margin-left", "margin-top", "text-indent",
        "transform", "clip", "clip-path", "width", "height", "max-width", "max-height", "overflow",
        "overflow-x", "overflow-y", "content-visibility", "filter", "-webkit-text-fill-color",
        "translate", "scale", "zoom", "inset", "margin", "white-space", "line-height",
        "inset-inline", "inset-block", "margin-inline", "margin-block", "padding", "padding-left",
        "padding-top", "padding-bottom", "padding-inline", "padding-block", "contain",
        "padding-right", "rotate", "min-width", "min-height", "box-sizing", "float", "color-scheme",
    )
)  # fmt: skip
#: Other names of some of them, in pages that are read from left to right.
SAME = {
    "-webkit-clip-path": "clip-path", "-webkit-transform": "transform", "-webkit-filter": "filter",
    "margin-inline-start": "margin-left", "margin-block-start": "margin-top",
    "inset-inline-start": "left", "inset-inline-end": "right", "inset-block-start": "top",
    "inset-block-end": "bottom", "inline-size": "width", "block-size": "height",
    "min-inline-size": "min-width", "min-block-size": "min-height",
    "max-inline-size": "max-width", "max-block-size": "max-height",
    "padding-inline-start": "padding-left", "padding-block-start": "padding-top",
    "padding-block-end": "padding-bottom", "-webkit-background-clip": "background-clip",
}  # fmt: skip
NESTING_RULES = ("media", "supports", "layer", "container", "scope")
#: Lengths that need no unit, and colors that need no mark, on pages without a doctype.
UNITLESS = frozenset(
    (
        "font-size", "left", "right", "top", "bottom", "margin", "margin-left", "margin-top",
        "margin-right", "margin-bottom", "padding", "padding-left", "padding-top",
        "padding-bottom", "width", "height", "max-width", "max-height", "text-indent",
    )
)  # fmt: skip
BARE_NUMBER = re.compile(r"(?<!\S)([+-]?(?:\d{1,9}(?:\.\d{0,9})?|\.\d{1,9}))(?!\S)")
BARE_COLOR = re.compile(r"[0-9a-f]{3}|[0-9a-f]{6}")
SCOPE = re.compile(r":scope(?![\w-])", re.I)
CONTAINS = re.compile(r"container(?:-type)?\s{0,9}:", re.I)
NAMED = re.compile(r"(--[\w-]{1,80})|([A-Z]{1,80})")
MAX_NESTED_RULES = 20

Declarations = Mapping[str, str]
#: Names of layers, the outer ones first; none: beside all layers.
Layer = tuple[str, ...]
#: (is important, is inline, place of its layer, specificity, order): what counts for more stands
#: later.
Rank = tuple[bool, bool, tuple[float, ...], tuple[int, int, int], int]
UNLAYERED = (math.inf,)


@dataclass(frozen=True)
class Place:
    """Where a rule stands: how deep, in which layer, and in a rule of which selector."""

    depth: int = 0
    layer: Layer = ()
    outer: str = ""

    def deeper(self, **changes: Any) -> "Place":
        """A place inside this one."""
        return replace(self, depth=self.depth + 1, **changes)


class Sheets:
    """The style sheets of a page, to be asked element by element; `is_quirky`: of a page without
    a doctype."""

    def __init__(self, texts: Iterable[str], *, is_quirky: bool = False) -> None:
        self._matcher = cssselect2.Matcher()
        self._is_quirky = is_quirky
        self._layers: dict[Layer, int] = {}
        self._has_containers = False
        self.n_rules = 0
        #: Values of variables that the sheets register.
        self.variables: dict[str, str] = {}
        for text in texts:
            self._add_sheet(text, Place())

    def _add_sheet(self, text: str, place: Place) -> None:
        self._has_containers = self._has_containers or CONTAINS.search(text) is not None
        rules = tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True)
        self._add_rules(rules, place)

    def _add_rules(self, rules: Iterable[Any], place: Place) -> None:
        if place.depth > MAX_NESTED_RULES:
            return
        for rule in rules:
            if rule.type == "qualified-rule":
                selector = tinycss2.serialize(rule.prelude)
                if place.outer:
                    selector = nest(rule.prelude, place.outer)
                self._add_style(selector, rule.content, place)
            elif rule.type == "at-rule":
                self._add_at_rule(rule, place)

    def _add_style(self, selector: str, content: Iterable[Any], place: Place) -> None:
        if not selector:
            return
        found = tinycss2.parse_blocks_contents(content, skip_comments=True, skip_whitespace=True)
        declared = list(read_declarations(found, is_quirky=self._is_quirky))
        if declared:
            self.n_rules += 1
            for one in compile_selectors(selector, ignores_case=self._is_quirky):
                if one.pseudo_element is None:
                    self._matcher.add_selector(one, (self._place_of(place.layer), declared))
        self._add_rules(found, place.deeper(outer=selector))

    def _add_at_rule(self, rule: Any, place: Place) -> None:
        name = rule.lower_at_keyword
        if name == "import":
            self._import(rule.prelude, place)
        elif name == "layer" and rule.content is None:
            for part in split_at_commas(rule.prelude):
                self._place_of((*place.layer, *read_layer(part)))
        elif name == "property" and rule.content is not None:
            variable = tinycss2.serialize(rule.prelude).strip()
            for item in tinycss2.parse_blocks_contents(rule.content, True, True):
                if item.type == "declaration" and item.lower_name == "initial-value":
                    self.variables[variable] = lower(tinycss2.serialize(item.value).strip())
        elif name in NESTING_RULES and rule.content is not None and self._applies(name, rule):
            inner = place.deeper()
            if name == "layer":
                layer = (*place.layer, *(read_layer(rule.prelude) or (f" {len(self._layers)}",)))
                self._place_of(layer)
                inner = place.deeper(layer=layer)
            if name == "scope":
                self._add_scope(rule, inner)
            elif place.outer:
                self._add_style(place.outer, rule.content, inner)
            else:
                rules = tinycss2.parse_rule_list(rule.content, True, True)
                self._add_rules(rules, inner)

    def _add_scope(self, rule: Any, place: Place) -> None:
        roots = [one for one in rule.prelude if one.type == "() block"]
        if not roots:
            return
        within = SCOPE.sub("&", tinycss2.serialize(rule.content))
        outer = tinycss2.serialize(roots[0].content).strip()
        if place.outer:
            outer = nest(roots[0].content, place.outer)
        self._add_style(outer, tinycss2.parse_component_value_list(within), place)

    def _applies(self, name: str, rule: Any) -> bool:
        if name == "media":
            return applies_to_screen(tinycss2.serialize(rule.prelude))
        if name == "supports":
            return is_supported(rule.prelude, lambda text: bool(compile_selectors(text)))
        return name != "container" or (self._has_containers and is_contained(rule.prelude))

    def _import(self, prelude: list[Any], place: Place) -> None:
        words = [one for one in prelude if one.type not in ("whitespace", "comment")]
        text = next(filter(None, map(read_data, find_addresses(words[:1]))), None)
        if text is None or place.depth > MAX_NESTED_RULES:
            return
        words, layer = words[1:], place.layer
        if words and words[0].type == "function" and words[0].lower_name == "layer":
            layer = (*layer, *read_layer(words.pop(0).arguments))
        elif words and words[0].type == "ident" and words[0].lower_value == "layer":
            words.pop(0)
            layer = (*layer, f" {len(self._layers)}")
        if words and words[0].type == "function" and words[0].lower_name == "supports":
            asked = tinycss2.serialize(words.pop(0).arguments)
            tokens = tinycss2.parse_component_value_list(f"({asked})")
            if not is_supported(tokens, lambda text: bool(compile_selectors(text))):
                return
        if applies_to_screen(" ".join(tinycss2.serialize([word]) for word in words)):
            self._add_sheet(text, place.deeper(layer=layer))

    def _place_of(self, layer: Layer) -> tuple[float, ...]:
        """Where a layer stands among the others: those first named first, beside all last."""
        for end in range(1, len(layer) + 1):
            self._layers.setdefault(layer[:end], len(self._layers))
        return (*(self._layers[layer[:end]] for end in range(1, len(layer) + 1)), math.inf)

    def declare(self, element: Any, inline: str) -> Declarations:
        """What holds for an element (of cssselect2) with some inline style, by property, and
        later what is declared later."""
        ranked: list[tuple[Rank, str, str]] = []
        matches = self._matcher.match(element) if self.n_rules else ()
        for specificity, order, _, (layer, declared) in matches:
            for name, value, important in declared:
                place = tuple(-part for part in layer) if important else layer
                ranked.append(((important, False, place, specificity, order), name, value))
        found = read_inline(inline, self._is_quirky) if inline else ()
        for order, (name, value, important) in enumerate(found):
            ranked.append(((important, True, UNLAYERED, (0, 0, 0), order), name, value))
        ranked.sort(key=lambda one: one[0])
        holds: dict[str, str] = {}
        for _, name, value in ranked:
            for one in sorted(PROPERTIES) if name == "all" else (name,):
                holds.pop(one, None)  # what is declared later stands later
                holds[one] = value
        return holds


def read_layer(tokens: Iterable[Any]) -> Layer:
    """The names of a layer."""
    return tuple(filter(None, tinycss2.serialize(tokens).replace(" ", "").strip().split(".")))


def find_addresses(prelude: Iterable[Any]) -> Iterator[str]:
    """The addresses that a rule names, quoted or not."""
    for token in prelude:
        if token.type == "function" and token.lower_name == "url":
            yield from find_addresses(token.arguments)
        elif token.type in ("url", "string"):
            yield str(token.value)


def read_declarations(
    found: Iterable[Any], *, is_quirky: bool = False
) -> Iterator[tuple[str, str, bool]]:
    """Yield (property, value, is important) of what stands in a block, as far as it matters here;
    what browsers do not understand is left out, as they do."""
    for item in found:
        if item.type != "declaration":
            continue
        value = lower(tinycss2.serialize(item.value).strip())
        name = SAME.get(item.lower_name, item.lower_name)
        if is_variable(item.name):  # a variable, whose name counts as it is written
            yield item.name, value, item.important
            continue
        if is_quirky:
            value = mend_quirks(name, value)
        if (name in PROPERTIES and is_valid(name, value)) or (name == "all" and value in WIDE):
            yield name, value, item.important


def mend_quirks(name: str, value: str) -> str:
    """A value of a page without a doctype, with the unit or the mark that it lacks."""
    if name in UNITLESS:
        return BARE_NUMBER.sub(r"\1px", value)
    if name in ("color", "background-color") and BARE_COLOR.fullmatch(value):
        return f"#{value}"
    return value


def is_variable(name: str) -> bool:
    """Whether a declaration sets a variable."""
    return name.startswith("--")


def lower(value: str) -> str:
    """A value in small letters, but for the names of variables in it."""
    return NAMED.sub(lambda match: str(match[1] or match[2].lower()), value)


@cache
def read_inline(style: str, is_quirky: bool = False) -> tuple[tuple[str, str, bool], ...]:
    """The declarations of a style attribute; pages repeat a few of them many times."""
    found = tinycss2.parse_blocks_contents(style, skip_comments=True, skip_whitespace=True)
    return tuple(read_declarations(found, is_quirky=is_quirky))
