"""What of the known bases is on this machine: files, their unpacked copies, and what they cost."""

import difflib
import shutil
from pathlib import Path
from typing import Any

from d2l.bases import copy_checks
from d2l.bases.catalog import (
    BY_ALIAS,
    KNOWN,
    KnownBase,
    check_digest,
    find_file,
    find_known,
    locate,
)
from d2l.bases.gguf import unpacked_folder
from d2l.errors import BaseModelError
from d2l.files.cache import cache_dir, folder_size


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


def verify_bases() -> list[dict[str, Any]]:
    """Read the known bases' files and all unpacked copies whole: {"what", "path", "state"} each.

    The state is "sound", or what is wrong. A damaged copy is removed: it is made again when it is
    next needed.
    """
    rows = [_verify_file(known, path) for known in KNOWN if (path := locate(known)) is not None]
    folders = sorted(path.parent for path in (cache_dir() / "bases").glob(f"*/{copy_checks.FILE}"))
    return rows + [_verify_copy(folder) for folder in folders]


def _verify_file(known: KnownBase, path: Path) -> dict[str, Any]:
    state = "sound"
    try:
        check_digest(path, known, fresh=True)
    except BaseModelError as error:
        state = f"damaged: {error.hint}"
    return {"what": known.alias, "path": str(path), "state": state}


def _verify_copy(folder: Path) -> dict[str, Any]:
    damage = copy_checks.find_damage(folder, copy_checks.read_checks(folder), full=True)
    state = "sound"
    if damage is not None:
        state = f"damaged ({damage.file}: {damage.reason}), removed: it is made again when needed"
        shutil.rmtree(folder, ignore_errors=True)
    return {"what": "unpacked copy", "path": str(folder), "state": state}


def _describe(known: KnownBase) -> dict[str, Any]:
    file = find_file(known)
    return {
        "alias": known.alias,
        "name": known.name,
        "license": known.license,
        "sha256": known.sha256,
        "file_bytes": known.n_bytes,
        "path": None if file is None else str(file),
        "unpacked_bytes": 0 if file is None else folder_size(unpacked_folder(file)),
        "memory_bytes": 4 * known.n_parameters,
    }
