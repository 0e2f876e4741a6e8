"""Folders and files that appear whole or not at all, and stay there through a power cut.

Shared by everything that writes a folder: adapters, converted checkpoints, cached bases.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError

from d2l import interrupts
from d2l.errors import D2LError
from d2l.files.leftovers import open_workshop, recover
from d2l.files.renames import exchange, move_if_free, sync, sync_names
from d2l.files.tensors import FILE_ERRORS

#: Attempts to move into place: other processes may create or remove the target meanwhile.
_TRIES = 8
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
Check = Callable[[], object]


def replace_anything() -> None:
    """Allow any replacement: the check for files of d2l's own."""


@contextlib.contextmanager
def building(folder: Path, check: Check = replace_anything) -> Iterator[Path]:
    """Yield a hidden sibling folder to fill: it becomes `folder` at the end; an error removes it.

    `check` raises unless `folder` may be replaced; it runs when the new folder is complete, however
    long that took. If there was no `folder`, one that appears meanwhile is not replaced. The old
    and the new folder are exchanged in one step; where the system cannot do that, the old one is
    moved aside first, and `recover` brings it back if the process is killed there. Raises
    D2LError where the files cannot be written.
    """
    with naming(folder, D2LError), _making_parents(folder):
        recover(folder)
        with open_workshop(folder) as (new, old):
            yield new
            _share(new)
            sync(new)
            _move_into_place(new, old, folder, check)


def _move_into_place(new: Path, old: Path, target: Path, check: Check) -> None:
    """Move `new` to `target`, whatever appears or vanishes there meanwhile; the present target is
    moved to `old` if the two cannot be exchanged."""
    for tries_left in reversed(range(_TRIES)):
        interrupts.check()
        exists = os.path.lexists(target)  # before the check, which cannot judge later arrivals
        check()
        try:
            if not exists:
                move_if_free(new, target)
            elif new.is_file():
                new.replace(target)
            elif not exchange(new, target):
                target.rename(old)
                move_if_free(new, target)
            break
        except (FileExistsError, FileNotFoundError):
            if not tries_left:
                raise
    interrupts.record_written(target)
    sync_names(target.parent)


@contextlib.contextmanager
def _making_parents(folder: Path) -> Iterator[None]:
    """Make the folders above `folder`; on an error, remove the new ones."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        if not folder.exists():
            for parent in missing:
                with contextlib.suppress(OSError):  # never made, or no longer empty
                    parent.rmdir()


@contextlib.contextmanager
def naming(folder: Path, error_type: type[D2LError]) -> Iterator[None]:
    """Turn errors of the system (no permission, no space, no such folder) into one line."""
    try:
        yield
    except FILE_ERRORS as error:
        reason = getattr(error, "strerror", None) or error
        raise error_type(
            f"{folder}: cannot be written ({reason})",
            hint="choose a folder with free space that you may write to",
        ) from error


def is_disk_full(error: BaseException | None) -> bool:
    """True if an error, or a cause of it, says that a disk is full or read-only."""
    while error is not None:
        number = getattr(error, "errno", None)
        if isinstance(error, SafetensorError | RuntimeError):  # the number is only in their text
            number = next((n for n in _FULL if f"(os error {n})" in str(error)), None)
        if number in _FULL:
            return True
        error = error.__cause__
    return False


def _share(folder: Path) -> None:
    """Give the ordinary permissions of new files: mkdtemp and safetensors make private ones."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)
    for path in folder.iterdir():
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def write_file(
    path: Path, write: Callable[[Path], object], check: Check = replace_anything
) -> None:
    """Let `write` make the file at `path`, whole or not at all, with the folders above it; `check`
    is that of `building`. Raises D2LError where the file cannot be written."""
    with naming(path, D2LError), _making_parents(path):
        replace_file(path, write, check)


def replace_file(
    path: Path, write: Callable[[Path], object], check: Check = replace_anything
) -> None:
    """Let `write` make a file in a hidden folder beside `path`, then rename it to `path`: nobody
    sees half a file."""
    recover(path)
    with open_workshop(path) as (folder, old):
        new = folder / path.name
        write(new)
        sync(new)
        _move_into_place(new, old, path, check)
