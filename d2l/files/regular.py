"""What stands in a file's place and is none: pipes and devices, which may never end, and folders.

A path in, D2LError of the caller's type out; opens nothing.
"""

import os
from pathlib import Path

from d2l.errors import D2LError

#: What is read of folders of models, networks and adapters.
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
#: The one folder in them that is read, too.
_TEMPLATES = "additional_chat_templates"


def refuse_irregular(place: Path, error: type[D2LError]) -> None:
    """Raise unless a file is a regular one, or a folder's own files that may be read all are."""
    try:
        found = [place] if not place.is_dir() else sorted(place.iterdir())
        if place.is_dir() and (place / _TEMPLATES).is_dir():
            found += sorted((place / _TEMPLATES).iterdir())
    except OSError:  # no permission, which whoever reads it says
        return
    for path in found:
        is_meant = path == place or path.name.endswith(_SUFFIXES)
        if is_meant and os.path.lexists(path) and not path.is_file():
            raise error(
                f"{path}: is no regular file",
                hint="put the file itself there: no pipe, device or folder, and no broken link",
            )
