"""Marks of notes and pictures of formulas, written as text: "14 [1] kg", "E=mc^{2}".

A tree of lxml in, changed in place, in time linear in the page.
"""

import re
from collections.abc import Iterator
from typing import Any

from d2l.readers.html_hidden import empty

#: Attributes of marks: types of EPUB and ARIA, classes, anchors by Pandoc, GitHub, Word and wikis.
NOTE = re.compile(
    r"\bnoteref\b|footnote-?ref|#(?:user-content-)?_?(?:fn|ftn|footnote|note|endnote|cite_note)"
)
MAX_MARK_CHARS = 3
#: Classes, roles and sources of pictures of formulas.
FORMULA = re.compile(r"\b(?:math|latex|tex|equation|formula\w*)\b|codecogs")
DISPLAY_STYLE = re.compile(r"\{\\displaystyle (.*)\}")


def spell_formulas(root: Any) -> Iterator[Any]:
    """Write the formulas that pictures show as their text; yield their elements."""
    for picture in list(root.iter("img")):
        formula = " ".join(picture.get("alt", "").split())
        signs = " ".join(picture.get(name, "") for name in ("class", "role", "src"))
        if formula and FORMULA.search(signs):
            picture.tag, picture.text = "span", DISPLAY_STYLE.sub(r"\1", formula)
            picture.attrib.pop("aria-hidden", None)
            yield picture


def write_note_marks(root: Any) -> None:
    """Write the marks of notes in brackets, apart from the word or number before them."""
    for link in list(root.iter("a")):
        mark = link.text_content().strip("[]() \n")
        if 0 < len(mark) <= MAX_MARK_CHARS and NOTE.search(" ".join(link.values())):
            around = link.getparent()
            is_alone = around.tag == "sup" and link.getnext() is None and link.getprevious() is None
            is_whole = is_alone and around.text_content().strip("[]() \n") == mark
            written = around if is_whole else link
            empty(written)
            written.text = f" [{mark}]"
