"""Embeddings of many texts, kept in a file: embedding some thousand takes minutes on a CPU.

Texts and what embeds them in, one tensor out. The file names its texts by their digest, so that
those of others are not taken for them.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from d2l.files.atomic import replace_file
from d2l.files.tensors import find_kept

_KEY, _DIGEST = "embeddings", "texts_sha256"
#: Texts in, (texts, embedding_size) fp32 on the CPU out.
EmbedAll = Callable[[Sequence[str]], Tensor]


def load_embeddings(path: Path, texts: Sequence[str], embedder: str, embed: EmbedAll) -> Tensor:
    """(texts, embedding_size) fp32 on the CPU: from the file, else made and written there.

    `embedder` is the name of what `embed` reads with, which is called only where it is needed.
    """
    digest = hashlib.sha256("\0".join([embedder, *texts]).encode("utf-8")).hexdigest()
    kept = _read(path, digest)
    if kept is not None:
        return kept
    made = embed(texts)
    replace_file(path, lambda target: save_file({_KEY: made}, target, {_DIGEST: digest}))
    return made


def _read(path: Path, digest: str) -> Tensor | None:
    """What the file holds, if it is whole and of these texts."""
    kept = find_kept(path)
    if kept is None or kept[1].get(_DIGEST) != digest:
        return None
    return kept[0].get(_KEY)
