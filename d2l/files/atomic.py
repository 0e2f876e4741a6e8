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

#: Others may take the place, or give it up, while it is being taken: how often to look again.
_TRIES = 8
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
Check = Callable[[], object]


def replace_anything() -> None:
    """Have no objection to what stands at a place: for places that are d2l's own."""


@contextlib.contextmanager
def building(folder: Path, check: Check = replace_anything) -> Iterator[Path]:
    """A hidden sibling folder to fill; becomes `folder` at the end, or is removed on any error.

    `check` raises unless what stands at `folder` may be replaced; it is asked when the new folder
    is whole, however long that took. Where nothing stands there, nothing is replaced that comes
    meanwhile. Old and new change places in one step; where the system cannot do that, the old one
    is moved aside first, and comes back (`recover`) if the process is killed there. Raises
    D2LError where the files cannot be written.
    """
    with naming(folder, D2LError), _making_parents(folder):
        recover(folder)
        with open_workshop(folder) as (new, old):
            yield new
            _share(new)
            sync(new)
            _take_place(new, old, folder, check)


def _take_place(made: Path, old: Path, place: Path, check: Check) -> None:
    """Put what was made at its place, whatever comes and goes there meanwhile; `old`: where to
    move what stands there, if the two cannot change places."""
    for tries_left in reversed(range(_TRIES)):
        interrupts.heed()
        stands = os.path.lexists(place)  # before the check: it passes what it has not seen
        check()
        try:
            if not stands:
                move_if_free(made, place)
            elif made.is_file():
                made.replace(place)
            elif not exchange(made, place):
                place.rename(old)
                move_if_free(made, place)
            break
        except (FileExistsError, FileNotFoundError):
            if not tries_left:
                raise
    interrupts.keep(place)
    sync_names(place.parent)


@contextlib.contextmanager
def _making_parents(folder: Path) -> Iterator[None]:
    """Make the folders above `folder`; on an error, remove those that were not there before."""
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
    """Turn what the system refuses (no permission, no room, no such place) into one line."""
    try:
        yield
    except FILE_ERRORS as error:
        reason = getattr(error, "strerror", None) or error
        raise error_type(
            f"{folder}: cannot be written ({reason})",
            hint="choose a place that has room and that you may write to",
        ) from error


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one behind it, says that a disk has no room or cannot be written."""
    while error is not None:
        number = getattr(error, "errno", None)
        if isinstance(error, SafetensorError | RuntimeError):  # which only tell the number
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
    is as for `building`.

    Raises D2LError where it cannot be written.
    """
    with naming(path, D2LError), _making_parents(path):
        replace_file(path, write, check)


def replace_file(
    path: Path, write: Callable[[Path], object], check: Check = replace_anything
) -> None:
    """Let `write` make a file in a hidden folder beside `path`, then rename it: never half a file
    at `path`."""
    recover(path)
    with open_workshop(path) as (new, old):
        made = new / path.name
        write(made)
        sync(made)
        _take_place(made, old, path, check)
