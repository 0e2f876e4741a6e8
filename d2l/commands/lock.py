"""`--locked`, and a compilation that has nothing to do: both without torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from d2l.adapters import info as names
from d2l.commands import console
from d2l.compiler.lock import Request, State, check
from d2l.errors import AdapterError


def check_lock(out: Path, request: Request, *, locked: bool) -> State | None:
    """Compare with the lock at `out`; None if there is no lock.

    With `locked` a missing lock and every difference raise AdapterError.
    """
    state = check(out, request)
    if not locked:
        return state
    if state is None:
        raise AdapterError(
            f"--locked: {out} has no {names.LOCK}",
            hint=f"compile once without --locked, and keep the folder or its {names.LOCK}",
        )
    state.refuse(out, "--locked")
    return state


def report_unchanged(out: Path, state: State) -> None:
    """Say that nothing has to be done, and again what was warned of."""
    for message in _read_warnings(out):
        console.warn(message)
    n_chunks = len(state.lock["chunks"])
    values = {
        "adapter": str(out),
        "unchanged": True,
        "n_chunks": n_chunks,
        "n_cached": n_chunks,
        "n_read": 0,
    }
    text = f"{out}\nunchanged   inputs, network, base and options are those of {out / names.LOCK}"
    console.emit(values, text)


def _read_warnings(out: Path) -> list[str]:
    """Warnings and findings in an adapter's d2l.json, whose digest is known to be right."""
    made: Mapping[str, Any] = json.loads((out / names.PROVENANCE).read_text("utf-8"))
    found = [
        f"{row['name']}: {len(row['findings'])} sorts of findings when it was compiled, listed in "
        f"{out / names.PROVENANCE}"
        for row in made["inputs"]
        if row.get("findings")
    ]
    return [*found, *map(str, made["warnings"])]
