"""The lock of an adapter, compared with what it was compiled from.

Comparing needs no torch: files are found and digested, not parsed, and nothing is planned.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2l.adapters.info import LOCK
from d2l.adapters.lock_file import read_state
from d2l.bases.catalog import locate_base
from d2l.compiler.privacy import name_documents, name_places
from d2l.datasets.descriptions import check_description
from d2l.documents.inputs import STDIN, expand_inputs
from d2l.errors import AdapterError, D2LError
from d2l.files.cache import cache_dir, file_digest, hash_file
from d2l.hypernets.registry import digest_files, find_on_disk
from d2l.version import __version__

_MOMENTS = "moments"


@dataclass(frozen=True)
class Request:
    """A compilation to compare with a lock. `options` change the result: the records of
    `CompileOptions` and `ReadOptions`, as JSON values by name."""

    inputs: tuple[str, ...]
    options: Mapping[str, Any]
    base: str | None = None
    device: str = "auto"
    offline: bool = False
    base_dtype: str | None = None

    def compare_inputs(self, lock: Mapping[str, Any]) -> Iterator["Drift"]:
        """Compare the bytes of the inputs, on which parsing depends."""
        then = {row["name"]: row["sha256"] for row in lock["inputs"]}
        skipped = {row["given_sha256"] for row in lock["skipped"]}
        try:
            skip_bad = bool(self.options.get("skip_bad"))
            expanded = expand_inputs(self.inputs, skip_bad=skip_bad, follow_links=True)
        except D2LError as error:
            yield Drift("input", f"input {error.message}")
            return
        found = [one for one in expanded.sources if digest_text(one.name) not in skipped]
        names = {} if self.options["keep_paths"] else name_documents(found)
        now = [names.get(source.name, source.name) for source in found]
        for source, name in zip(found, now, strict=True):
            if name in then and source.name != STDIN and source.path is not None:
                if _digest_input(source.path) != then[name]:
                    yield Drift("input", f"input {source.name} changed")
            elif source.name == STDIN:
                yield Drift("inputs", "input - is standard input, which is not read twice")
        if now != list(then):
            gone = [f"input {name} is gone" for name in then if name not in now]
            new = [f"input {name} is new" for name in now if name not in then]
            for text in gone + new or ["inputs are in another order"]:
                yield Drift("inputs", text)


@dataclass(frozen=True)
class TaskRequest(Request):
    """A task to compare with a lock: its description is the only input, beside a file of
    examples."""

    examples: str | None = None

    def compare_inputs(self, lock: Mapping[str, Any]) -> Iterator["Drift"]:
        """Compare the description, and the bytes of the examples."""
        digests = [digest_text(check_description(text)) for text in self.inputs]
        if digests != [row["sha256"] for row in lock["inputs"]]:
            yield Drift("inputs", "it is another description")
        examples = None if self.examples is None else _digest_input(Path(self.examples))
        if examples != lock.get("examples"):
            yield Drift("inputs", "the examples changed")


@dataclass(frozen=True)
class Drift:
    """A difference from the lock: `kind` is "input", "network", "base", "option",
    "tool" or "file"."""

    kind: str
    text: str


@dataclass(frozen=True)
class State:
    """A folder's lock, and the differences from it."""

    lock: Mapping[str, Any]
    differences: tuple[Drift, ...]

    @property
    def is_current(self) -> bool:
        """True if compiling again would change nothing."""
        return not self.differences

    @property
    def may_replace(self) -> bool:
        """True if compiling again loses nothing: the files are untouched, and the documents' names
        and the options are the same."""
        return not {"option", "file", "inputs"} & {found.kind for found in self.differences}

    def refuse(self, out: Path, wanted: str) -> None:
        """Raise AdapterError that lists the differences, if there are any."""
        found = [difference.text for difference in self.differences]
        if found:
            force = "" if self.may_replace else " and with --force"  # altered files are protected
            raise AdapterError(
                f"{wanted}: {out} has drifted from its lock: {'; '.join(found)}",
                hint=f"compile without {wanted}{force} to make it anew, and keep the new d2l.lock",
            )


