"""Selectors of style sheets: those that stand inside other rules, and those that browsers take.

Takes tokens and text of selectors, gives text that `cssselect2` reads.
"""

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import cssselect2
import tinycss2

from d2l.documents.readers.css_colors import split_at_commas

MAX_SELECTOR_CHARS = 4000
#: What is true of all text of a page that is read from left to right, and what never is.
ALWAYS = re.compile(r":(?:defined|read-only|dir\( ?ltr ?\))(?![\w-])", re.I)
NEVER = re.compile(
    r":(?:(?:-webkit-)?autofill|fullscreen|modal|popover-open|picture-in-picture|placeholder-shown"
    r"|default|indeterminate|valid|invalid|in-range|out-of-range|required|optional|read-write|open"
    r"|dir\( ?rtl ?\))(?![\w-])",
    re.I,
)
#: Parts of an element that browsers have, by a name that is known here.
PART = re.compile(
    r"::(?:-webkit-[\w-]{1,60}|backdrop|cue|details-content|part\([\w -]{1,60}\))", re.I
)


def nest(prelude: Iterable[Any], outer: str) -> str:
    """The selector of a rule that stands inside another one; "" if it is too long."""
    is_simple = re.fullmatch(r"[.#][\w-]{1,200}(?:[.#][\w-]{1,200}){0,20}", outer)
    parent = outer if is_simple else f":is({outer})"
    parts = []
    for part in split_at_commas(prelude):
        found = _put_parent(part, parent).strip()
        has_parent = _names_parent(part)
        parts.append(found if has_parent else f"{parent} {found}")
    whole = ", ".join(parts)
    return whole if len(whole) <= MAX_SELECTOR_CHARS else ""


def _names_parent(tokens: Iterable[Any]) -> bool:
    return any(
        token == "&" or (token.type == "function" and _names_parent(token.arguments))
        for token in tokens
    )


def _put_parent(tokens: Iterable[Any], parent: str) -> str:
    text = ""
    for token in tokens:
        if token == "&":
            text += parent
        elif token.type == "function":
            text += f"{token.name}({_put_parent(token.arguments, parent)})"
        else:
            text += tinycss2.serialize([token])
    return text


def compile_selectors(text: str, *, ignores_case: bool = False) -> list[Any]:
    """The selectors of a rule; none if browsers do not take one of them. `ignores_case`: of
    classes and names."""
    text = PART.sub("::before", NEVER.sub(":hover", ALWAYS.sub(":not(:hover)", text)))
    tokens = tinycss2.parse_component_value_list(text)
    if ignores_case:
        _lower_names(tokens)
    try:
        return list(cssselect2.compile_selector_list(tokens))
    except (cssselect2.SelectorError, NotImplementedError):
        return []


def _lower_names(tokens: list[Any]) -> None:
    before: Any = None
    for token in tokens:
        if token.type == "hash" or (token.type == "ident" and before == "."):
            token.value = token.value.lower()
        elif token.type == "function":
            _lower_names(token.arguments)
        before = token


class QuirkyElement(cssselect2.ElementWrapper):  # type: ignore[misc]
    """An element of a page without a doctype, whose names are of no case."""

    @cached_property
    def id(self) -> str | None:
        """The element's name."""
        name = self.etree_element.get("id")
        return None if name is None else str(name).lower()

    @cached_property
    def classes(self) -> set[str]:
        """Its classes."""
        return set(self.etree_element.get("class", "").lower().split())
