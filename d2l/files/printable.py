"""Escape strangers' text for a terminal, a card or a message, so that no character steers those.

Documents, adapters and answers are strangers' text: anybody may have written them.
"""

import re

#: Characters that steer a terminal, reverse the order of a line, end a line for some programs only,
#: or are halves of characters.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

#: Characters of the longest line that is printed whole: a path has up to 4,096.
_MOST = 6_000


def printable(text: str) -> str:
    """Spell out a text's control characters ("\\x1b"), all but tabs and line ends."""
    return CONTROLS.sub(_spell, text)


def one_line(text: str) -> str:
    """Spell out line ends, too: no text can look like a second line."""
    return printable(text).replace("\n", "\\n")


def short_line(text: str) -> str:
    """Spell out as `one_line`, and cut the middle of a very long message: its subject comes first,
    and the reason last."""
    if len(text) > _MOST:
        text = f"{text[: _MOST // 2]} … {text[-_MOST // 2 :]}"
    return one_line(text)


def _spell(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
