"""`--locked`, `--frozen`, and a compilation that has nothing to do: all without torch."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2l.adapters import info as names
from d2l.adapters.lock_file import compare_files, digest_folder
from d2l.commands import console
from d2l.compiler.lock import Request, State, check
from d2l.errors import AdapterError, OptionError

if TYPE_CHECKING:
    from d2l.api.adapter import Adapter


@dataclass(frozen=True)
class Locking:
    """How the lock stands that is there already. `frozen`: only what that one says may be
    written."""

    state: State | None
    frozen: bool

    def refuse_other(self, adapter: "Adapter", out: Path) -> None:
        """Raise AdapterError where what is at `out` is frozen, and the adapter came out
        otherwise."""
        if self.frozen and self.state is not None:
            _refuse_other_result(adapter, out, self.state)


def refuse_with_each(*, locked: bool, frozen: bool) -> None:
    """Raise OptionError for options that are about a single adapter's lock."""
    if locked or frozen:
        raise OptionError(
            f"{'--locked' if locked else '--frozen'} is for one adapter, and --each writes many",
            hint="check them one by one: each has a d2l.lock, as if compiled alone",
        )


def check_lock(out: Path, request: Request, *, locked: bool, frozen: bool) -> State | None:
    """What differs from the lock at `out`, refused as far as --locked and --frozen ask; None where
    there is no lock. Raises AdapterError."""
    if locked and frozen:
        raise OptionError("--locked and --frozen exclude each other", hint="give one of them")
    option = "--locked" if locked else "--frozen" if frozen else None
    state = check(out, request)
    if option is None:
        return state
    if state is None:
        raise AdapterError(
            f"{option}: {out} has no {names.LOCK}",
            hint=f"compile once without {option}, and keep the folder or its {names.LOCK}",
        )
    if locked:
        state.refuse(out, option)
    else:  # what came out may be missing or altered: it is made again
        state.refuse(out, option, kinds=("input", "inputs", "network", "base", "option", "tool"))
    return state


def report_unchanged(out: Path, state: State, *, as_json: bool) -> None:
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
    console.emit(values, text, as_json=as_json)


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


def _refuse_other_result(adapter: "Adapter", out: Path, state: State) -> None:
    """Raise AdapterError, and write nothing at `out`, unless the adapter is the one of the lock."""
    with tempfile.TemporaryDirectory(prefix="d2l-frozen-") as folder:
        made = digest_folder(adapter.save_pretrained(Path(folder, out.name)))
    different = compare_files(state.lock, made)
    if different:
        raise AdapterError(
            f"--frozen: what was made is not what {out / names.LOCK} says: {'; '.join(different)}",
            hint="another device, torch or number of threads rounds otherwise; nothing was written",
        )
