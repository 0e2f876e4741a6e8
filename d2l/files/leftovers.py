"""Hidden siblings of a path: folders to build in, and cleaning up after dead processes.

`.NAME.PID.RANDOM.new` is built for NAME; `….old` stood at NAME until now, if the two cannot be
exchanged in one step; `….gone` is being deleted. A living process holds a lock on each, which the
system releases however the process ends.
"""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from d2l.files.renames import move_if_free

#: Pattern of the names of hidden siblings of any path.
HIDDEN = r"\..+\.\d+\.\w{8}\.(new|old|gone)"
_log = logging.getLogger(__name__)
_NAME_CHARS = 40  # names may have 255 bytes, and a character up to four
_GRACE_SECONDS = 60  # a folder is locked right after it is made: an older unlocked one is dead


@contextlib.contextmanager
def open_workshop(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (`new`, `old`): a locked hidden folder beside `path` to build in, and a free path to
    move the present file or folder to. Both are removed at the end.

    A file or folder that was moved to `old` comes back if there is nothing at `path` at the end.
    """
    prefix = f".{_shorten(path.name)}.{os.getpid()}."
    new = Path(tempfile.mkdtemp(prefix=prefix, suffix=".new", dir=path.parent))
    old = new.with_suffix(".old")
    with _holding(new):
        try:
            yield new, old
        finally:
            if os.path.lexists(old) and not os.path.lexists(path):
                old.rename(path)  # failed or interrupted between two renames
            remove(new)
            remove(old)


def remove(folder: Path) -> None:
    """Rename a hidden folder and delete it: `recover` must not take half a folder for the whole."""
    gone = folder.with_suffix(".gone")
    with contextlib.suppress(OSError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def recover(path: Path) -> None:
    """Move back the file or folder that a killed process moved aside from `path`, with a line in
    the log, and remove half-built ones. Does nothing if the folder cannot be read or written."""
    pattern = re.compile(rf"\.{re.escape(_shorten(path.name))}\.(\d+)\.\w{{8}}\.(new|old|gone)")
    try:
        matches = [(p, pattern.fullmatch(p.name)) for p in sorted(path.parent.iterdir())]
    except OSError:
        return
    dead = [(p, m[2]) for p, m in matches if m is not None and _is_dead(p, pid=int(m[1]))]
    for hidden, role in dead:
        if role == "old" and not os.path.lexists(path):
            with contextlib.suppress(OSError):  # another process was faster
                move_if_free(hidden, path)
                _log.warning(
                    "%s: was being replaced when the process was killed; the old one is back", path
                )
    for hidden, _ in dead:
        remove(hidden)


@contextlib.contextmanager
def _holding(folder: Path) -> Iterator[None]:
    """Hold the lock on a folder, a sign that its process lives."""
    handle = None if sys.platform == "win32" else os.open(folder, os.O_RDONLY)
    try:
        if handle is not None:
            take_lock(handle)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def take_lock(handle: int) -> bool | None:
    """Take a lock: true if taken, false if another process holds it, None if there are no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_dead(hidden: Path, *, pid: int) -> bool:
    """True if the process that made a hidden folder has ended. Its number alone is no proof:
    another process may have it by now, or it may come from another container."""
    locked = None
    if sys.platform != "win32":
        try:
            handle = os.open(hidden, os.O_RDONLY)
        except OSError:
            return False
        try:
            locked = take_lock(handle)
        finally:
            os.close(handle)
    if locked is False:
        return False
    if not _is_running(pid):
        return True
    try:
        return locked is True and time.time() - hidden.stat().st_ctime > _GRACE_SECONDS
    except OSError:
        return False


def _is_running(pid: int) -> bool:
    """True if there is a process of this number."""
    if sys.platform == "win32":  # where os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _shorten(name: str) -> str:
    """Shorten a long name, so that a suffix fits; different names stay different."""
    if len(name) <= _NAME_CHARS:
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f"{name[: _NAME_CHARS - 9]}~{digest[:8]}"
