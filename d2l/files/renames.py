"""Renames in one step: paths that are exchanged, or taken only if free; and syncing to the disk.

These are the system's own calls. Where the system or the file system lacks them, the nearest
substitute runs.
"""

import ctypes
import errno
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

Way = Literal["exchange", "if free"]
#: linux/fs.h: RENAME_EXCHANGE, RENAME_NOREPLACE. macOS, sys/stdio.h: RENAME_SWAP, RENAME_EXCL.
_FLAGS: Final[dict[str, dict[Way, int]]] = {
    "linux": {"exchange": 2, "if free": 1},
    "darwin": {"exchange": 2, "if free": 4},
}
_WORKING_FOLDER = -100  # AT_FDCWD: relative paths are as everywhere else
#: The system, the file system or a sandbox around the process does not know the call.
_UNKNOWN = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}
#: The file system cannot sync this kind of file; the disk has no fault.
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}


def exchange(first: Path, second: Path) -> bool:
    """Exchange two paths in one step. Returns false, and does nothing, if the system cannot.

    Raises OSError if a path is missing, or the system refuses.
    """
    return _rename(first, second, "exchange")


def move_if_free(source: Path, target: Path) -> None:
    """Rename `source` to `target`; raises FileExistsError if `target` exists.

    Where the system cannot do both in one step, a file is linked, which fails if `target` exists,
    and a folder is renamed after a check: the system replaces only empty folders.
    """
    if _rename(source, target, "if free"):
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    if source.is_dir():
        source.rename(target)
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        source.rename(target)
    else:
        source.unlink()


def sync(path: Path) -> None:
    """Sync a file, or a folder with all its content, to the disk."""
    if sys.platform == "win32":  # opens no folders, and syncs only files open for writing
        return
    if path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            if not inner.is_symlink():
                sync(inner)
    sync_names(path)


def sync_names(folder: Path) -> None:
    """Sync the names in a folder, or a single file, to the disk."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(handle)


def _rename(source: Path, target: Path, way: Way) -> bool:
    """Make one call of the system; false if the system has no such call. Raises OSError."""
    call = _find_call()
    if call is None:
        return False
    paths = os.fsencode(source), os.fsencode(target)
    if sys.platform == "linux":
        flag = _FLAGS["linux"][way]
        failed = call(_WORKING_FOLDER, paths[0], _WORKING_FOLDER, paths[1], flag)
    else:
        failed = call(*paths, _FLAGS["darwin"][way])
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


@cache
def _find_call() -> Any:
    """Find renameat2 of Linux or renamex_np of macOS; None if the C library has neither."""
    name = {"linux": "renameat2", "darwin": "renamex_np"}.get(sys.platform)
    try:
        call = None if name is None else getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    if call is not None and sys.platform == "linux":
        path, number = ctypes.c_char_p, ctypes.c_int
        call.argtypes = (number, path, number, path, ctypes.c_uint)
    elif call is not None:
        call.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint)
    return call
