"""Values of style sheets worked out: variables put in, sums done, lengths in pixels.

Takes the text of a value, gives text or numbers; knows no element and no sheet.
"""

import re
from collections.abc import Mapping

#: The screen that pages are looked at on, in pixels.
SCREEN = {"width": 1280.0, "height": 800.0}
EM = 16.0  # pixels of an em, where nothing else is said
MAX_VALUE_CHARS = 2000  # longer values hide nothing
MAX_STEPS = 40  # of putting variables in, and of working sums out
#: A function without another one inside, so that the innermost are done first.
_VARIABLE = re.compile(r"var\( ?(--[\w-]{1,80}) ?(?:,([^()]{0,200}))?\)")
_SUM = re.compile(r"\b(calc|min|max|clamp)\(([^()]{0,200})\)|(?<![\w-])\(([^()]{0,200})\)")
_TERM = re.compile(r"([+-]?(?:\d{1,9}(?:\.\d{0,9})?|\.\d{1,9}))([a-z%]{0,5})")
_PIXELS = {
    "px": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0, "cm": 37.8, "mm": 3.78, "q": 0.945,
    "rem": EM, "vw": SCREEN["width"] / 100, "vh": SCREEN["height"] / 100,
    "vmin": min(SCREEN.values()) / 100, "vmax": max(SCREEN.values()) / 100,
    "svw": SCREEN["width"] / 100, "svh": SCREEN["height"] / 100,
    "dvw": SCREEN["width"] / 100, "dvh": SCREEN["height"] / 100,
}  # fmt: skip


def put_in(value: str, variables: Mapping[str, str]) -> str:
    """A value with the variables that it names; those that nobody sets stay."""
    for _ in range(MAX_STEPS):
        if "var(" not in value or len(value) > MAX_VALUE_CHARS:
            break

        def find(match: "re.Match[str]") -> str:
            return variables.get(match[1], match[2] if match[2] is not None else match[0])

        found = _VARIABLE.sub(find, value)
        if found == value:
            break
        value = found
    return value.strip()


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
    parts = [_add_up(part, em) for part in inner.split(",")]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not known or len({is_length for _, is_length in known}) > 1:
        return match[0]
    numbers = [number for number, _ in known]
    if name == "clamp":
        if len(numbers) != 3:
            return match[0]
        number = max(numbers[0], min(numbers[1:]))
    else:
        number = min(numbers) if name == "min" else max(numbers) if name == "max" else numbers[0]
    return f"{number:.9f}".rstrip("0").rstrip(".") + ("px" if known[0][1] else "")


def _add_up(text: str, em: float) -> tuple[float, bool] | None:
    """What a sum of products comes to, and whether that is a length; None if it is not known."""
    total, is_length = 0.0, False
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
            scale = 1.0 if term is not None and not term[2] else None
            if term is not None and term[2]:
                scale, is_length = scale_of(term[2], em), True
            if term is None or scale is None:
                return None
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
    return total, is_length


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
