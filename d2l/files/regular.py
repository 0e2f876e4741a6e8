"""Refuse pipes, devices and folders where a file is expected: reading a pipe may never end.

Raises the caller's type of D2LError; opens nothing.
"""

import os
from pathlib import Path

from d2l.errors import D2LError

#: Suffixes of files that are read in folders of models, networks and adapters.
_SUFFIXES = (
    ".json",
    ".safetensors",
    ".jinja",
    ".model",
    ".bin",
    ".pt",
    ".yaml",
    ".txt",
    ".tiktoken",
)
#: The only folder in them that is read.
_TEMPLATES = "additional_chat_templates"


def refuse_irregular(path: Path, error: type[D2LError]) -> None:
    """Raise unless a file, or every file of a folder that may be read, is a regular one."""
    try:
        files = [path] if not path.is_dir() else sorted(path.iterdir())
        if path.is_dir() and (path / _TEMPLATES).is_dir():
            files += sorted((path / _TEMPLATES).iterdir())
    except OSError:  # no permission: reading the file will say so
        return
    for file in files:
        is_read = file == path or file.name.endswith(_SUFFIXES)
        if is_read and os.path.lexists(file) and not file.is_file():
            raise error(
                f"{file}: is no regular file",
                hint="put the file itself there: no pipe, device or folder, and no broken link",
            )
