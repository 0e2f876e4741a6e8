"""What of the known bases is on this machine: files, their unpacked copies, and what they cost."""

import difflib
from pathlib import Path
from typing import Any

from d2l.bases.catalog import BY_ALIAS, KNOWN, KnownBase, find_file, find_known
from d2l.bases.gguf import unpacked_folder
from d2l.errors import BaseModelError


def describe_bases() -> list[dict[str, Any]]:
    """One row a known base. `memory_bytes`: of its weights in fp32, as they are used on a CPU."""
    return [_describe(known) for known in KNOWN]


def require_known(name: str) -> KnownBase:
    """A base by alias or hub name; raises BaseModelError with the nearest one."""
    known = find_known(name)
    if known is None:
        near = difflib.get_close_matches(name, BY_ALIAS, n=1, cutoff=0.4)
        raise BaseModelError(
            f"{name!r} is not a base that d2l knows",
            hint=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(BY_ALIAS)}",
        )
    return known


def _describe(known: KnownBase) -> dict[str, Any]:
    file = find_file(known)
    return {
        "alias": known.alias,
        "name": known.name,
        "license": known.license,
        "sha256": known.sha256,
        "file_bytes": known.n_bytes,
        "path": None if file is None else str(file),
        "unpacked_bytes": 0 if file is None else _size(unpacked_folder(file)),
        "memory_bytes": 4 * known.n_parameters,
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
