"""Changes of an adapter's files while it is served: copies of others over it, and damage."""

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

SAME_TIME = 1_700_000_000  # of all files, in seconds since 1970
COPY_S = (0.0, 2.0)  # between two files of a slow copy


def copy_over(source: Path, folder: Path) -> None:
    """Write an adapter's files over those of another, one after the other."""
    for path in source.iterdir():
        shutil.copyfile(path, folder / path.name)
        os.utime(folder / path.name, (SAME_TIME, SAME_TIME))
    for path in folder.iterdir():
        if not (source / path.name).exists():
            path.unlink()


def cut_weights(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    os.truncate(path, path.stat().st_size // 2)


def copy_slowly(
    source: Path, folder: Path, chance: random.Random, *, renames: bool, n_files: int = 99
) -> None:
    """Write an adapter's files over those of another in the order of names, with pauses: each over
    the old file, as `cp -r` does, or beside it and renamed, as `rsync` does."""
    for path in sorted(source.iterdir())[:n_files]:
        target = folder / path.name
        shutil.copyfile(path, folder / f".{path.name}.new" if renames else target)
        if renames:
            (folder / f".{path.name}.new").replace(target)
        time.sleep(chance.uniform(*COPY_S))


#: What makes an adapter one that must not answer.
DAMAGES: tuple[Callable[[Path], object], ...] = (
    cut_weights,
    lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 999),
    lambda folder: (folder / "adapter_model.safetensors").unlink(),
    lambda folder: (folder / "adapter_config.json").write_text("{"),
    lambda folder: (folder / "adapter_config.json").unlink(),
    lambda folder: (folder / "chat_template.jinja").write_text("{{ 1 / 0 }}"),
)
