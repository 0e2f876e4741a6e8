"""Grammar of style sheets: which values browsers take for a property, and what shorthands set.

Takes a property and the text of a value; knows no element and no sheet. Browsers leave out a
declaration that they do not understand, so that an earlier one holds.
"""

from collections.abc import Container, Iterator
from functools import cache
from typing import Any

import tinycss2

from d2l.documents.readers.css_colors import parse_color, split_at_commas
from d2l.documents.readers.css_values import EM, LENGTH_UNITS, work_out
from d2l.documents.readers.css_words import (
    ANGLES,
    AXES,
    BEFORE_SIZE,
    BOXES,
    COLORS,
    CONSTANTS,
    COUNTS,
    DISPLAYS,
    FUNCTIONS,
    LAID_OUT,
    LENGTHS,
    MATH,
    NOT_NEGATIVE,
    NUMBERS,
    PAINTED,
    PICTURES,
    SHAPES,
    SYSTEM_FONTS,
    WIDE,
    WORDS,
)

#: Shorthands of two sides, or axes.
PAIRS = {
    "inset-inline": ("left", "right"), "inset-block": ("top", "bottom"),
    "margin-inline": ("margin-left", "margin-right"),
    "margin-block": ("margin-top", "margin-bottom"),
    "padding-inline": ("padding-left", "padding-right"),
    "padding-block": ("padding-top", "padding-bottom"), "overflow": ("overflow-x", "overflow-y"),
}  # fmt: skip


@cache
def is_valid(name: str, value: str, *, is_strict: bool = False) -> bool:
    """Whether browsers take a value for a property. Those with variables are taken, whatever comes
    of them, and so are those of properties that are not known here, unless `is_strict`."""
    if value in WIDE or "var(" in value or "env(" in value:
        return True
    tokens = split_words(work_out(value, EM))
    if not tokens:
        return False
    if name in WORDS:
        if name == "display" and len(tokens) > 1:
            return _is_display([getattr(token, "lower_value", "") for token in tokens])
        most, words = WORDS[name]
        return len(tokens) <= most and all(_is_word(token, words) for token in tokens)
    if name in LENGTHS or name in NUMBERS:
        return _are_numbers(name, tokens)
    if name in COLORS:
        return len(tokens) == 1 and parse_color(value) is not None
    if name in ("background-clip", "-webkit-background-clip"):
        return all(token == "," or _is_word(token, BOXES) for token in tokens)
    if name == "background":
        return _is_background(tokens)
    if name == "background-image":
        return all(
            token in (",",) or _is_word(token, ("none",)) or is_picture(token) for token in tokens
        )
    if name == "font":
        return (len(tokens) == 1 and _is_word(tokens[0], SYSTEM_FONTS)) or bool(size_of_font(value))
    if name == "rotate":
        return all(
            _is_word(t, AXES) or t.type == "number" or _is_argument("angle", t) for t in tokens
        )
    if name in FUNCTIONS:
        return _are_functions(name, tokens)
    return not is_strict


def split_words(value: str) -> list[Any]:
    """The tokens of a value, spaces left out."""
    found = tinycss2.parse_component_value_list(value, skip_comments=True)
    return [token for token in found if token.type != "whitespace"]


def _is_word(token: Any, words: Container[str]) -> bool:
    return bool(token.type == "ident" and token.lower_value in words)


def _is_display(words: list[str]) -> bool:
    """Whether words tell how a box stands outside, and how what is in it stands."""
    kinds = [DISPLAYS.get(word, "") for word in words]
    return "" not in kinds and len(set(kinds)) == len(kinds)


def _are_numbers(name: str, tokens: list[Any]) -> bool:
    most, words = (LENGTHS if name in LENGTHS else NUMBERS)[name]
    if len(tokens) > most:
        return False
    for token in tokens:
        if _is_word(token, words) or is_math(token):
            continue
        if name in NUMBERS:
            if token.type not in ("number", "percentage"):
                return False
            continue
        if not is_length(token, name == "line-height") or (
            name in NOT_NEGATIVE and token.value < 0
        ):
            return False
    return True


def is_length(token: Any, is_free: bool = False) -> bool:
    """Whether a token is a length or a percentage; `is_free`: of any number, not of 0 alone."""
    if token.type == "number":
        return is_free or token.value == 0
    return token.type == "percentage" or (
        token.type == "dimension" and token.lower_unit in LENGTH_UNITS
    )


def is_math(token: Any) -> bool:
    """Whether a token is a sum, or another function of numbers, that has a value."""
    if token.type != "function":
        return False
    if token.lower_name in LAID_OUT:
        return True
    return token.lower_name in MATH and bool(token.arguments) and _is_sum(token.arguments)


def _is_sum(tokens: list[Any]) -> bool:
    for token in tokens:
        if token.type in ("whitespace", "comment", "number", "percentage"):
            continue
        if token.type == "dimension":
            if token.lower_unit not in LENGTH_UNITS and token.lower_unit not in ANGLES:
                return False
        elif token.type == "ident":
            if token.lower_value not in CONSTANTS:
                return False
        elif token.type == "() block":
            if not _is_sum(token.content):
                return False
        elif token not in ("+", "-", "*", "/", ",") and not is_math(token):
            return False
    return True


def is_picture(token: Any) -> bool:
    """Whether a token is a picture or a gradient."""
    if token.type == "url":
        return True
    if token.type != "function" or token.lower_name not in PICTURES:
        return False
    return "gradient" not in token.lower_name or bool(stops_of(token))


