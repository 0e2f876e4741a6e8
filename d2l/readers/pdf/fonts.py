"""Correct fonts in memory, so that pypdf separates words: it guesses the widths of spaces."""

import re
from contextlib import suppress
from typing import Any

from pypdf.errors import PyPdfError
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    FloatObject,
    NameObject,
    NumberObject,
)

# Errors that pypdf raises on unexpected files.
PARSE_ERRORS = (
    PyPdfError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)
SPACE_WIDTH = 250  # of a space in thousandths of the font size, as in Times
WIDEST_SPACE = 400  # a wider glyph at the space's code is another glyph or a guess
MAX_NESTED_FORMS = 8
UNUSED_CODE = 0xFFFE  # of two bytes: no font has so many glyphs
LIGATURE_NAMES = ("/ff", "/fi", "/fl", "/ffi", "/ffl")
NUMBERED_GLYPH = re.compile(r"/(?!u)[a-zA-Z]{1,5}\d{1,5}$")  # names nothing: g36, cid0042
#: Encodings of two-byte codes that pypdf reads; they determine the characters.
READ_CODES = re.compile(
    r"/(?:Uni\w+-(?:UCS2|UTF16)|90ms-RKSJ|(?:GB|GBpc|GBK)-EUC|GBK2K|ETen(?:ms)?-B5)-[HV]$"
)
BF_RANGE = re.compile(rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>\s*(?:<([0-9A-Fa-f]+)>|\[([^]]*)\])")
N_CODES = 256  # of a simple font; pypdf refuses to read a page whose font lists more widths
ORDERINGS_WITHOUT_SPACES = ("Japan1", "GB1", "CNS1")  # CJK fonts, whose text has no word gaps


def look_up(holder: DictionaryObject, key: str) -> Any:
    """Find the object that a dictionary names, or None."""
    return holder[key].get_object() if key in holder else None


def read_numbers(array: Any) -> list[float]:
    """Read an array's numbers; none if it is no array of numbers."""
    values = [item.get_object() for item in array] if isinstance(array, ArrayObject) else []
    return [float(v) for v in values] if all(isinstance(v, (int, float)) for v in values) else []


def list_resources(resources: Any, category: str) -> dict[str, DictionaryObject]:
    """Find the dictionaries of a category, such as "/Font", in resources."""
    resources = resources.get_object() if resources is not None else None
    named = look_up(resources, category) if isinstance(resources, DictionaryObject) else None
    listed = named.items() if isinstance(named, DictionaryObject) else ()
    objects = {name: value.get_object() for name, value in listed}
    return {name: value for name, value in objects.items() if isinstance(value, DictionaryObject)}


def mend_fonts(resources: Any, mended: set[int], depth: int = 0) -> None:
    """Give a plausible space to the fonts of a page and its forms, and the outer resources to forms
    without their own; in memory only.

    A subset font often lacks a space glyph, since word gaps are moves. pypdf then takes half an em
    for a space, and joins words of justified text.
    """
    if depth > MAX_NESTED_FORMS:
        return
    for font in list_resources(resources, "/Font").values():
        if id(font) not in mended:
            mended.add(id(font))
            with suppress(*PARSE_ERRORS):  # malformed fonts stay unchanged
                mend_glyph_names(font)
                mend_composite(font) if font.get("/Subtype") == "/Type0" else mend_simple(font)
    for form in list_resources(resources, "/XObject").values():
        if form.get("/Subtype") == "/Form" and id(form) not in mended:
            mended.add(id(form))
            form.setdefault(NameObject("/Resources"), resources)
            mend_fonts(form.get("/Resources"), mended, depth + 1)


def mend_glyph_names(font: DictionaryObject) -> None:
    """Cut variants off the names of glyphs ("a.sc"), and give ligatures names that pypdf knows: it
    returns unknown names as text (Adobe Glyph List Specification, 2)."""
    encoding = look_up(font, "/Encoding")
    names = look_up(encoding, "/Differences") if isinstance(encoding, DictionaryObject) else None
    if isinstance(names, ArrayObject):
        encoding[NameObject("/Differences")] = ArrayObject(map(mend_glyph_name, names))


def mend_glyph_name(name: Any) -> Any:
    """Return the plain name of a glyph; numbers between the names stay."""
    if not isinstance(name, NameObject) or name.startswith("/."):
        return name
    plain = name.split(".")[0]
    ligature = plain.replace("_", "")
    return NameObject(ligature if ligature in LIGATURE_NAMES else plain)


def hides_text(font: DictionaryObject) -> bool:
    """True if a font does not determine the characters of its codes, so that pypdf guesses."""
    if "/ToUnicode" in font:
        return False
    encoding = look_up(font, "/Encoding")
    if font.get("/Subtype") == "/Type0":
        return not READ_CODES.match(str(encoding))
    names = look_up(encoding, "/Differences") if isinstance(encoding, DictionaryObject) else None
    glyphs = [n for n in names or () if isinstance(n, NameObject) and n != "/.notdef"]
    return bool(glyphs) and all(map(NUMBERED_GLYPH.match, glyphs))


def mend_simple(font: DictionaryObject) -> None:
    """Set the width of code 32 if a proportional font has none, or that of another glyph."""
    widths = read_numbers(look_up(font, "/Widths"))
    if not widths or font.get("/Subtype") == "/Type3":
        return
    if len(widths) > N_CODES:  # groff lists one too many
        widths = widths[:N_CODES]
        font[NameObject("/Widths")] = ArrayObject(FloatObject(width) for width in widths)
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
    """Give a space to a font without one: pypdf would take glyph 32, which may be any sign."""
    to_unicode = font.get("/ToUnicode")
    stream = to_unicode.get_object() if to_unicode is not None else None
    if stream is None or not hasattr(stream, "get_data") or has_space(stream.get_data()):
        return
    descendant = look_up(font, "/DescendantFonts")[0].get_object()
    system = descendant.get("/CIDSystemInfo", DictionaryObject()).get_object()
    if str(system.get("/Ordering", "")) in ORDERINGS_WITHOUT_SPACES:
        return
    widths = descendant.get("/W", ArrayObject()).get_object()
    space = (NumberObject(UNUSED_CODE), ArrayObject([NumberObject(SPACE_WIDTH)]))
    descendant[NameObject("/W")] = ArrayObject([*widths, *space])
    mended = DecodedStreamObject()
    mended.set_data(stream.get_data() + b"\nbeginbfchar <%04X> <0020> endbfchar" % UNUSED_CODE)
    font[NameObject("/ToUnicode")] = mended


def has_space(to_unicode: bytes) -> bool:
    """True if a map from codes to text has a space; the code 32 itself may be any glyph."""
    for pairs in re.findall(rb"beginbfchar(.*?)endbfchar", to_unicode, re.S):
        if b"0020" in re.findall(rb"<(\w*)>", pairs)[1::2]:
            return True
    for ranges in re.findall(rb"beginbfrange(.*?)endbfrange", to_unicode, re.S):
        for low, high, start, listed in BF_RANGE.findall(ranges):
            if b"<0020>" in listed:
                return True
            if start and 0 <= 32 - int(start, 16) <= int(high, 16) - int(low, 16):
                return True
    return False
