"""A folder → the adapters in it, in values: read without their weights and without torch."""

import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from d2l.adapters.info import WEIGHTS, AdapterInfo, is_adapter, read_info
from d2l.adapters.provenance import Input
from d2l.errors import AdapterError
from d2l.files.cache import file_digest
from d2l.files.paths import find_path


class Entry(NamedTuple):
    """An adapter of a folder. `error` says why one cannot be read, and then all else is empty.

    `seats` is None for networks that have none. `inputs_date` is the day, as 2026-01-31, on which
    the newest of the input files was changed last, where all of them still lie as they were read:
    nothing in an adapter tells the time, so that equal inputs give equal bytes. `written` is when
    its weights' file was changed last, in seconds since 1970.
    """

    name: str
    base: str | None = None
    inputs: tuple[str, ...] = ()
    rank: int | None = None
    seats: int | None = None
    parts: int = 0  # of which questions choose
    size_bytes: int | None = None
    written: float | None = None
    inputs_date: str | None = None
    error: str | None = None


def list_adapters(folder: Path) -> list[Entry]:
    """The adapters in a folder, by name; the folder alone if it is one. Raises AdapterError."""
    if not folder.is_dir():
        raise AdapterError(f"{folder}: no such folder", hint="name a folder with adapters in it")
    if is_adapter(folder):
        return [_describe(folder)]
    try:
        return [_describe(path) for path in sorted(folder.iterdir()) if is_adapter(path)]
    except OSError as error:
        raise AdapterError(
            f"{folder}: cannot be read ({error.strerror})", hint="check its permissions"
        ) from error


def _describe(folder: Path) -> Entry:
    """One adapter; a damaged one with what is wrong, so that the others are still listed."""
    name = folder.name or folder.resolve().name
    try:
        info = read_info(folder)
        base, made = info.config.get("base_model_name_or_path"), info.provenance
        opening = made.prompt.opening if made is not None else None
        return Entry(
            name,
            base=base if isinstance(base, str) else None,
            inputs=tuple(entry.name for entry in made.inputs) if made is not None else (),
            rank=info.rank,
            seats=len(opening.seats) if opening is not None else None,
            parts=info.n_parts,
            size_bytes=info.size_bytes,
            written=(folder / WEIGHTS).stat().st_mtime,
            inputs_date=_date_inputs(info),
        )
    except AdapterError as error:
        return Entry(name, error=error.message)


def _date_inputs(info: AdapterInfo) -> str | None:
    times = list(_find_times(info))
    if not times or None in times:
        return None
    newest = max(when for when in times if when is not None)
    return time.strftime("%Y-%m-%d", time.localtime(newest))


def _find_times(info: AdapterInfo) -> Iterator[float | None]:
    """When each input was changed last; None for one that is not there, or no longer the same."""
    for entry in info.provenance.inputs if info.provenance is not None else ():
        places = filter(None, (find_path(entry.sha256), Path(entry.name)))
        yield next((when for place in places if (when := _date_same(place, entry))), None)


def _date_same(place: Path, entry: Input) -> float | None:
    """When the file at a place was changed last, if it is the input: same size, same bytes."""
    try:
        found = place.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size_bytes:
            return None  # and is not opened: it may be a pipe, which never ends
        return found.st_mtime if file_digest(place) == entry.sha256 else None
    except (OSError, ValueError):  # not there, or a name that no file can have
        return None
