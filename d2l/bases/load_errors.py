"""Silence transformers while it loads, and list its errors on damaged files."""

import contextlib
import logging
import textwrap
import warnings
from collections.abc import Iterator

from huggingface_hub.errors import StrictDataclassError
from transformers.utils import logging as transformers_logging

from d2l.files.tensors import FILE_ERRORS
from d2l.memory import refuse_shortage

#: Errors that transformers raises on damaged or senseless files.
LOAD_ERRORS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    StrictDataclassError,
    *FILE_ERRORS,
)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Print no progress bars and load reports: callers read the loading info instead."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        # Deprecations between transformers and PEFT concern their authors, not our users.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def panics_as_errors() -> Iterator[None]:
    """Turn a Rust panic of tokenizers (a BaseException) into a RuntimeError."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError(f"tokenizers gave up: {error}") from error


def explain(error: Exception) -> str:
    """Write an error of a library as one line, for a hint; raises OutOfMemoryError for an error of
    a full memory, for which no file is to blame."""
    refuse_shortage(error)
    return textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" …")
