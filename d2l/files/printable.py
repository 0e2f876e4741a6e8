"""Strangers' text made fit for a terminal, a card or a message: nothing in it steers the reader.

Text in, text out. Texts of documents, adapters and answers are printed, and anybody may have
written them.
"""

import re

#: What steers a terminal, turns the order of a line around, ends it for some readers only, or is
#: half a character.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

#: Characters of the longest line that is printed whole: a path has up to 4,096.
_MOST = 6_000


def printable(text: str) -> str:
    """A text with its controls spelled out ("\\x1b"); tabs and line ends stay."""
    return CONTROLS.sub(_spell, text)


def one_line(text: str) -> str:
    """The same with line ends spelled out, too: no text can look like a second line."""
    return printable(text).replace("\n", "\\n")


def short_line(text: str) -> str:
    """The same with the middle of a very long one left out: what it is about stands in front, and
    what is wrong with it behind."""
    if len(text) > _MOST:
        text = f"{text[: _MOST // 2]} … {text[-_MOST // 2 :]}"
    return one_line(text)


def _spell(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
