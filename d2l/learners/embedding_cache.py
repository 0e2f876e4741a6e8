"""Embeddings of many texts, kept in a file: embedding some thousand takes minutes on a CPU.

Texts and what embeds them in, one tensor out. The file names its texts by their digest, so that
those of others are not taken for them.
"""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from d2l.files.atomic import replace_file
from d2l.files.cache import cache_dir
from d2l.files.tensors import FILE_ERRORS, find_kept

_KEY, _DIGEST = "embeddings", "texts_sha256"
#: Texts in, (texts, embedding_size) fp32 on the CPU out.
EmbedAll = Callable[[Sequence[str]], Tensor]


def load_embeddings(path: Path, texts: Sequence[str], embedder: str, embed: EmbedAll) -> Tensor:
    """(texts, embedding_size) fp32 on the CPU: from the file, else made and written there.

    `embedder` is the name of what `embed` reads with, which is called only where it is needed.
    """
    digest = _digest(texts, embedder)
    return _find_or_make(path, digest, lambda: embed(texts), failing=contextlib.nullcontext())


def share_embeddings(texts: Sequence[str], embedder: str, embed: EmbedAll) -> Tensor:
    """The same, kept in the user's cache for all runs, if it can be; so `embedder` has to say all
    that decides."""
    digest = _digest(texts, embedder)
    path = cache_dir() / "descriptions" / f"{digest[:32]}.safetensors"
    failing = contextlib.suppress(*FILE_ERRORS)
    return _find_or_make(path, digest, lambda: embed(texts), failing=failing)


def _find_or_make(
    path: Path,
    digest: str,
    make: Callable[[], Tensor],
    *,
    failing: contextlib.AbstractContextManager[None],
) -> Tensor:
    """What the file holds, else what is made, which is written within `failing`."""
    kept = _read(path, digest)
    if kept is not None:
        return kept
    made = make()
    with failing:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda target: save_file({_KEY: made}, target, {_DIGEST: digest}))
    return made


def _digest(texts: Sequence[str], embedder: str) -> str:
    return hashlib.sha256("\0".join([embedder, *texts]).encode("utf-8")).hexdigest()


def _read(path: Path, digest: str) -> Tensor | None:
    """What the file holds, if it is whole and of these texts."""
    kept = find_kept(path)
    if kept is None or kept[1].get(_DIGEST) != digest:
        return None
    return kept[0].get(_KEY)
