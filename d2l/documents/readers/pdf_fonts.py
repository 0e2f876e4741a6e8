"""Mend what pypdf assumes about fonts, so that words come apart.

Takes the resources of a page, changes their fonts in memory; knows nothing of the text.
"""

from typing import Any

from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    FloatObject,
    NameObject,
    NumberObject,
)

SPACE_WIDTH = 250  # of a space in thousandths of the font size, as in Times
WIDEST_SPACE = 400  # a wider glyph at the space's code is another glyph or a guess
MAX_NESTED_FORMS = 8
ORDERINGS_WITHOUT_SPACES = ("Japan1", "GB1", "CNS1")  # CJK fonts, whose text has no word gaps


def look_up(holder: DictionaryObject, key: str) -> Any:
    """Give the object that a dictionary names, or None."""
    return holder[key].get_object() if key in holder else None


def list_xobjects(resources: Any) -> list[DictionaryObject]:
    """Give the images and forms that resources name."""
    resources = resources.get_object() if resources is not None else None
    if not isinstance(resources, DictionaryObject) or "/XObject" not in resources:
        return []
    values = [value.get_object() for value in look_up(resources, "/XObject").values()]
    return [value for value in values if isinstance(value, DictionaryObject)]


def mend_fonts(resources: Any, mended: set[int], depth: int = 0) -> None:
    """Give the fonts of a page and its forms a plausible space, in memory only.

    A subset font often lacks a space glyph, for word gaps are moves. pypdf then takes half an em
    for a space and runs words of justified text together.
    """
    resources = resources.get_object() if resources is not None else None
    if not isinstance(resources, DictionaryObject) or depth > MAX_NESTED_FORMS:
        return
    fonts = resources.get("/Font", DictionaryObject()).get_object()
    for font in fonts.values() if isinstance(fonts, DictionaryObject) else ():
        font = font.get_object()
        if isinstance(font, DictionaryObject) and id(font) not in mended:
            mended.add(id(font))
            mend_composite(font) if font.get("/Subtype") == "/Type0" else mend_simple(font)
    for form in list_xobjects(resources):
        if form.get("/Subtype") == "/Form" and id(form) not in mended:
            mended.add(id(form))
            mend_fonts(form.get("/Resources"), mended, depth + 1)


def mend_simple(font: DictionaryObject) -> None:
    """Set the width of code 32 where a proportional font has none, or one of another glyph."""
    if "/Widths" not in font or font.get("/Subtype") == "/Type3":
        return
    widths = [float(width.get_object()) for width in look_up(font, "/Widths")]
    first = int(font.get("/FirstChar", 0))
    if len({width for width in widths if width}) < 2:  # monospaced: the guess is right
        return
    if first > 32:
        widths = [0.0] * (first - 32) + widths
        first = 32
    widths += [0.0] * (33 - first - len(widths))
    if 0 < widths[32 - first] <= WIDEST_SPACE:
        return
    widths[32 - first] = SPACE_WIDTH
    font[NameObject("/FirstChar")] = NumberObject(first)
    font[NameObject("/Widths")] = ArrayObject(FloatObject(width) for width in widths)


def mend_composite(font: DictionaryObject) -> None:
    """Set the width of glyph 32, which pypdf takes for the space if no glyph is one."""
    to_unicode = font.get("/ToUnicode")
    stream = to_unicode.get_object() if to_unicode is not None else None
    if stream is None or not hasattr(stream, "get_data") or b"<0020>" in stream.get_data():
        return
    descendant = look_up(font, "/DescendantFonts")[0].get_object()
    system = descendant.get("/CIDSystemInfo", DictionaryObject()).get_object()
    if str(system.get("/Ordering", "")) in ORDERINGS_WITHOUT_SPACES:
        return
    widths = descendant.get("/W", ArrayObject()).get_object()
    space = (NumberObject(32), ArrayObject([NumberObject(SPACE_WIDTH)]))
    descendant[NameObject("/W")] = ArrayObject([*widths, *space])
