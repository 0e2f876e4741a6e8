"""What a write may replace: nothing without `--force`, and with it only what d2l wrote."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from pathlib import Path

from d2l.errors import D2LError
from d2l.files.atomic import naming
from d2l.files.leftovers import HIDDEN, recover

#: The names (patterns) that a folder of d2l's own kind holds; None for one that is not d2l's.
FindNames = Callable[[Path], Collection[str] | None]
#: Files that systems put into folders by themselves.
_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")
_SHOWN = 3


def refuse_existing(
    place: Path,
    *,
    force: bool,
    own_names: FindNames,
    error: type[D2LError],
    is_kind: Callable[[Path], bool] = Path.is_dir,
) -> None:
    """Raise unless `place` is free and can be made, or `force` is set and all there is d2l's own.

    `own_names` gives the names that d2l writes into such a folder, None where it wrote none of it.
    `is_kind` is `Path.is_file` where a single file is to be written. What a killed process left
    half replaced is put back first.
    """
    try:
        str(place).encode()
    except UnicodeEncodeError:
        raise error(
            f"{place}: the name is not UTF-8", hint="choose another -o: no engine could load this"
        ) from None
    with naming(place, error):
        if not os.path.lexists(place):
            recover(place)
        if not place.exists() and not place.is_symlink():
            _check_place(place.absolute().parent)
            return
    names = None if place.is_symlink() or not is_kind(place) else own_names(place)
    if names is None:
        raise error(
            f"{place} exists and was not written by d2l",
            hint="choose another -o: d2l replaces only what it wrote",
        )
    foreign = list_foreign(place, names) if place.is_dir() else []
    if foreign:
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        raise error(
            f"{place} holds what d2l did not write: {', '.join(foreign[:_SHOWN])}{more}",
            hint="choose another -o, or move that away: d2l replaces only what it wrote",
        )
    if not force:
        raise error(f"{place} exists already", hint="choose another -o, or replace it: --force")


def refuse_full(place: Path, n_bytes: int, error: type[D2LError]) -> None:
    """Raise where the disk of `place`, which can be made, has less room than this."""
    with naming(place, error):
        free = shutil.disk_usage(_find_parent(place.absolute())).free
        if n_bytes > free:
            needs = f"needs {n_bytes / 1e6:,.1f} MB, and the disk has {free / 1e6:,.1f} MB free"
            raise OSError(errno.ENOSPC, needs)


def list_foreign(folder: Path, names: Collection[str]) -> list[str]:
    """What is in a folder beside these names, sorted; names of folders have a slash behind."""
    patterns = (*names, *_LITTER)
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if re.fullmatch(HIDDEN, entry.name):  # what a kill left of a file's writing
                continue
            name = entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
            if not any(fnmatchcase(name, pattern) for pattern in patterns):
                found.append("".join(c if c.isprintable() else "\ufffd" for c in name))
    return sorted(found)


def _check_place(parent: Path) -> None:
    """Raise OSError unless a folder can be made in `parent`, which may not exist itself yet."""
    parent = _find_parent(parent)
    if not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        is_read_only = hasattr(os, "statvfs") and os.statvfs(parent).f_flag & os.ST_RDONLY
        number = errno.EROFS if is_read_only else errno.EACCES
        raise OSError(number, os.strerror(number))


def _find_parent(place: Path) -> Path:
    """The nearest folder above that exists, or the place itself."""
    while not place.exists():
        place = place.parent
    return place
