"""Folders that appear whole or not at all.

Shared by everything that writes a folder: adapters, converted checkpoints, cached bases.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from d2l.errors import D2LError


@contextlib.contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A hidden sibling folder to fill; becomes `folder` at the end, or is removed on any error.

    What stands at `folder` then is replaced: callers decide with `refuse_existing` first. The old
    folder is moved aside before the new one takes its name, so no reader sees a mixture.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    aside = temporary.with_name(temporary.name + ".old")
    try:
        yield temporary
        _share(temporary)
        if folder.exists():
            folder.rename(aside)
        try:
            temporary.rename(folder)
        except OSError:
            if aside.exists():
                aside.rename(folder)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def _share(folder: Path) -> None:
    """Give the ordinary permissions of new files: mkdtemp and safetensors make private ones."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)
    for path in folder.iterdir():
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def refuse_existing(
    folder: Path, *, force: bool, is_ours: Callable[[Path], bool], error: type[D2LError]
) -> None:
    """Raise unless `folder` is free, or `force` is set and it is a folder of our own kind."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not force:
        raise error(f"{folder} exists already", hint="choose another -o, or replace it: --force")
    if folder.is_symlink() or not folder.is_dir() or not is_ours(folder):
        raise error(
            f"{folder} exists and was not written by d2l",
            hint="--force replaces only what d2l wrote; choose another -o",
        )
