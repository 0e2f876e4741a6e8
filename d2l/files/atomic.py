"""Folders and files that appear whole or not at all.

Shared by everything that writes a folder: adapters, converted checkpoints, cached bases.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError

from d2l.errors import D2LError


@contextlib.contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A hidden sibling folder to fill; becomes `folder` at the end, or is removed on any error.

    What stands at `folder` then is replaced: callers decide with `refuse_existing` first. The old
    folder is moved aside before the new one takes its name, so no reader sees a mixture. Raises
    D2LError where the files cannot be written.
    """
    with naming(folder, D2LError), _making_parents(folder):
        # Names may have 255 bytes, and a character up to four.
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}.", dir=folder.parent))
        aside = temporary.with_name(temporary.name + ".old")
        try:
            yield temporary
            _share(temporary)
            if folder.exists():
                folder.rename(aside)
            temporary.rename(folder)
        finally:
            if aside.exists() and not folder.exists():  # failed or interrupted between the two
                aside.rename(folder)
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(aside, ignore_errors=True)


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
    except (OSError, SafetensorError) as error:  # safetensors hides a full disk in its own
        reason = getattr(error, "strerror", None) or error
        raise error_type(
            f"{folder}: cannot be written ({reason})",
            hint="choose a place that has room and that you may write to",
        ) from error


def _share(folder: Path) -> None:
    """Give the ordinary permissions of new files: mkdtemp and safetensors make private ones."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)
    for path in folder.iterdir():
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def refuse_existing(
    folder: Path,
    *,
    force: bool,
    is_ours: Callable[[Path], bool],
    error: type[D2LError],
    is_kind: Callable[[Path], bool] = Path.is_dir,
) -> None:
    """Raise unless `folder` is free and can be made, or `force` is set and it is our own kind.

    `is_kind` is `Path.is_file` where a single file is to be written.
    """
    with naming(folder, error):
        if not folder.exists() and not folder.is_symlink():
            _check_place(folder.absolute().parent)
            return
    if not force:
        raise error(f"{folder} exists already", hint="choose another -o, or replace it: --force")
    if folder.is_symlink() or not is_kind(folder) or not is_ours(folder):
        raise error(
            f"{folder} exists and was not written by d2l",
            hint="--force replaces only what d2l wrote; choose another -o",
        )


def _check_place(parent: Path) -> None:
    """Raise OSError unless a folder can be made in `parent`, which may not exist itself yet."""
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make the file at `path`, whole or not at all, with the folders above it.

    Raises D2LError where it cannot be written.
    """
    with naming(path, D2LError), _making_parents(path):
        replace_file(path, write)


#: What a kill in the middle of `replace_file` leaves beside a file: its name and this, a pattern.
LEFT_OVER = r"\.\d+"


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then rename it: never half a file at `path`."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
