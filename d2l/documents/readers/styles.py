"""Style sheets of a page: what they declare for each of its elements.

Takes sheets as text and a tree of lxml, gives declarations by property; only what decides whether
text can be seen. Sheets elsewhere are not fetched, and scripts are not run.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any
from urllib.parse import unquote_to_bytes

import cssselect2
import tinycss2

from d2l.documents.readers.css_grammar import is_valid
from d2l.documents.readers.css_values import EM, SCREEN
from d2l.documents.readers.css_words import WIDE

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
    )
)  # fmt: skip
#: Other names of some of them, in pages that are read from left to right.
SAME = {
    "-webkit-clip-path": "clip-path", "-webkit-transform": "transform", "-webkit-filter": "filter",
    "margin-inline-start": "margin-left", "margin-block-start": "margin-top",
    "inset-inline-start": "left", "inset-inline-end": "right", "inset-block-start": "top",
    "inset-block-end": "bottom", "inline-size": "width", "block-size": "height",
    "max-inline-size": "max-width", "max-block-size": "max-height",
    "padding-inline-start": "padding-left", "padding-block-start": "padding-top",
    "padding-block-end": "padding-bottom", "-webkit-background-clip": "background-clip",
}  # fmt: skip
NESTING_RULES = ("media", "supports", "layer", "container", "scope")
WIDTH_RANGE = re.compile(r"(min|max)-(width|height):([\d.]{1,9})(px|em|rem)")
COMPARED = re.compile(r"(width|height)([<>])=?([\d.]{1,9})(px|em|rem)")
#: What else holds of a screen on a desk.
HOLDS = frozenset(
    (
        "", "all", "screen", "notprint", "hover:hover", "any-hover:hover", "pointer:fine", "color",
        "prefers-color-scheme:light", "prefers-reduced-motion:no-preference", "scripting:enabled",
        "orientation:landscape",
    )
)  # fmt: skip
NAMED = re.compile(r"(--[\w-]{1,80})|([A-Z]{1,80})")
MAX_NESTED_RULES = 20
MAX_SELECTOR_CHARS = 1000
DATA_SHEET = re.compile(r"data:text/css[^,]{0,60},", re.I)

Declarations = Mapping[str, str]
#: (is important, is inline, specificity, order): what counts for more stands later.
Rank = tuple[bool, bool, tuple[int, int, int], int]


class Sheets:
    """The style sheets of a page, to be asked element by element."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._matcher = cssselect2.Matcher()
        self.n_rules = 0
        for text in texts:
            rules = tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True)
            self._add_rules(rules)

    def _add_rules(self, rules: Iterable[Any], depth: int = 0) -> None:
        if depth > MAX_NESTED_RULES:
            return
        for rule in rules:
            if rule.type == "qualified-rule":
                self._add_rule(rule)
                self._add_rules(unfold(rule), depth + 1)
            elif rule.type == "at-rule" and rule.lower_at_keyword == "import":
                for text in filter(None, map(read_data, find_addresses(rule.prelude))):
                    inner = tinycss2.parse_stylesheet(
                        text, skip_comments=True, skip_whitespace=True
                    )
                    self._add_rules(inner, depth + 1)
            elif rule.type == "at-rule" and rule.content is not None:
                name = rule.lower_at_keyword
                shown = name != "media" or applies_to_screen(tinycss2.serialize(rule.prelude))
                if name in NESTING_RULES and shown:
                    inner = tinycss2.parse_rule_list(
                        rule.content, skip_comments=True, skip_whitespace=True
                    )
                    self._add_rules(inner, depth + 1)

    def _add_rule(self, rule: Any) -> None:
        declared = list(read_declarations(rule.content))
        if not declared:
            return
        try:
            selectors = cssselect2.compile_selector_list(rule.prelude)
        except cssselect2.SelectorError:
            return
        self.n_rules += 1
        for selector in selectors:
            if selector.pseudo_element is None:
                self._matcher.add_selector(selector, declared)

    def declare(self, element: Any, inline: str) -> Declarations:
        """What holds for an element (of cssselect2) with some inline style, by property."""
        ranked: list[tuple[Rank, str, str]] = []
        matches = self._matcher.match(element) if self.n_rules else ()
        for specificity, order, _, declared in matches:
            for name, value, important in declared:
                ranked.append(((important, False, specificity, order), name, value))
        for order, (name, value, important) in enumerate(read_inline(inline) if inline else ()):
            ranked.append(((important, True, (0, 0, 0), order), name, value))
        ranked.sort(key=lambda one: one[0])
        holds: dict[str, str] = {}
        for _, name, value in ranked:
            for one in sorted(PROPERTIES) if name == "all" else (name,):
                holds.pop(one, None)  # what is declared later stands later
                holds[one] = value
        return holds


