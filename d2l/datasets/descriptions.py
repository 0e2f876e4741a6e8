"""Task descriptions: an argument or standard input in, checked texts out."""

import re
from typing import BinaryIO

from d2l.errors import DescriptionError

#: A description is a few sentences; embedders read 8,192 tokens at most.
MAX_CHARS = 20_000

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_QUOTES = ('"', "'")
#: Verbs that begin the description of a task whose output is a text's own content in other words.
_REWRITES = re.compile(
    r"\W*(?:please )?(?:summari[sz]|translat|rewrit|re-?phras|paraphras|simplif|shorten|condens"
    r"|abridg|correct|proofread|rewor|formali[sz]|polish)",
    re.IGNORECASE,
)
CHANGES_MEANINGS = "a base this small changes meanings: compare each text with its input"


def check_description(text: str, where: str = "the description") -> str:
    """Strip white space and one pair of quotes around; raises DescriptionError."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
        text = text[1:-1].strip()
    hint = "say in a sentence or two what the task is"
    if not text:
        raise DescriptionError(f"{where} is empty", hint=hint)
    if len(text) > MAX_CHARS:
        raise DescriptionError(
            f"{where} has {len(text):,} characters, at most {MAX_CHARS:,} are read",
            hint=f"{hint}; d2l compile is for documents",
        )
    if _CONTROL.search(text) or any("\ud800" <= c <= "\udfff" for c in text):
        raise DescriptionError(f"{where} is not text", hint=hint)
    return text


def is_rewriting(text: str) -> bool:
    """True for a task that writes a text anew: a summary, a translation, another style."""
    return _REWRITES.match(text) is not None


def read_stream(stream: BinaryIO) -> str:
    """Read a description from standard input, at most as long as allowed."""
    where = "the description on standard input"
    data = stream.read(4 * MAX_CHARS + 1)
    if len(data) > 4 * MAX_CHARS:  # no character has more bytes
        raise DescriptionError(
            f"{where} is larger than {4 * MAX_CHARS:,} bytes",
            hint="say in a sentence or two what the task is; d2l compile is for documents",
        )
    try:
        return check_description(data.decode("utf-8"), where)
    except UnicodeDecodeError as error:
        raise DescriptionError(f"{where} is not UTF-8 text", hint="convert it to UTF-8") from error
