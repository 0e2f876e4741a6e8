"""List the adapters of a folder as values, without their weights and without torch."""

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
    """An adapter of a folder; if it cannot be read, `error` says why, and the rest is empty.

    `seats` is None for networks without seats. `inputs_date` is the day, as 2026-01-31, of the last
    change of any input file, if all of them are still there and unchanged. `written` is the time of
    the last change of its weights' file, in seconds since 1970. An adapter itself holds no time, so
    that equal inputs give equal bytes.
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
    """List the adapters in a folder, by name, or the folder if it is an adapter itself. Raises
    AdapterError."""
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
    """Describe an adapter, or its damage, so that the others are still listed."""
    name = folder.name or folder.resolve().name
    try:
        info = read_info(folder)
        base, provenance = info.config.get("base_model_name_or_path"), info.provenance
        opening = provenance.prompt.opening if provenance is not None else None
        return Entry(
            name,
            base=base if isinstance(base, str) else None,
            inputs=tuple(entry.name for entry in provenance.inputs)
            if provenance is not None
            else (),
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
    """Yield the time of each input's last change; None for a missing or changed input."""
    for entry in info.provenance.inputs if info.provenance is not None else ():
        paths = filter(None, (find_path(entry.sha256), Path(entry.name)))
        yield next((when for path in paths if (when := _date_same(path, entry))), None)


def _date_same(path: Path, entry: Input) -> float | None:
    """Return the time of a file's last change if it is the input: same size, same bytes."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != entry.size_bytes:
            return None  # not opened: it may be a pipe, which never ends
        return facts.st_mtime if file_digest(path) == entry.sha256 else None
    except (OSError, ValueError):  # no such file, or an invalid name
        return None
