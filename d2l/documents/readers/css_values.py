"""Values of style sheets worked out: variables put in, sums done, lengths in pixels.

Takes the text of a value, gives text or numbers; knows no element and no sheet.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import tinycss2

#: The screen that pages are looked at on, in pixels.
SCREEN = {"width": 1280.0, "height": 800.0}
EM = 16.0  # pixels of an em, where nothing else is said
MAX_VALUE_CHARS = 2000  # longer values hide nothing
MAX_STEPS = 40  # of putting variables in, and of working sums out
#: Words for sizes of type, in pixels.
SIZES = {"xx-small": 9.0, "x-small": 10.0, "small": 13.0, "medium": 16.0, "large": 18.0,
         "x-large": 24.0, "xx-large": 32.0, "xxx-large": 48.0}  # fmt: skip
#: A function without another one inside, so that the innermost are done first.
_VARIABLE = re.compile(r"(?<![\w-])var\( ?(--[\w-]{1,80}) ?(?:,([^()]{0,200}))?\)")
_SUM = re.compile(
    r"(?<![\w-])(?:-webkit-)?(calc|min|max|clamp|abs|hypot|round|mod|rem|sign|sin|cos|tan)"
    r"\(([^()]{0,200})\)|(?<![\w-])\(([^()]{0,200})\)"
)
_NUMBER = r"[+-]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:e[+-]?\d{1,3})?"
_PLAIN = re.compile(_NUMBER)
_TERM = re.compile(rf"({_NUMBER})([a-z]{{0,5}}|%)")
_PIXELS = {
    "px": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0, "cm": 37.8, "mm": 3.78, "q": 0.945,
    "rem": EM, "vw": SCREEN["width"] / 100, "vh": SCREEN["height"] / 100,
    "vmin": min(SCREEN.values()) / 100, "vmax": max(SCREEN.values()) / 100,
    "svw": SCREEN["width"] / 100, "svh": SCREEN["height"] / 100,
    "dvw": SCREEN["width"] / 100, "dvh": SCREEN["height"] / 100,
    "lvw": SCREEN["width"] / 100, "lvh": SCREEN["height"] / 100,
    "vi": SCREEN["width"] / 100, "vb": SCREEN["height"] / 100,
}  # fmt: skip
#: All that there are: those of pixels, and those that are relative to what is around.
LENGTH_UNITS = frozenset(
    (
        *_PIXELS, "em", "ex", "ch", "cap", "ic", "lh", "rlh", "rex", "rch", "rcap", "ric", "svi",
        "svb", "svmin", "svmax", "lvi", "lvb", "lvmin", "lvmax", "dvi", "dvb", "dvmin", "dvmax",
        "cqw", "cqh", "cqi", "cqb", "cqmin", "cqmax",
    )
)  # fmt: skip


def put_in(value: str, variables: Mapping[str, str]) -> str:
    """A value with the variables that it names; those that nobody sets stay."""
    for _ in range(MAX_STEPS):
        if ("var(" not in value and "env(" not in value) or len(value) > MAX_VALUE_CHARS:
            break
        found = _VARIABLE.sub(partial(_find, variables), value)
        if found == value:  # what is left stands around functions, or is of the device
            found = _replace(tinycss2.parse_component_value_list(value, True), variables)
        if found == value:
            break
        value = found
    return value.strip()


def _find(variables: Mapping[str, str], match: "re.Match[str]") -> str:
    return variables.get(match[1], match[2] if match[2] is not None else match[0])


def _replace(tokens: list[Any], variables: Mapping[str, str]) -> str:
    """The text of tokens, with what stands for each variable in its place."""
    text = ""
    for token in tokens:
        if token.type != "function":
            text += tinycss2.serialize([token])
            continue
        comma = next((at for at, one in enumerate(token.arguments) if one == ","), None)
        name = tinycss2.serialize(token.arguments[:comma]).strip()
        if token.lower_name == "var" and name in variables:
            text += variables[name]
        elif token.lower_name in ("var", "env") and comma is not None:
            text += tinycss2.serialize(token.arguments[comma + 1 :]).strip()
        elif token.lower_name == "env":  # a device's, such as room beside a camera: none here
            text += "0px"
        elif token.lower_name == "var":
            text += tinycss2.serialize([token])
        else:
            text += f"{token.name}({_replace(token.arguments, variables)})"
    return text


def work_out(value: str, em: float) -> str:
    """A value with its sums worked out, in pixels; those of what is not known here stay."""
    if "(" not in value or len(value) > MAX_VALUE_CHARS:
        return value
    for _ in range(MAX_STEPS):
        found = _SUM.sub(lambda match: _reckon(match, em), value)
        if found == value:
            break
        value = found
    return value


def _reckon(match: "re.Match[str]", em: float) -> str:
    name, inner = match[1] or "calc", match[2] if match[1] else match[3]
    words = [part.strip() for part in inner.split(",")]
    way = words.pop(0) if name == "round" and words[0] in _ROUNDED else "nearest"
    parts = [_add_up(part, em) for part in words]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not known or len({unit for _, unit in known}) > 1:
        return match[0]
    try:
        number = _call(name, way, [number for number, _ in known])
    except (ValueError, ZeroDivisionError, OverflowError):
        return match[0]
    if number is None or not math.isfinite(number):
        return match[0]
    unit = "" if name in ("sign", "sin", "cos", "tan") else known[0][1]
    return f"{number:.9f}".rstrip("0").rstrip(".") + unit


#: What `round` does of a number of steps.
_ROUNDED: dict[str, Callable[[float], float]] = {
    "nearest": lambda steps: math.floor(steps + 0.5), "up": math.ceil, "down": math.floor,
    "to-zero": math.trunc,
}  # fmt: skip
_OF_ONE: dict[str, Callable[[float], float]] = {
    "calc": float, "abs": abs, "sin": math.sin, "cos": math.cos, "tan": math.tan,
    "sign": lambda number: float((number > 0) - (number < 0)),
}  # fmt: skip
_OF_SOME: dict[str, Callable[..., float]] = {"min": min, "max": max}


def _call(name: str, way: str, numbers: list[float]) -> float | None:
    """What a function gives; None if it takes another count of numbers."""
    if name in _OF_SOME:
        return _OF_SOME[name](numbers)
    if name == "hypot":
        return math.hypot(*numbers)
    if len(numbers) == 1 and name in _OF_ONE:
        return _OF_ONE[name](numbers[0])
    if len(numbers) == 3 and name == "clamp":
        return max(numbers[0], min(numbers[1:]))
    if len(numbers) == 1 and name == "round":
        return _ROUNDED[way](numbers[0])
    if len(numbers) != 2:
        return None
    number, step = numbers
    if name == "round":
        return _ROUNDED[way](number / step) * step
    if name == "rem":
        return math.fmod(number, step)
    return number - step * math.floor(number / step) if name == "mod" else None


def _add_up(text: str, em: float) -> tuple[float, str] | None:
    """What a sum of products comes to, and its unit ("px", "%" or none); None if not known."""
    total, units = 0.0, set()
    words = text.replace("*", " * ").replace("/", " / ").split()
    sign, product, waiting = 1.0, None, ""
    for word in [*words, "+"]:
        if word in ("+", "-") and not waiting:
            if product is None:
                return None
            total += sign * product
            sign, product = (1.0 if word == "+" else -1.0), None
        elif word in ("*", "/") and product is not None and not waiting:
            waiting = word
        else:
            term = _TERM.fullmatch(word)
            if term is None:
                return None
            scale = scale_of(term[2], em) if term[2] not in ("", "%") else 1.0
            if scale is None:
                return None
            if term[2]:
                units.add("%" if term[2] == "%" else "px")
            number = float(term[1]) * scale
            if product is None:
                product = number
            elif waiting == "*":
                product *= number
            elif waiting == "/" and number:
                product /= number
            else:
                return None
            waiting = ""
    return (total, next(iter(units), "")) if len(units) < 2 else None


def scale_of(unit: str, em: float) -> float | None:
    """Pixels of a unit; None for one that is relative to what is not known here."""
    if unit in ("em", "ex", "ch", "lh"):
        return em if unit in ("em", "lh") else em / 2
    return _PIXELS.get(unit)


def parse_length(value: str, em: float) -> float | None:
    """A length in pixels; None if it is none, or relative to what is not known here."""
    found = _TERM.fullmatch(value)
    if found is None:
        return None
    number, unit = float(found[1]), found[2]
    if unit == "":
        return 0.0 if number == 0 else None
    scale = scale_of(unit, em)
    return None if scale is None else number * scale


def parse_share(value: str) -> float | None:
    """A number, or a percentage as one; None if it is neither."""
    number = value.removesuffix("%")
    if not _PLAIN.fullmatch(number):
        return None
    return float(number) / (100 if value.endswith("%") else 1)