def check(out: Path, request: Request, *, locked: bool = False) -> State | None:
    """Compare an adapter's lock with a request; None without a lock.

    Raises AdapterError for a damaged lock, and with `locked` for a missing lock and for every
    difference.
    """
    found = read_state(out)
    if found is None:
        if locked:
            raise AdapterError(
                f"--locked: {out} has no {LOCK}",
                hint=f"compile once without --locked, and keep the folder or its {LOCK}",
            )
        return None
    lock, altered = found
    try:
        files = [Drift("file", f"file {text}") for text in altered]
        state = State(lock, (*_compare(lock, request), *files))
    except (KeyError, TypeError, AttributeError) as error:  # JSON, but no lock
        raise AdapterError(
            f"{out}: its d2l.lock is damaged ({error!r})",
            hint="compile the documents again: --force",
        ) from error
    if locked:
        state.refuse(out, "--locked")
    return state


def _compare(lock: Mapping[str, Any], request: Request) -> Iterator[Drift]:
    if lock["tool"]["d2l"] != __version__:
        yield Drift("tool", f"d2l {lock['tool']['d2l']} → {__version__}")
    yield from request.compare_inputs(lock)
    yield from _compare_options(lock, request)
    yield from _compare_network(lock, request)
    yield from _compare_bases(lock, request)


def _digest_input(path: Path) -> str | None:
    """SHA-256 of a file's bytes, all of them read; None if it cannot be read."""
    try:
        return hash_file(path)
    except OSError:
        return None


def _compare_options(lock: Mapping[str, Any], request: Request) -> Iterator[Drift]:
    then, now = dict(lock["options"]), dict(request.options)
    if then.get("encoder") == "plain":  # an option of older locks, with its only value of today
        del then["encoder"]
    if not now.get("keep_paths"):
        now["checkpoint"] = name_places(now["checkpoint"]).get(now["checkpoint"], now["checkpoint"])
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            yield Drift("option", f"option {name} {then.get(name)} → {now.get(name)}")
    device = request.device.split(":")[0]
    if device not in ("auto", lock["device"]):
        yield Drift("option", f"option device {lock['device']} → {device}")
    dtype = lock.get("base_dtype")  # locks of d2l 0.2 name none
    if request.base_dtype not in (None, dtype):
        yield Drift("option", f"option base_dtype {dtype} → {request.base_dtype}")


def _compare_network(lock: Mapping[str, Any], request: Request) -> Iterator[Drift]:
    name = str(request.options["checkpoint"])
    try:
        path, then = find_on_disk(name), lock["network"]["files"]
        files = {} if path is None else digest_files(path, then)
        if files != then:  # perhaps it has to be downloaded; imports torch
            from d2l.hypernets.networks import find_checkpoint

            base = request.base or (lock["base"] or {}).get("name")
            path = find_checkpoint(name, base=base, offline=request.offline).path
            files = digest_files(path, then)
    except (D2LError, OSError) as error:
        yield Drift("network", f"network {_message(error)}")
        return
    if files != then:
        changed = [f for f in sorted({*files, *then}) if files.get(f) != then.get(f)]
        yield Drift("network", f"network {name} changed ({', '.join(changed)})")


def _compare_bases(lock: Mapping[str, Any], request: Request) -> Iterator[Drift]:
    """Compare the base, a separate reader, and measured second moments."""
    rows = [(lock["base"], request.base), (lock.get("reader"), None)]
    for row, override in rows:
        if row is None:
            continue
        try:
            location = locate_base(row["name"], override=override, offline=request.offline)
            now = location.describe(row["name"])
        except (D2LError, OSError) as error:
            yield Drift("base", f"base {_message(error)}")
            continue
        if now != dict(row):
            yield Drift("base", f"base {row['name']} changed")
    moments = lock.get(_MOMENTS)
    if moments is not None:
        path = cache_dir() / _MOMENTS / Path(moments["file"]).name
        if not path.is_file() or file_digest(path) != moments["sha256"]:
            yield Drift("base", "base: its measured second moments changed or are gone")


def digest_text(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hex."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _message(error: Exception) -> str:
    return error.message if isinstance(error, D2LError) else str(error)
