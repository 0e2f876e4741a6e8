"""Errors that a user can fix: one line that says what is wrong, one that says what to do."""

import contextlib
import re
from collections.abc import Iterator


class D2LError(Exception):
    """A problem the user can fix.

    `message` says what was found (and names the file); `hint` says what to do about it.
    The command line prints both and exits with 1; anything that is not a `D2LError` is a bug.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def describe(self) -> str:
        """Describe the error in one line, with what to do about it."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class DocumentError(D2LError):
    """An input document cannot be read."""


class DescriptionError(D2LError):
    """A task description, or a table of them, cannot be used."""


class BaseModelError(D2LError):
    """A base model cannot be found or loaded, or does not fit the checkpoint."""


class CheckpointError(D2LError):
    """A hypernetwork checkpoint cannot be found, is damaged, or is not safe to read."""


class OptionError(D2LError):
    """An option has a value that cannot be used, or one that means nothing here."""


class OutOfMemoryError(D2LError):
    """The memory of a GPU or of this machine is full."""


class MissingExtraError(D2LError):
    """A library that only some commands need is not installed."""


class ShapeError(D2LError):
    """Weights or memories that are not well formed, or do not fit together: no value of theirs can
    be made. Files that hold such weights raise AdapterError or CheckpointError instead."""


class MergeError(D2LError):
    """Weights cannot be merged as asked."""


class AdapterError(D2LError):
    """An adapter folder cannot be read or written."""


class RecipeError(D2LError):
    """A training recipe, its data or the state of a run cannot be used."""


class ProbeError(D2LError):
    """Questions for probing cannot be used, or a figure was not reached."""


class TaskError(D2LError):
    """A file of tasks, or what is to be measured with it, cannot be used."""


# ---- a full memory ------------------------------------------------------------------------------
# Libraries raise RuntimeError, OSError or MemoryError; only the text says that a memory is full.

_FULL = re.compile(
    r"out of memory|not enough memory|(can't|cannot|unable to) allocate|ALLOC_FAILED", re.IGNORECASE
)
_NEEDED = re.compile(r"(?:allocate|mmap) ([\d.]+) ?(b|k|m|g|t)(?:ytes|iB)", re.IGNORECASE)


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """A block, or a decorator, that raises OutOfMemoryError for an error of a full memory."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        refuse_shortage(error)
        raise


def refuse_shortage(error: BaseException) -> None:
    """Raise OutOfMemoryError for an error of a full memory, which is no fault of a file."""
    shortage = explain_shortage(error)
    if shortage is not None:
        raise shortage from error


def explain_shortage(error: BaseException) -> OutOfMemoryError | None:
    """What is needed and what is free, and what helps; None for an error of another kind."""
    text = str(error)
    told = isinstance(error, OSError | RuntimeError) and _FULL.search(text)
    if not told and not isinstance(error, MemoryError):
        return None
    place, free, hint = _describe_place(text)
    figures = [] if free is None else [f"{free / 1e9:,.2f} GB are free"]
    if needed := _NEEDED.search(text):
        n_bytes = float(needed[1]) * 1024 ** "bkmgt".index(needed[2].lower())
        figures.insert(0, f"{n_bytes / 1e9:,.2f} GB more are needed")
    return OutOfMemoryError(
        f"the memory of {place} is full" + (f": {', '.join(figures)}" if figures else ""),
        hint=f"{hint}; a Doc-to-LoRA network needs less with a smaller --chunk-tokens",
    )


def _describe_place(text: str) -> tuple[str, int | None, str]:
    """The device that an error tells of, its free bytes, and what helps."""
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
