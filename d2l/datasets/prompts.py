"""Texts in the package: prompts to train on, and prompts that measure harm.

The prompts concern no document. No harm prompt is trained on.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent


def read_prompts() -> list[str]:
    """Read the package's prompts for training, one a line."""
    return _read_lines("general_prompts.txt")


def read_harm_prompts() -> list[str]:
    """Read the package's prompts for measuring harm, one a line."""
    return _read_lines("harm_prompts.txt")


def _read_lines(name: str) -> list[str]:
    lines = (_FOLDER / name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
