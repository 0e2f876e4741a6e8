"""Hidden siblings in which things are built, and what is done with those of dead processes.

`.NAME.PID.RANDOM.new` is what is being built for NAME, `….old` what stood at NAME until now, where
the two cannot change places in one step, and `….gone` what is being deleted. A process that lives
holds a lock on each, which the system forgets however the process ends.
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

#: Names of hidden siblings, of any path: a pattern, for what cleans a folder of its own.
HIDDEN = r"\..+\.\d+\.\w{8}\.(new|old|gone)"
_log = logging.getLogger(__name__)
_NAME_CHARS = 40  # names may have 255 bytes, and a character up to four
_GRACE_SECONDS = 60  # a folder is locked as soon as it is made: an older one without lock is dead


@contextlib.contextmanager
def open_workshop(path: Path) -> Iterator[tuple[Path, Path]]:
    """(`new`, `old`): a hidden folder beside `path` to build in, which is there and locked, and
    a place for what stands at `path`. Whatever is left of both at the end is removed.

    What stood at `path` and was moved to `old` comes back where nothing took its place.
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
    """Delete a hidden folder. It is called something else first: half of what once stood at a
    path must not be taken for what stood there."""
    gone = folder.with_suffix(".gone")
    with contextlib.suppress(OSError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def recover(path: Path) -> None:
    """Bring back what a killed process had moved aside from `path`, with a line in the log, and
    remove what it had half built. Does nothing where the folder cannot be read or written."""
    pattern = re.compile(rf"\.{re.escape(_shorten(path.name))}\.(\d+)\.\w{{8}}\.(new|old|gone)")
    try:
        found = [(p, pattern.fullmatch(p.name)) for p in sorted(path.parent.iterdir())]
    except OSError:
        return
    dead = [(p, m[2]) for p, m in found if m is not None and _is_dead(p, pid=int(m[1]))]
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
    """Hold the lock on a folder that says that its process lives."""
    handle = None if sys.platform == "win32" else os.open(folder, os.O_RDONLY)
    try:
        if handle is not None:
            take_lock(handle)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def take_lock(handle: int) -> bool | None:
    """Take a lock: true; false where another holds it, None where there are no locks."""
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
    """Whether the process that made a hidden folder is gone. Its number alone does not say: it may
    be another's by now, or have been given out in another container."""
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
    """Whether there is a process of this number."""
    if sys.platform == "win32":  # where asking would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _shorten(name: str) -> str:
    """A name that leaves room for more behind it; two names never get the same one."""
    if len(name) <= _NAME_CHARS:
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f"{name[: _NAME_CHARS - 9]}~{digest[:8]}"
