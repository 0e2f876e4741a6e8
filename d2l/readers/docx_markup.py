"""DOCX markup without visible text: other alternatives, deletions, the code of fields.

It is removed from the tree of a part, and not counted as hidden text.
"""

import re
from itertools import accumulate
from typing import Any

from lxml.etree import SubElement

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
COMPATIBLE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
TEXT_BOX = W + "txbxContent"
RUNS = (W + "r", MATH + "r")
SIGNS = {MATH + "den": "/", MATH + "sup": "^"}  # drawn before parts of a formula
#: A field ends in the story that it begins in.
STORIES = (TEXT_BOX, W + "footnote", W + "endnote")
#: Namespaces that Word knows. Emoji that it names by number stand as text in the fallback.
KNOWN = (
    "http://schemas.microsoft.com/office/",
    "http://schemas.openxmlformats.org/",
    "urn:schemas-microsoft-com:",
)
#: The characters of the font Symbol from its code 32 on.
SYMBOL = (
    " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧ∆ΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_"
    + " αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼"
    + 33 * " "
    + "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…  ↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇   ∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈   ∑           〉∫⌠ ⌡"
)  # fmt: skip
EMOJI = "http://schemas.microsoft.com/office/word/2015/wordml/symex"


def read_sign(sign: Any) -> str:
    """Read a `w:sym`, a character by its number; Symbol is the only known font of signs."""
    code = sign.get(W + "char", "")
    number = int(code, 16) if re.fullmatch("[0-9A-Fa-f]{1,4}", code) else 0
    if sign.get(W + "font") == "Symbol":
        return SYMBOL[number % 0x1000 - 32 :][:1] if number % 0x1000 >= 32 else ""
    return chr(number) if 32 <= number < 0xD800 else ""


def settle(root: Any) -> None:
    """Remove from the tree of a part what Word does not show (ISO 29500-3); lines of fractions and
    exponents in formulas become "/" and "^"."""
    for part in [part for part in root.iter(*SIGNS) if any(part.itertext())]:
        run = part.makeelement(MATH + "r")
        SubElement(run, MATH + "t").text = SIGNS[part.tag]
        part.insert(0, run)
    for alternates in list(root.iter(COMPATIBLE + "AlternateContent")):
        _choose(alternates)
    for row in list(root.iter(W + "tr")):
        if row.find(f"{W}trPr/{W}del") is not None:
            _drop(row)
    for deleted in list(root.iter(W + "del", W + "moveFrom")):
        _drop(deleted)
    _drop_field_code(root)


def _drop(element: Any) -> None:
    if (parent := element.getparent()) is not None:
        parent.remove(element)


def _choose(alternates: Any) -> None:
    """Replace alternatives by the content of the first one that Word knows."""
    for child in alternates:
        is_known = child.tag == COMPATIBLE + "Choice" and all(
            (space := child.nsmap.get(name) or "").startswith(KNOWN) and space != EMOJI
            for name in (child.get("Requires") or "?").split()
        )
        if is_known or child.tag == COMPATIBLE + "Fallback":
            for shown in list(child) if alternates.getparent() is not None else ():
                alternates.addprevious(shown)
            break
    _drop(alternates)


def _drop_field_code(root: Any) -> None:
    """Drop a field up to its result; a field without an end stays whole."""
    if next(root.iter(W + "fldChar"), None) is None:
        return
    stories: dict[Any, list[Any]] = {}
    for run in root.iter(*RUNS):
        story = next(run.iterancestors(*STORIES), root)
        stories.setdefault(story, []).extend(run.iterchildren())
    for parts in stories.values():
        changes = [0] * (len(parts) + 1)  # fields whose code begins, less those whose code ends
        opened: list[tuple[int, int | None]] = []  # starts of fields, and of their results
        for at, part in enumerate(parts):
            kind = part.get(W + "fldCharType") if part.tag == W + "fldChar" else None
            if kind == "begin":
                opened.append((at, None))
            elif kind in ("separate", "end") and opened:
                start, result = opened.pop()
                result = at if result is None else result
                if kind == "separate":
                    opened.append((start, result))
                else:
                    changes[start] += 1
                    changes[result] -= 1
        for part, depth in zip(parts, accumulate(changes), strict=False):
            if depth > 0 and part.tag != W + "rPr":
                _drop(part)
