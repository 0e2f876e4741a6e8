"""Prompts in the package; they concern no document."""

from pathlib import Path

_FILE = Path(__file__).with_name("general_prompts.txt")


def read_prompts() -> list[str]:
    """Read the prompts, one a line."""
    lines = _FILE.read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