def find_addresses(prelude: Iterable[Any]) -> Iterator[str]:
    """The addresses that a rule names, quoted or not."""
    for token in prelude:
        if token.type == "function" and token.lower_name == "url":
            yield from find_addresses(token.arguments)
        elif token.type in ("url", "string"):
            yield str(token.value)


def unfold(rule: Any) -> list[Any]:
    """Rules that stand inside a rule, as they would stand beside it."""
    found = tinycss2.parse_blocks_contents(rule.content, skip_comments=True, skip_whitespace=True)
    inner = [one for one in found if one.type == "qualified-rule"]
    outer = tinycss2.serialize(rule.prelude).strip()
    if not inner or "," in outer or len(outer) > MAX_SELECTOR_CHARS:
        return []
    text = ""
    for one in inner:
        for part in tinycss2.serialize(one.prelude).split(","):
            whole = part.replace("&", outer) if "&" in part else f"{outer} {part}"
            text += f"{whole} {{ {tinycss2.serialize(one.content)} }}"
    return list(tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True))


def read_data(address: str) -> str | None:
    """The style sheet that an address holds in itself; None for any other address."""
    head = DATA_SHEET.match(address)
    if head is None:
        return None
    body = unquote_to_bytes(address[head.end() :])
    if ";base64" in head[0].lower():
        try:
            body = base64.b64decode(body, validate=False)
        except ValueError:
            return None
    return body.decode("utf-8", "replace")


def applies_to_screen(query: str) -> bool:
    """Whether a media query means the screen of a desk; conditions that are not known do not."""
    return any(map(_applies, query.lower().split(",")))


def _applies(query: str) -> bool:
    for part in query.replace("only ", "").split(" and "):
        words = part.strip().strip("()").replace(" ", "")
        if words in HOLDS:
            continue
        compared = COMPARED.fullmatch(words)
        if compared is not None:
            limit = float(compared[3]) * (1.0 if compared[4] == "px" else EM)
            if (SCREEN[compared[1]] < limit) == (compared[2] == ">"):
                return False
            continue
        bound = WIDTH_RANGE.fullmatch(words)
        if bound is None:
            return False
        limit = float(bound[3]) * (1.0 if bound[4] == "px" else EM)
        if (SCREEN[bound[2]] < limit) if bound[1] == "min" else (SCREEN[bound[2]] > limit):
            return False
    return True


def read_declarations(content: Any) -> Iterator[tuple[str, str, bool]]:
    """Yield (property, value, is important) of a block, as far as they matter here; what browsers
    do not understand is left out, as they do."""
    for item in tinycss2.parse_blocks_contents(content, skip_comments=True, skip_whitespace=True):
        if item.type != "declaration":
            continue
        value = lower(tinycss2.serialize(item.value).strip())
        name = SAME.get(item.lower_name, item.lower_name)
        if is_variable(item.name):  # a variable, whose name counts as it is written
            yield item.name, value, item.important
        elif (name in PROPERTIES and is_valid(name, value)) or (name == "all" and value in WIDE):
            yield name, value, item.important


def is_variable(name: str) -> bool:
    """Whether a declaration sets a variable."""
    return name.startswith("--")


def lower(value: str) -> str:
    """A value in small letters, but for the names of variables in it."""
    return NAMED.sub(lambda match: str(match[1] or match[2].lower()), value)


@cache
def read_inline(style: str) -> tuple[tuple[str, str, bool], ...]:
    """The declarations of a style attribute; pages repeat a few of them many times."""
    return tuple(read_declarations(style))
