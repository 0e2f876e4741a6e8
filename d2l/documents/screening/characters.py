"""Invisible characters: Unicode tags, controls of direction, and signs without a width."""

import re
from collections.abc import Iterator

# Flags of England, Scotland and Wales are a black flag with tags behind it.
_TAGS = re.compile(
    "\U0001f3f4\U000e0067\U000e0062(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074"
    "|\U000e0077\U000e006c\U000e0073)\U000e007f|[\U000e0000-\U000e007f]+"
)
_FLAG = "\U0001f3f4"
_EMBEDDINGS = re.compile("[\u202a-\u202e\u2066-\u2069]")
_LEFTWARD = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe"  # letters written from right to left
_RIGHT_TO_LEFT = re.compile(f"[{_LEFTWARD}]")
# In text of both directions: bidi overrides, and right-to-left embeddings without a right-to-left
# letter, with the text inside.
_TURNED = re.compile(f"[\u202d\u202e]|[\u202b\u2067][^{_LEFTWARD}\u202b-\u202e\u2067\u2069\n]*")
_LATIN = re.compile("[A-Za-z]")
_SELECTORS = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_BRAILLE = re.compile("[\u2801-\u28ff]")
_BRAILLE_BLANKS = re.compile("\u2800{4,}")
# Escape codes that conceal text on a terminal; other numbers before 8 set colors and weights.
_CONCEALED = re.compile(
    r"(?:\x1b\[|\x9b)(?:(?:0?[0-79]|2\d|[349][0-79]|10[0-7]|[345]8;5;\d{1,3});){0,9}"
    r"0?8(?:;\d{1,3}){0,9}m"
)
# Unicode's default ignorable characters, but for tags and controls of direction; and marks of
# annotations, which no program shows either.
_NOTHING = (
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u2065"
    "\u206a-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0080-\U000e0fff"
)
_IGNORED = re.compile(f"[{_NOTHING}]+")
MIN_RUN = 4  # no script and no emoji needs as many in a row
MIN_SCATTERED = 8  # idle characters in one section: copied text has fewer
_IN_WORDS = "\xad\u034f"  # characters that may stand in any word
_BREAKS = "\u200b\u2060\ufeff"  # allow a line end, or forbid it, beside signs
_MARKS_OF_DIRECTION = "\u061c\u200e\u200f"
_OPERATORS = "\u2061\u2062\u2063\u2064"  # of formulas: "times", "of", and such
# Letters, signs and spaces that no joiner changes: Latin, Greek, Cyrillic, and usual marks.
_PLAIN = re.compile("[\x00-\u02ff\u0370-\u0482\u048a-\u052f\u1e00-\u206f]?")
_SELECTED = "#*0123456789\xa9\xae\u203c\u2049"  # emoji of old signs, with a selector


def remove_tags(text: str) -> tuple[str, int]:
    """Remove Unicode tags from a text, but not those of flags, and count them."""
    n_tags = 0

    def keep_flag(match: "re.Match[str]") -> str:
        nonlocal n_tags
        if match[0].startswith(_FLAG):
            return match[0]
        n_tags += len(match[0])
        return ""

    return _TAGS.sub(keep_flag, text), n_tags


def find_unseen(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (sort, number of characters, position) of invisible text that may mislead."""
    for match in _CONCEALED.finditer(text):
        yield "text that a terminal conceals", len(match[0]), match.start()
    if text.isascii():
        return
    goes_both_ways = _RIGHT_TO_LEFT.search(text) is not None
    controls = _find_turned(text) if goes_both_ways else _EMBEDDINGS.finditer(text)
    for match in controls:
        yield "controls of direction", 1, match.start()
    if _BRAILLE.search(text) is None:
        for match in _BRAILLE_BLANKS.finditer(text):
            yield "runs of blank letters", len(match[0]), match.start()
    yield from _find_ignored(text, goes_both_ways)


def _find_turned(text: str) -> Iterator["re.Match[str]"]:
    for match in _TURNED.finditer(text):
        is_override = match[0] in ("\u202d", "\u202e")
        holds_leftward = _RIGHT_TO_LEFT.match(text, match.end()) is not None
        if is_override or (_LATIN.search(match[0]) and not holds_leftward):
            yield match


def _find_ignored(text: str, goes_both_ways: bool) -> Iterator[tuple[str, int, int]]:
    """Yield ignorable characters: in runs, inside Latin words, and many that have no effect."""
    scattered: list[tuple[int, int]] = []
    for match in _IGNORED.finditer(text):
        run, start = match[0], match.start()
        before, after = text[max(0, start - 1) : start], text[match.end() : match.end() + 1]
        if _is_in_word(run, before, after):
            yield "zero-width characters inside words", len(run), start
        elif len(run) >= MIN_RUN:
            yield "runs of invisible characters", len(run), start
        elif _is_idle(run, before, after, goes_both_ways):
            scattered.append((len(run), start))
    if sum(length for length, _ in scattered) >= MIN_SCATTERED:
        for length, start in scattered:
            yield "invisible characters without use", length, start


def _is_in_word(run: str, before: str, after: str) -> bool:
    """True if a run stands inside a Latin word; hyphens may, and `_is_idle` judges selectors."""
    is_word = before.isascii() and before.isalnum() and after.isascii() and after.isalnum()
    return is_word and run.strip(_IN_WORDS) != "" and not _SELECTORS.search(run)


def _is_idle(run: str, before: str, after: str, goes_both_ways: bool) -> bool:
    """True if a short run has no effect between its neighbors ("" at the ends of the text)."""
    if _PLAIN.fullmatch(before) is None:
        return False
    if _SELECTORS.search(run):
        return not before or before not in _SELECTED
    if _PLAIN.fullmatch(after) is None:
        return False
    at_end = before in ("", "\n") or after in ("", "\n")
    if run == "\xad":
        return before.isspace() and not at_end
    if goes_both_ways and not run.strip(_MARKS_OF_DIRECTION):
        return False
    if len(run) == 1 and run in _BREAKS:
        return not at_end and all(char.isalnum() or char.isspace() for char in (before, after))
    return run not in _OPERATORS
