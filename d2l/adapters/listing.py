"""List the adapters of a folder as values, without their weights and without torch."""

from pathlib import Path
from typing import NamedTuple

from d2l.adapters.info import WEIGHTS, is_adapter, read_info
from d2l.errors import AdapterError


class Entry(NamedTuple):
    """An adapter of a folder; if it cannot be read, `error` says why, and the rest is empty.

    `seats` is None for networks without seats. `written` is the time of the last change of its
    weights' file, in seconds since 1970. An adapter itself holds no time, so that equal inputs give
    equal bytes.
    """

    name: str
    base: str | None = None
    inputs: tuple[str, ...] = ()
    rank: int | None = None
    seats: int | None = None
    parts: int = 0
    size_bytes: int | None = None
    written: float | None = None
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
        )
    except AdapterError as error:
        return Entry(name, error=error.message)
