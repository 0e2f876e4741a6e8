"""Compact tokenizer.json files: the same tokenizer in fewer bytes, to travel with an adapter.

JSON text in, JSON text out; the cache keeps the compact text of a base's file.
"""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from d2l.files.atomic import replace_file
from d2l.files.cache import cache_dir

#: In the name of a cached text: raised when the compact text of a file changes.
_VERSION = 1
#: tokenizers ignores a merge in one string that begins so, as a comment.
_COMMENT = "#version"


def read_compact(path: Path) -> str:
    """Read the compact text of a tokenizer.json from the cache, or make it and cache it.

    The first line of a cached text is the SHA-256 of the rest; a damaged text is made again.
    """
    original = path.read_bytes()
    digest = hashlib.sha256(original).hexdigest()
    cached = cache_dir() / "tokenizers" / f"{digest[:32]}-v{_VERSION}.json"
    with contextlib.suppress(OSError):
        sha256, _, text = cached.read_bytes().partition(b"\n")
        if hashlib.sha256(text).hexdigest().encode() == sha256:
            return text.decode("utf-8")
    compact = compact_tokenizer(original.decode("utf-8"))
    whole = f"{hashlib.sha256(compact.encode()).hexdigest()}\n{compact}"
    with contextlib.suppress(OSError):  # without a cache it takes longer
        cached.parent.mkdir(parents=True, exist_ok=True)
        replace_file(cached, lambda target: target.write_text(whole, "utf-8"))
    return compact


def compact_tokenizer(text: str) -> str:
    """Write a tokenizer.json without white space, and each merge as one string if that is safe.

    A merge is a pair of texts. Since version 0.20 tokenizers writes a list of two; every version
    also reads the older form, one string with a space between the texts, which is a tenth shorter.
    If any text contains a space, all merges stay lists.
    """
    document = json.loads(text)
    model = document.get("model")
    if isinstance(model, dict) and model.get("type") == "BPE":
        model["merges"] = _join_pairs(model.get("merges"))
    # No escapes: they take six characters for two or three bytes.
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def _join_pairs(merges: Any) -> Any:
    """Join the texts of merges; all stay unchanged if any could be misread."""
    if not isinstance(merges, list):
        return merges
    for pair in merges:
        if not isinstance(pair, list) or len(pair) != 2 or pair[0].startswith(_COMMENT):
            return merges
        if not all(part and " " not in part for part in pair):
            return merges
    return [" ".join(pair) for pair in merges]
