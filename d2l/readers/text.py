"""Plain text and subtitles.

Bytes in any encoding in, their text out, unchanged but for line ends and a byte order mark.
"""

import re
from html import unescape

from d2l.readers.parsing import Parsed, ParseRequest, Section, bound_text
from d2l.readers.plain_headings import find_plain_headings
from d2l.readers.sniff import Decoded, decode

# In subtitles: tags, times of words, places on the screen; the tag of a voice has its name.
STYLE = re.compile(r"</?[a-z][^<>]{0,99}>|<[\d:.]+>|\{\\[^{}]*\}")
VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s+([^<>]{1,99})>")
#: Base64: long runs of letters of both cases and digits, in one line or many.
ENCODED = re.compile(
    r"(?=[a-zA-Z+/]{0,59}\d)(?=[\dA-Z+/]{0,59}[a-z])(?=[\da-z+/]{0,59}[A-Z])[\da-zA-Z+/]{60,}+"
    r"(?:\n[ \t]?[\da-zA-Z+/]{20,}+)*+={0,2}"
)
QUOTED = re.compile(r"=[C-F][0-9A-F]=[89AB][0-9A-F]|=3D\"")  # quoted-printable
LEAST_ENCODED, LEAST_QUOTED = 1000, 5


def parse_text(request: ParseRequest) -> Parsed:
    """Read the whole text as one section, with the headings in it."""
    decoded = decode(request.data, request.name, request.encoding)
    text, notes = drop_encoded(decoded.text)
    section = Section(text, headings=tuple(find_plain_headings(text)))
    return Parsed(tuple(bound_text([section], request)), (*encoding_notes(decoded), *notes))


def drop_encoded(text: str) -> tuple[str, tuple[str, ...]]:
    """Leave out pictures and attachments in base64; note them, and text of an undecoded e-mail."""
    plain = ENCODED.sub(lambda run: "" if len(run[0]) >= LEAST_ENCODED else run[0], text)
    n_chars, n_quoted = len(text) - len(plain), len(QUOTED.findall(plain))
    notes = [f"{n_chars:,} characters of base64 (pictures or files) left out"] if n_chars else []
    if n_quoted >= LEAST_QUOTED:
        notes.append(f"{n_quoted:,} signs like =C3=A4; if it is an e-mail, give --format eml")
    return plain, tuple(notes)


def parse_subtitles(request: ParseRequest) -> Parsed:
    """Read the words of subtitles, a line for each, without numbers and times."""
    decoded = decode(request.data, request.name, request.encoding)
    cues = (block.partition("-->")[2].split("\n")[1:] for block in decoded.text.split("\n\n"))
    spoken = (VOICE.sub(r"\1: ", " ".join(lines)) for lines in cues)
    texts = (unescape(STYLE.sub("", text)).strip() for text in spoken)
    section = Section("\n".join(filter(None, texts)))
    return Parsed(tuple(bound_text([section], request)), encoding_notes(decoded))


def encoding_notes(decoded: Decoded) -> tuple[str, ...]:
    """Note a guessed encoding, since the guess may be wrong."""
    if not decoded.guessed:
        return ()
    return (f"read as {decoded.encoding} text; if characters look wrong, give --encoding",)
