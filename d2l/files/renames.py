"""Renames in one step: places that are exchanged, or taken only if free; and what makes them last.

The system's own calls, with what comes nearest where the system or the file system has none.
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
#: The call is unknown, to the system, to the file system, or to a sandbox around the process.
_UNKNOWN = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}
#: The file system keeps no promises about this kind of file; it is no fault of the disk.
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}


def exchange(first: Path, second: Path) -> bool:
    """Let two paths change places in one step; false, and nothing done, where that is unknown.

    Raises OSError where one of them is missing, or the system refuses.
    """
    return _rename(first, second, "exchange")


def move_if_free(source: Path, target: Path) -> None:
    """Rename `source` to `target`; raises FileExistsError where something stands there.

    Where the system cannot do both in one step, a file is linked, which is refused where there is
    one, and a folder is looked for first: the system itself takes no folder that holds something.
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
    """Have a file, or a folder with all that is in it, on the disk before this returns."""
    if sys.platform == "win32":  # opens no folders, and syncs only what is open for writing
        return
    if path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            if not inner.is_symlink():
                sync(inner)
    sync_names(path)


def sync_names(folder: Path) -> None:
    """Have the names in a folder (or a single file) on the disk before this returns."""
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
    """One call of the system; false where it is not known here. Raises OSError."""
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
    """renameat2 of Linux or renamex_np of macOS; None where the C library has neither."""
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
