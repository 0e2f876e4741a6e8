"""The general prompts that are shipped: one list for training, another for measuring harm.

They have nothing to do with any document. No prompt of the second list is trained on.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent


def read_prompts() -> list[str]:
    """The prompts that are shipped for training, one a line."""
    return _read_lines("general_prompts.txt")


def read_harm_prompts() -> list[str]:
    """The prompts that are shipped for measuring, one a line."""
    return _read_lines("harm_prompts.txt")


def _read_lines(name: str) -> list[str]:
    lines = (_FOLDER / name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
