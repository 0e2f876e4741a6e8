"""Errors that a user can fix: one line that says what is wrong, one that says what to do."""


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
    """An option has an invalid value, or no meaning here."""


class KeywordError(OptionError, TypeError):
    """A function of the Python interface has no such keyword."""


class OutOfMemoryError(D2LError):
    """The memory of a GPU or of this machine is full."""


class MissingExtraError(D2LError):
    """A library that only some commands need is not installed."""


class ShapeError(D2LError):
    """Weights or memories are not well formed, or do not fit together. Files that hold such weights
    raise AdapterError or CheckpointError instead."""


class MergeError(D2LError):
    """Weights cannot be merged as asked."""


class AdapterError(D2LError):
    """An adapter folder cannot be read or written."""


class RecipeError(D2LError):
    """A training recipe, its data or the state of a run cannot be used."""


class ProbeError(D2LError):
    """Questions for probing cannot be used, or a figure was not reached."""


class TaskError(D2LError):
    """A file of tasks, or a measurement with it, cannot be used."""
