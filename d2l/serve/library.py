"""Folders of adapters → models by name. Folders are read at every call, so they may change.

Configs are read once for every state of their files. Not for several threads at once.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from d2l.adapters.exported_parts import name_manual
from d2l.adapters.info import CONFIG, WEIGHTS, is_adapter, read_base_name
from d2l.errors import AdapterError

#: Of an adapter's folder and of all in it: name, device, inode, size, times of change and of
#: modification (ns). Programs can set the time of modification, but not the time of change.
Stamp = tuple[tuple[str, int, int, int, int, int], ...]
Remark = Callable[[str], None]


@dataclass(frozen=True)
class ServedAdapter:
    """Served adapter; `stamp`: of its files, `created`: seconds since 1970."""

    name: str
    folder: Path
    base: str
    created: int
    stamp: Stamp


class Library:
    """Adapters of folders, or adapters' own folders, all of one base; AdapterError without any.

    A model's name is its folder's without ".lora". Adapters that cannot be served are left out;
    `remark` gets the reason once.
    """

    def __init__(self, *folders: Path, remark: Remark) -> None:
        self._folders = folders
        self._remark = remark
        self._known: dict[Path, ServedAdapter] = {}
        self._faults: dict[Path, str] = {}
        self.base = ""  # that of the first adapter
        entries = self.list_entries()
        served = {path for e in entries.values() for path in (e.folder, e.folder.parent)}
        if missing := [folder for folder in folders if folder not in served]:
            raise AdapterError(
                f"{missing[0]}: no adapter here that says its base",
                hint="make one with `d2l compile DOCUMENT -o FOLDER/NAME.lora`",
            )
        self.first = next(iter(entries.values()))

    def list_entries(self) -> dict[str, ServedAdapter]:
        """List the adapters that can be served now, by name, sorted by folder."""
        known: dict[Path, ServedAdapter] = {}
        entries: dict[str, ServedAdapter] = {}
        faults: dict[Path, str] = {}
        for folder in dict.fromkeys(path for own in self._folders for path in _list_folders(own)):
            try:
                entry = known[folder] = self._read(folder)
            except AdapterError as error:
                faults[folder] = error.message.removeprefix(f"{folder}{os.sep}")
                continue
            except OSError:  # no adapter, or it is gone
                continue
            self.base = self.base or entry.base
            if entry.base != self.base:
                faults[folder] = f"is for {entry.base}, not for {self.base}"
            elif entry.name == self.base or entry.name in entries:
                faults[folder] = f"the name {entry.name} is taken"
            else:
                entries[entry.name] = entry
        for folder, fault in faults.items():
            if self._faults.get(folder) != fault:
                self._remark(f"{folder}: left out ({fault})")
        self._known, self._faults = known, faults
        return entries

    def find(self, name: str) -> ServedAdapter | None:
        """Find an adapter by its name or its folder's full name."""
        entries = self.list_entries()
        return entries.get(name) or entries.get(name.removesuffix(".lora"))

    def _read(self, folder: Path) -> ServedAdapter:
        (folder / CONFIG).stat()
        created = int((folder / WEIGHTS).stat().st_mtime)
        stamp = read_stamp(folder)
        known = self._known.get(folder)
        if known is not None and known.stamp == stamp:
            return known
        return ServedAdapter(name_manual(folder), folder, read_base_name(folder), created, stamp)


def _list_folders(folder: Path) -> list[Path]:
    """List the folders that may be adapters: `folder` itself, or those in it."""
    if is_adapter(folder):
        return [folder]
    try:
        names = [path.name for path in folder.iterdir() if os.path.isdir(path)]
    except OSError as error:
        raise AdapterError(
            f"{folder}: cannot be listed ({error.strerror})",
            hint="name a folder of adapters, or one adapter",
        ) from error
    # Folders with a dot in front are not finished.
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def read_stamp(folder: Path) -> Stamp:
    """Read the stamp of a folder and of all in it; empty if it is gone. A move changes the folder's
    time of change, so a folder that was moved away and back has another stamp."""
    try:
        paths = [folder, *folder.iterdir()]
    except OSError:
        return ()
    return tuple(sorted(row for path in paths for row in _stamp(path)))


def _stamp(path: Path) -> Iterator[tuple[str, int, int, int, int, int]]:
    """Read the stamp of a file or a folder; of a link also its target's stamp."""
    for follow in (False, True):
        with contextlib.suppress(OSError):
            s = path.stat(follow_symlinks=follow)
            yield path.name, s.st_dev, s.st_ino, s.st_size, s.st_ctime_ns, s.st_mtime_ns
