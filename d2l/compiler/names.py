"""Names of documents → names of their adapters' folders; names of descriptions."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePath

SUFFIX = ".lora"
_STDIN = "stdin"
_UNNAMED = "document"
#: Characters that are a problem for some file system or shell.
_ODD = re.compile(r"[^\w.+=@ -]")
_LONGEST_TASK = 60  # characters of a description's name beside documents
_LONGEST = 100  # characters of a name; file systems take 255 bytes


def name_adapters(documents: Sequence[str]) -> list[str]:
    """Name the folder of every document's adapter, none twice on any file system.

    "docs/manual.pdf" gives "manual.lora". Documents with the same name get more of their path: the
    suffix ("manual.pdf.lora"), then the folders above ("docs-manual.pdf.lora"), and at last
    numbers.
    """
    spellings = [list(spell(name)) for name in documents]
    used = [0] * len(documents)
    while True:
        chosen = [options[at] for options, at in zip(spellings, used, strict=True)]
        counts = Counter(map(fold, chosen))
        again = [
            place
            for place, name in enumerate(chosen)
            if counts[fold(name)] > 1 and used[place] + 1 < len(spellings[place])
        ]
        if not again:
            return [name + SUFFIX for name in _number(chosen)]
        for place in again:
            used[place] += 1


def spell(name: str) -> Iterator[str]:
    """List names for a document's adapter, the shortest first."""
    if name == "-":
        yield _STDIN
        return
    path = PurePath(name)
    yield clean(path.stem) or _UNNAMED
    if not clean(path.stem):
        return
    yield clean(path.name)
    for n in range(2, len(path.parts) + 1):
        yield clean("-".join(part for part in path.parts[-n:] if part not in ("/", "..", ".")))


def clean(name: str) -> str:
    """Drop characters that a file's name should not have, and leading dots; maybe all."""
    plain = _ODD.sub("_", unicodedata.normalize("NFC", name)).strip(" .-")
    return plain[-_LONGEST:].strip(" .-")


def fold(name: str) -> str:
    """Fold a name, so that names are equal if a file system without case takes them for one."""
    return unicodedata.normalize("NFC", name.casefold())


def _number(given: Sequence[str]) -> Iterator[str]:
    """Number repeated names, each with the next free number."""
    taken = set(map(fold, given))
    seen = set[str]()
    for name in given:
        chosen, n = name, 1
        while fold(chosen) in seen or (n > 1 and fold(chosen) in taken):
            n += 1
            chosen = f"{name}-{n}"
        seen.add(fold(chosen))
        yield chosen


def name_task(text: str) -> str:
    """Name a description by its own beginning, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_TASK else f"{line[: _LONGEST_TASK - 1].rstrip()}…"
