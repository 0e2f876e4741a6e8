"""A digest of a large file that is fast enough for every start: it detects damage, not malice.

Each page of 4 KiB is summed as 64-bit integers, and the sums are hashed. That detects flipped bits,
and lost, cut or exchanged pages. Only SHA-256 detects an attack.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

_PAGE = 4096
_BLOCK_PAGES = 1 << 14  # 64 MiB at a time
_THREADS = 4  # sums wait for memory more than for a core, and numpy lets other threads run


def page_digest(path: Path) -> str:
    """Compute the digest of a file's bytes, in hex. Raises OSError."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    n_pages = size // _PAGE
    if n_pages:
        words: np.ndarray = np.memmap(path, dtype="<u8", mode="r", shape=(n_pages, _PAGE // 8))
        with ThreadPoolExecutor(_THREADS) as threads:
            for sums in threads.map(
                lambda start: np.add.reduce(
                    words[start : start + _BLOCK_PAGES], axis=1, dtype="<u8"
                ),
                range(0, n_pages, _BLOCK_PAGES),
            ):
                digest.update(sums.tobytes())
    with path.open("rb") as stream:
        stream.seek(n_pages * _PAGE)
        digest.update(stream.read(_PAGE))
    digest.update(str(size).encode())
    return digest.hexdigest()
