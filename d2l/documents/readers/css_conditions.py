"""Conditions of style sheets: what holds of a page in a browser on the screen of a desk.

Takes what stands after `@media`, `@supports` and `@container`; what is not known here does not
hold, and neither does its contrary.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import tinycss2

from d2l.documents.readers.css_colors import split_at_commas
from d2l.documents.readers.css_grammar import is_valid
from d2l.documents.readers.css_values import EM, SCREEN, parse_length, work_out
from d2l.documents.readers.css_words import OTHER_PROPERTIES

#: What can be measured of a screen: lengths in pixels, dots per pixel, bits of a color.
MEASURES: dict[str, float] = {
    "width": SCREEN["width"], "height": SCREEN["height"], "inline-size": SCREEN["width"],
    "block-size": SCREEN["height"], "device-width": SCREEN["width"],
    "device-height": SCREEN["height"], "aspect-ratio": SCREEN["width"] / SCREEN["height"],
    "device-aspect-ratio": SCREEN["width"] / SCREEN["height"], "resolution": 1.0,
    "-webkit-device-pixel-ratio": 1.0, "color": 8.0, "color-index": 0.0, "monochrome": 0.0,
    "grid": 0.0, "horizontal-viewport-segments": 1.0, "vertical-viewport-segments": 1.0,
}  # fmt: skip
#: What else can be asked: the answer, and the answers that there are.
ANSWERS: dict[str, tuple[str, str]] = {
    "hover": ("hover", "none hover"), "any-hover": ("hover", "none hover"),
    "pointer": ("fine", "none coarse fine"), "any-pointer": ("fine", "none coarse fine"),
    "orientation": ("landscape", "portrait landscape"), "scripting": ("enabled",
    "none initial-only enabled"), "update": ("fast", "none slow fast"),
    "overflow-block": ("scroll", "none scroll paged"), "overflow-inline": ("scroll", "none scroll"),
    "display-mode": ("browser", "fullscreen standalone minimal-ui browser window-controls-overlay"),
    "prefers-color-scheme": ("light", "light dark"),
    "prefers-reduced-motion": ("no-preference", "no-preference reduce"),
    "prefers-reduced-transparency": ("no-preference", "no-preference reduce"),
    "prefers-reduced-data": ("no-preference", "no-preference reduce"),
    "prefers-contrast": ("no-preference", "no-preference more less custom"),
    "forced-colors": ("none", "none active"), "inverted-colors": ("none", "none inverted"),
    "dynamic-range": ("standard", "standard high"), "color-gamut": ("srgb", "srgb p3 rec2020"),
    "video-dynamic-range": ("standard", "standard high"),
}  # fmt: skip
NOTHING = ("none", "no-preference")  # answers that count as no
RESERVED = ("and", "or", "not", "only", "layer")
COMPARED = re.compile(r"(?:([^<>=]{1,60})(<=?|>=?|=))?([a-z-]{1,40})(?:(<=?|>=?|=)([^<>=]{1,60}))?")
DOTS = {"dppx": 1.0, "x": 1.0, "dpi": 1 / 96, "dpcm": 2.54 / 96}
MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}

Test = Callable[[Any], bool | None]


def applies_to_screen(query: str) -> bool:
    """Whether a list of media queries means the screen of a desk; an empty one does."""
    tokens = tinycss2.parse_component_value_list(query, skip_comments=True)
    return not query.strip() or any(map(_asks_for_screen, split_at_commas(tokens)))


def _asks_for_screen(tokens: list[Any]) -> bool:
    words = _without_space(tokens)
    first = words[0].lower_value if words and words[0].type == "ident" else ""
    is_not = first == "not" and len(words) > 1 and words[1].type == "ident"
    if not first or (first == "not" and not is_not):
        return _hold(words, test_screen) is True
    if is_not or first == "only":
        words = words[1:]
    if not words or words[0].type != "ident":
        return False
    if words[0].lower_value in RESERVED:
        return False
    holds: bool | None = words[0].lower_value in ("all", "screen")
    if len(words) > 1:
        if words[1].type != "ident" or words[1].lower_value != "and":
            return False
        rest = _hold(words[2:], test_screen)
        holds = None if rest is None else holds and rest
    return holds is not None and holds != is_not


def is_supported(prelude: Iterable[Any], takes_selector: Callable[[str], bool]) -> bool:
    """Whether browsers support what is asked for."""

    def test(token: Any) -> bool | None:
        if token.type == "function":
            if token.lower_name != "selector":
                return None
            return takes_selector(tinycss2.serialize(token.arguments))
        declared = tinycss2.parse_one_declaration(token.content, skip_comments=True)
        if declared.type != "declaration":
            return None
        name, value = declared.lower_name, tinycss2.serialize(declared.value).strip().lower()
        if name.startswith("--") or name in OTHER_PROPERTIES:
            return bool(value)
        return is_valid(name, value, is_strict=True)

    return _hold(_without_space(prelude), test) is True


def is_contained(prelude: Iterable[Any]) -> bool:
    """Whether a container as large as the screen has the size that is asked for."""
    words = _without_space(prelude)
    if words and words[0].type == "ident" and words[0].lower_value != "not":  # its name
        words = words[1:]
    return _hold(words, test_screen) is True


def _without_space(tokens: Iterable[Any]) -> list[Any]:
    return [token for token in tokens if token.type not in ("whitespace", "comment")]


def _hold(words: list[Any], test: Test, depth: int = 0) -> bool | None:
    """Whether a condition holds; None if that is not known."""
    if not words or depth > 20:
        return None
    if words[0].type == "ident" and words[0].lower_value == "not":
        found = _hold_one(words[1], test, depth) if len(words) == 2 else None
        return None if found is None else not found
    joints = {word.lower_value if word.type == "ident" else "" for word in words[1::2]}
    if len(words) % 2 == 0 or len(joints) > 1 or not joints <= {"and", "or"}:
        return None
    found_all = [_hold_one(word, test, depth) for word in words[::2]]
    if joints == {"or"}:
        return True if True in found_all else None if None in found_all else False
    return False if False in found_all else None if None in found_all else True


def _hold_one(token: Any, test: Test, depth: int) -> bool | None:
    if token.type == "() block":
        inner = _without_space(token.content)
        is_nested = bool(inner) and (
            inner[0].type in ("() block", "function")
            or (inner[0].type == "ident" and inner[0].lower_value == "not")
        )
        return _hold(inner, test, depth + 1) if is_nested else test(token)
    return test(token) if token.type == "function" else None


def test_screen(token: Any) -> bool | None:
    """Whether one feature is that of the screen; None if it is none that is known here."""
    if token.type != "() block":
        return None
    text = "".join(work_out(tinycss2.serialize(token.content).lower(), EM).split())
    name, colon, value = text.partition(":")
    if colon:
        if name in ANSWERS:
            answer, answers = ANSWERS[name]
            return value == answer if value in answers.split() else None
        way = {"min-": ">=", "max-": "<="}.get(name[:4], "=")
        if name.startswith("-webkit-m"):
            way, name = (">=" if name[8:11] == "min" else "<="), "-webkit-" + name[12:]
        return _compare(name if way == "=" else name.removeprefix("min-").removeprefix("max-"),
                        way, value)  # fmt: skip
    if text in ANSWERS:
        return ANSWERS[text][0] not in NOTHING
    if text in MEASURES:
        return MEASURES[text] != 0
    found = COMPARED.fullmatch(text)
    if found is None:
        return None
    before, way, name, other_way, after = found.groups()
    bounds = []
    if way:
        bounds.append(_compare(name, MIRRORED[way], before))
    if other_way:
        bounds.append(_compare(name, other_way, after))
    return None if not bounds or None in bounds else all(bounds)


def _compare(name: str, way: str, value: str) -> bool | None:
    if name not in MEASURES:
        return None
    has, wanted = MEASURES[name], _measure(name, value)
    if wanted is None:
        return None
    return {
        "<": has < wanted, "<=": has <= wanted, ">": has > wanted, ">=": has >= wanted,
        "=": abs(has - wanted) < 1e-6,
    }[way]  # fmt: skip


def _measure(name: str, value: str) -> float | None:
    try:
        if name.endswith("ratio"):
            over, _, under = value.partition("/")
            return float(over) / float(under or 1)
        if name == "resolution":
            number, unit = re.fullmatch(r"([\d.e+-]{1,40}?)(dppx|x|dpi|dpcm)", value).groups()  # type: ignore[union-attr]
            return float(number) * DOTS[unit]
        if name.endswith(("width", "height", "size")):
            return parse_length(value, EM)
        return float(value)
    except (ValueError, ZeroDivisionError, AttributeError):
        return None
