"""Protection of existing files: only `--force` replaces them, and only those that d2l wrote."""

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

#: Gives the names (patterns) in a folder of d2l's own; None for other folders.
FindNames = Callable[[Path], Collection[str] | None]
#: Files that operating systems put into folders.
_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")
_SHOWN = 3


def refuse_existing(
    path: Path,
    *,
    force: bool,
    own_names: FindNames,
    error: type[D2LError],
    is_kind: Callable[[Path], bool] = Path.is_dir,
) -> None:
    """Raise unless `path` is free and can be made, or `force` is set and d2l wrote all that is
    there.

    `own_names` gives the names that d2l writes into such a folder; None if d2l did not write it.
    `is_kind` is `Path.is_file` if `path` is to be a single file. A replacement that a killed
    process left half done is undone first.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise error(
            f"{path}: the name is not UTF-8", hint="choose another -o: no engine could load this"
        ) from None
    with naming(path, error):
        if not os.path.lexists(path):
            recover(path)
        if not path.exists() and not path.is_symlink():
            _check_parent(path.absolute().parent)
            return
    names = None if path.is_symlink() or not is_kind(path) else own_names(path)
    if names is None:
        raise error(
            f"{path} exists and was not written by d2l",
            hint="choose another -o: d2l replaces only its own files",
        )
    foreign = list_foreign(path, names) if path.is_dir() else []
    if foreign:
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        raise error(
            f"{path} holds files that d2l did not write: {', '.join(foreign[:_SHOWN])}{more}",
            hint="choose another -o, or move them away: d2l replaces only its own files",
        )
    if not force:
        raise error(
            f"{path} exists already",
            hint="choose another -o, or replace it: --force (in Python force=True)",
        )


def refuse_full(path: Path, n_bytes: int, error: type[D2LError]) -> None:
    """Raise if the disk of `path` has less free space than this."""
    with naming(path, error):
        free = shutil.disk_usage(_find_parent(path.absolute())).free
        if n_bytes > free:
            needs = f"needs {n_bytes / 1e6:,.1f} MB, and the disk has {free / 1e6:,.1f} MB free"
            raise OSError(errno.ENOSPC, needs)


def list_foreign(folder: Path, names: Collection[str]) -> list[str]:
    """List the content of a folder beside these names, sorted; folders end with a slash."""
    patterns = (*names, *_LITTER)
    foreign = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if re.fullmatch(HIDDEN, entry.name):  # left by a killed process
                continue
            name = entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
            if not any(fnmatchcase(name, pattern) for pattern in patterns):
                foreign.append("".join(c if c.isprintable() else "\ufffd" for c in name))
    return sorted(foreign)


def _check_parent(parent: Path) -> None:
    """Raise OSError unless a folder can be made in `parent`, which may not exist itself yet."""
    parent = _find_parent(parent)
    if not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        is_read_only = hasattr(os, "statvfs") and os.statvfs(parent).f_flag & os.ST_RDONLY
        number = errno.EROFS if is_read_only else errno.EACCES
        raise OSError(number, os.strerror(number))


def _find_parent(path: Path) -> Path:
    """Find the nearest folder above that exists, or the path itself."""
    while not path.exists():
        path = path.parent
    return path
