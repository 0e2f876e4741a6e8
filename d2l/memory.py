"""Full memory: an error of a library → `OutOfMemoryError` with the bytes needed and a hint.

Libraries raise RuntimeError, OSError or MemoryError; only the text says that a memory is full.
"""

import contextlib
import re
from collections.abc import Iterator

from d2l.errors import OutOfMemoryError

_FULL = re.compile(
    r"out of memory|not enough memory|(can't|cannot|unable to) allocate|ALLOC_FAILED", re.IGNORECASE
)
_NEEDED = re.compile(r"(?:allocate|mmap) ([\d.]+) ?(b|k|m|g|t)(?:ytes|iB)", re.IGNORECASE)


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Raise OutOfMemoryError for an error of a full memory; a block or a decorator."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        refuse_shortage(error)
        raise


def refuse_shortage(error: BaseException) -> None:
    """Raise OutOfMemoryError if an error comes from a full memory, and not from a file."""
    shortage = explain_shortage(error)
    if shortage is not None:
        raise shortage from error


def explain_shortage(error: BaseException) -> OutOfMemoryError | None:
    """Say how much memory is needed and free, and what helps; None for an error of another kind."""
    text = str(error)
    is_full = isinstance(error, OSError | RuntimeError) and _FULL.search(text)
    if not is_full and not isinstance(error, MemoryError):
        return None
    device, free, hint = _describe_device(text)
    figures = [] if free is None else [f"{free / 1e9:,.2f} GB are free"]
    if needed := _NEEDED.search(text):
        n_bytes = float(needed[1]) * 1024 ** "bkmgt".index(needed[2].lower())
        figures.insert(0, f"{n_bytes / 1e9:,.2f} GB more are needed")
    return OutOfMemoryError(
        f"the memory of {device} is full" + (f": {', '.join(figures)}" if figures else ""),
        hint=f"{hint}; a Doc-to-LoRA network needs less with a smaller --chunk-tokens",
    )


def _describe_device(text: str) -> tuple[str, int | None, str]:
    """Name the device of an error, its free bytes, and a hint."""
    if "MPS" in text:
        return "mps", None, "use --device cpu"
    if not re.search("CUDA|CUBLAS|HIP", text):
        import psutil

        return "this machine", psutil.virtual_memory().available, "end other programs"
    from torch import cuda

    card = int((re.search(r"GPU (\d+)", text) or [0, 0])[1])
    free, others = None, ""
    with contextlib.suppress(RuntimeError, AssertionError):  # CUDA itself may have failed
        free = cuda.mem_get_info(card)[0]
        others = "another --device cuda:N or " if cuda.device_count() > 1 else ""
    return f"cuda:{card}", free, f"use {others}--device cpu"
