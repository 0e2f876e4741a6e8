"""Words of eight languages, from `words.toml`: lists for questions, overviews and refusals."""

import functools
import re
import tomllib
from pathlib import Path
from typing import Final

LANGUAGES: Final = ("en", "de", "fr", "es", "pt", "it", "nl", "zh")
_NAMED = re.compile(r"<(\w+)>")  # another list of the same language; not the start of a group
_Lists = dict[str, dict[str, list[str]]]


def join(*names: str) -> str:
    """Join the entries of some lists, in all languages, to a pattern without a group around it."""
    lists = read_words()
    joined = [_expand(entry, code) for n in names for code in LANGUAGES for entry in lists[n][code]]
    return "|".join(dict.fromkeys(joined))


@functools.cache
def read_words() -> _Lists:
    """Read the lists: name → language → entries."""
    lists: _Lists = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    return lists


def _expand(entry: str, language: str) -> str:
    return _NAMED.sub(lambda match: "|".join(read_words()[match[1]][language]), entry)
