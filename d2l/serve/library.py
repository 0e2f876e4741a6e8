"""A folder of adapters → models by name; looked at anew at every call, so it may change meanwhile.

Reads configs alone, and each of them once for as long as it stays what it is.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from d2l.adapters.info import CONFIG, WEIGHTS, is_adapter, read_base_name
from d2l.errors import AdapterError

#: Modification times and sizes of an adapter's config and weights.
Stamp = tuple[int, ...]
Remark = Callable[[str], None]


@dataclass(frozen=True)
class Entry:
    """An adapter that is served; `stamp` changes when its files do, `created` is in seconds."""

    name: str
    folder: Path
    base: str
    stamp: Stamp

    @property
    def created(self) -> int:
        """When the weights were written, in seconds since 1970."""
        return self.stamp[2] // 1_000_000_000


class Library:
    """The adapters of a folder, or one adapter's own folder, all of one base.

    A model's name is its folder's without ".lora". What cannot be served is left out, and
    `remark` is told why, once.
    """

    def __init__(self, folder: Path, remark: Remark) -> None:
        self._folder = folder
        self._remark = remark
        self._known: dict[Path, Entry | None] = {}
        self._stamps: dict[Path, Stamp] = {}
        first = next((e for e in map(self._look, self._list_folders()) if e is not None), None)
        if first is None:
            raise AdapterError(
                f"{folder}: no adapter here that says its base",
                hint="make one with `d2l compile DOCUMENT -o FOLDER/NAME.lora`",
            )
        self.first = first
        self.base = first.base

    def list_entries(self) -> dict[str, Entry]:
        """All adapters that can be served now, by name, sorted."""
        found: dict[str, Entry] = {}
        for folder in self._list_folders():
            entry = self._look(folder)
            if entry is None:
                continue
            if entry.base != self.base:
                self._leave_out(entry, f"is for {entry.base}, not for {self.base}")
            elif entry.name == self.base or entry.name in found:
                self._leave_out(entry, f"the name {entry.name} is taken")
            else:
                found[entry.name] = entry
        return found

    def find(self, name: str) -> Entry | None:
        """The adapter of a name, which may also be its folder's whole one."""
        entries = self.list_entries()
        return entries.get(name) or entries.get(name.removesuffix(".lora"))

    def _list_folders(self) -> list[Path]:
        if is_adapter(self._folder):
            return [self._folder]
        try:
            with os.scandir(self._folder) as entries:
                names = [entry.name for entry in entries if entry.is_dir()]
        except OSError as error:
            raise AdapterError(
                f"{self._folder}: cannot be listed ({error.strerror})",
                hint="name a folder of adapters, or one adapter",
            ) from error
        # Folders with a dot in front are being written.
        return [self._folder / name for name in sorted(names) if not name.startswith(".")]

    def _look(self, folder: Path) -> Entry | None:
        """A folder as it is now; None where it is no adapter."""
        stamp = _read_stamp(folder)
        if stamp is None:
            return None
        if self._stamps.get(folder) != stamp:
            self._stamps[folder] = stamp
            self._known[folder] = self._read(folder, stamp)
        return self._known[folder]

    def _read(self, folder: Path, stamp: Stamp) -> Entry | None:
        try:
            base = read_base_name(folder)
        except AdapterError as error:
            self._remark(f"{folder}: left out ({error.message.removeprefix(f'{folder}{os.sep}')})")
            return None
        name = folder.resolve().name.removesuffix(".lora") or folder.name
        return Entry(name, folder, base, stamp)

    def _leave_out(self, entry: Entry, why: str) -> None:
        if self._known.get(entry.folder) is not None:
            self._known[entry.folder] = None
            self._remark(f"{entry.folder}: left out ({why})")


def _read_stamp(folder: Path) -> Stamp | None:
    try:
        stats = [(folder / name).stat() for name in (CONFIG, WEIGHTS)]
    except OSError:
        return None
    return tuple(value for stat in stats for value in (stat.st_mtime_ns, stat.st_size))
