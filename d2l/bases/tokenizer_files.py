"""A tokenizer's file in fewer bytes: the same tokenizer, as a copy of it travels with an adapter.

JSON text in, JSON text out; what was made of a base's file is kept in the cache.
"""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from d2l.files.atomic import replace_file
from d2l.files.cache import cache_dir

#: Part of a kept text's name: raised when the same file would be written otherwise.
_VERSION = 1
#: tokenizers takes a merge in one string that begins so for a comment, and passes it over.
_COMMENT = "#version"


def read_compact(path: Path) -> str:
    """The compact text of a tokenizer.json: from the cache where it was made before, else into it.

    A kept text says its own SHA-256 in its first line; a damaged one is made again.
    """
    original = path.read_bytes()
    digest = hashlib.sha256(original).hexdigest()
    place = cache_dir() / "tokenizers" / f"{digest[:32]}-v{_VERSION}.json"
    with contextlib.suppress(OSError):
        said, _, kept = place.read_bytes().partition(b"\n")
        if hashlib.sha256(kept).hexdigest().encode() == said:
            return kept.decode("utf-8")
    made = compact_tokenizer(original.decode("utf-8"))
    whole = f"{hashlib.sha256(made.encode()).hexdigest()}\n{made}"
    with contextlib.suppress(OSError):  # without a cache it takes longer
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(place, lambda target: target.write_text(whole, "utf-8"))
    return made


def compact_tokenizer(text: str) -> str:
    """The JSON of a tokenizer.json without white space, merges in one string where that is safe.

    A merge is a pair of texts. Since version 0.20 tokenizers writes a list of two; every version
    also reads the older spelling, one string with a space between them, which is a tenth shorter.
    A pair that itself holds a space cannot be spelled so, and then all stay as they are.
    """
    document = json.loads(text)
    model = document.get("model")
    if isinstance(model, dict) and model.get("type") == "BPE":
        model["merges"] = _join_pairs(model.get("merges"))
    # Letters as they are: an escape of six characters stands for two or three bytes.
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def _join_pairs(merges: Any) -> Any:
    """Merges as strings; unchanged where one of them could be read otherwise."""
    if not isinstance(merges, list):
        return merges
    for pair in merges:
        if not isinstance(pair, list) or len(pair) != 2 or pair[0].startswith(_COMMENT):
            return merges
        if not all(part and " " not in part for part in pair):
            return merges
    return [" ".join(pair) for pair in merges]