def stops_of(gradient: Any) -> list[str]:
    """The colors of a gradient; none if one of its parts, but for the first, has no color."""
    stops = []
    for at, part in enumerate(split_at_commas(gradient.arguments)):
        words = [tinycss2.serialize([one]).lower() for one in part if one.type != "whitespace"]
        color = next(
            (word for word in words if parse_color(word) is not None or "var(" in word), ""
        )
        if not color and gradient.lower_name == "-webkit-gradient":
            color = "currentcolor"
        if color:
            stops.append(color)
        elif at and not (len(words) == 1 and words[0][:1].isdigit()):  # a hint between two
            return []
    return stops


def _is_background(tokens: list[Any]) -> bool:
    layers = split_at_commas(tokens)
    for at, layer in enumerate(layers):
        n_colors = 0
        for token in layer:
            if token.type == "ident" and token.lower_value in PAINTED:
                continue
            if token == "/" or is_length(token) or is_math(token) or is_picture(token):
                continue
            if parse_color(tinycss2.serialize([token]).lower()) is None:
                return False
            n_colors += 1
        if not layer or n_colors > (at == len(layers) - 1):
            return False
    return True


def _are_functions(name: str, tokens: list[Any]) -> bool:
    known = FUNCTIONS[name]
    for token in tokens:
        if token.type == "function" and token.lower_name in known:
            kind = known[token.lower_name]
            least, most = COUNTS.get(token.lower_name, (1, 1)) if name == "transform" else (0, 99)
            if not least <= len([one for one in split_at_commas(token.arguments) if one]) <= most:
                return False
            if not _has_sides(token, name) or not all(
                _is_argument(kind, one) for one in token.arguments
            ):
                return False
        elif (token.type == "url" and "url" in known) or (
            name == "clip-path" and _is_word(token, SHAPES)
        ):
            continue
        elif not (len(tokens) == 1 and _is_word(token, ("auto" if name == "clip" else "none",))):
            return False
    return True


def _has_sides(token: Any, name: str) -> bool:
    """Whether a rectangle has its sides, and a blur is none less than nothing."""
    words = [one for one in token.arguments if one.type not in ("whitespace", "comment")]
    sides = [one for one in words if one != ","]
    if name == "clip":
        return len(sides) == 4 and all(one.type != "percentage" for one in sides)
    if token.lower_name == "inset":
        ends = [at for at, one in enumerate(words) if _is_word(one, ("round",))]
        return 1 <= len(words[: ends[0]] if ends else words) <= 4
    return token.lower_name != "blur" or all(
        getattr(one, "value", 0) >= 0 for one in sides if one.type == "dimension"
    )


def _is_argument(kind: str, token: Any) -> bool:
    if token.type in ("whitespace", "comment") or token == "," or is_math(token):
        return True
    if kind == "length":
        return is_length(token)
    if kind == "angle":
        is_angle = token.type == "dimension" and token.lower_unit in ANGLES
        return is_angle or (token.type == "number" and token.value == 0)
    if kind == "number":
        return token.type in ("number", "percentage")
    if token.type != "ident":
        return True
    return token.lower_value in SHAPES | AXES or parse_color(token.lower_value) is not None


def size_of_font(value: str) -> str:
    """The size of type in a `font`; "" if it lacks one, or a family after it."""
    tokens = split_words(value)
    for at, token in enumerate(tokens):
        if token.type == "ident" and token.lower_value in BEFORE_SIZE:
            continue
        if token.type == "number" and token.value >= 1:  # its weight
            continue
        if token.type == "dimension" and token.lower_unit in ANGLES:  # how far it leans
            continue
        if not (is_length(token) or is_math(token) or _is_word(token, LENGTHS["font-size"][1])):
            return ""
        after = tokens[at + 1 :]
        if after[:1] == ["/"]:
            after = after[2:]
        is_family = bool(after) and all(
            one.type in ("ident", "string") or one == "," for one in after
        )
        return str(tinycss2.serialize([token])) if is_family else ""
    return ""


def expand(name: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield (property, value) of all that a declaration sets, a shorthand what it says of each."""
    if name in ("margin", "inset", "padding"):
        parts = _words_of(value)
        stem = "" if name == "inset" else f"{name}-"
        if parts:
            yield f"{stem}top", parts[0]
            yield f"{stem}right", parts[min(1, len(parts) - 1)]
            yield f"{stem}bottom", parts[2] if len(parts) > 2 else parts[0]
            yield f"{stem}left", parts[3] if len(parts) == 4 else parts[min(1, len(parts) - 1)]
    elif name in PAIRS:
        parts = _words_of(value)
        if parts:
            yield from zip(PAIRS[name], (parts[0], parts[-1]), strict=True)
    elif name == "font":
        yield "font-size", value if value in WIDE or "var(" in value else size_of_font(value)
    elif name == "background":
        yield from _expand_background(value)
    else:
        yield name, value


def _words_of(value: str) -> list[str]:
    return [tinycss2.serialize([token]) for token in split_words(value)]


def _expand_background(value: str) -> Iterator[tuple[str, str]]:
    if value in WIDE or "var(" in value or "env(" in value:
        pictures, color, clip = ["none"], value, ""
    else:
        tokens = split_words(value)
        pictures = [tinycss2.serialize([token]) for token in tokens if is_picture(token)]
        words = [tinycss2.serialize([token]).lower() for token in tokens]
        color = next((one for one in words if parse_color(one) is not None), "transparent")
        clip = "text" if "text" in words else ""
    yield "background-image", ", ".join(pictures) or "none"
    yield "background-color", color
    yield "background-clip", clip or "border-box"
