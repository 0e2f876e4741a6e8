"""Characters that no reader sees: Unicode tags, controls of direction, and signs without a width.

Takes text, gives it without tags, which mean nothing to people; and what else is in it.
"""

import re
import unicodedata
from collections.abc import Iterator

# Flags of England, Scotland and Wales are a black flag with tags behind it.
_TAGS = re.compile(
    "\U0001f3f4\U000e0067\U000e0062(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074"
    "|\U000e0077\U000e006c\U000e0073)\U000e007f|[\U000e0000-\U000e007f]+"
)
_FLAG = "\U0001f3f4"
_OVERRIDES = re.compile("[\u202d\u202e]")
_EMBEDDINGS = re.compile("[\u202a-\u202e\u2066-\u2069]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe]")
# Between letters of scripts that join, and in emoji, they have work to do.
_ZERO_WIDTH = re.compile("(?<=[A-Za-z0-9])[\u180e\u200b-\u200f\u2060-\u2064\ufeff]+(?=[A-Za-z0-9])")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,}")
_BLANK_LETTERS = re.compile("[\u115f\u1160\u3164\uffa0]{3,}")
_UNSEEN = dict.fromkeys(
    (
        0xAD, 0x180E, 0xFEFF,
        *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070),
        *range(0xE0000, 0xE0080), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0),
    )
)  # fmt: skip


#: Letters of other alphabets that look like Latin ones, for words that mix both.
_ALIKE = str.maketrans(
    "аеорсухіјѕһԁԛԝАВЕКМНОРСТХІЈЅοανΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aeopcyxijshdqwABEKMHOPCTXIJSoavABEZHIKMNOPTYX",
)
_OTHER_ALPHABET = re.compile("[\u0370-\u052f]")
_WORD = re.compile(r"\w+")


def take_out_tags(text: str) -> tuple[str, int]:
    """Give a text without Unicode tags, and how many there were; flags keep theirs."""
    n_tags = 0

    def keep_flag(match: "re.Match[str]") -> str:
        nonlocal n_tags
        if match[0].startswith(_FLAG):
            return match[0]
        n_tags += len(match[0])
        return ""

    return _TAGS.sub(keep_flag, text), n_tags


def find_unseen(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (what, how many characters, position) of what cannot be seen and may mislead."""
    if text.isascii():
        return
    goes_both_ways = _RIGHT_TO_LEFT.search(text) is not None
    for what, pattern in (
        ("controls of direction", _OVERRIDES if goes_both_ways else _EMBEDDINGS),
        ("zero-width characters inside words", _ZERO_WIDTH),
        ("runs of variation selectors", _SELECTORS),
        ("runs of blank letters", _BLANK_LETTERS),
    ):
        for match in pattern.finditer(text):
            yield what, len(match[0]), match.start()


def spell_plainly(text: str) -> str:
    """A text as it reads: without what cannot be seen, with ordinary letters for wide ones, and
    with Latin ones for what looks like them inside Latin words.

    Line ends stay, so that lines can be counted.
    """
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFKC", text.translate(_UNSEEN))
    if _OTHER_ALPHABET.search(plain) is None:
        return plain
    return _WORD.sub(_spell_in_latin, plain)


def _spell_in_latin(match: "re.Match[str]") -> str:
    word = match[0]
    if word.isascii() or _OTHER_ALPHABET.search(word) is None:
        return word
    latin = word.translate(_ALIKE)
    mixes = latin.isascii() and any(char.isascii() and char.isalpha() for char in word)
    return latin if mixes else word
