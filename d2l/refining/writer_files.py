"""Where the question writers that are shipped lie: a folder for each base, by its alias."""

from pathlib import Path

_FOLDER = Path(__file__).parent / "weights"


def find_writer(alias: str) -> Path | None:
    """The folder of a base's writer; None where none is shipped."""
    folder = _FOLDER / alias
    return folder if (folder / "adapter_config.json").is_file() else None
