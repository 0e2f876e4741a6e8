"""A row → its adapter, on disk or in a store, and what is to be said of it: what every engine runs.

The network is opened for the first row that needs it, and stays. A row that is done already needs
neither it nor torch. Whatever goes wrong with a row is its result.
"""

import hashlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from d2l.adapters.find import refuse_adapter
from d2l.batch.results import DONE, Result, fail
from d2l.batch.rows import OPTIONS, Row
from d2l.batch.stores import RemoteFolder, at_hand, is_remote
from d2l.compiler.lock import Request, State, check
from d2l.errors import AdapterError, BaseModelError, CheckpointError, D2LError, DocumentError

if TYPE_CHECKING:
    from d2l.api.compiler import Compiler
    from d2l.compiler.options import PlanWishes
    from d2l.compiler.part_cache import Found
    from d2l.compiler.plan import CompilePlan
    from d2l.documents.intake import ReadOptions

#: Options that say how documents are read; the others are wishes for the adapter.
_READING = ("format", "encoding", "include_hidden", "skip_bad", "password")


@dataclass(frozen=True)
class Job:
    """What all rows have in common. `options` are those of rows that say nothing else; `folder` is
    what relative paths are relative to, None for the working directory."""

    out_dir: str
    checkpoint: str
    base: str | None = None
    device: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    offline: bool = False
    force: bool = False
    cache: bool = True
    folder: str | None = None


class Worker:
    """Does rows one after the other. `index` counts workers of one machine: CUDA devices are dealt
    out by it where the job names none of them."""

    def __init__(self, job: Job, index: int = 0) -> None:
        self.job = job
        self._index = index
        self._compiler: Compiler | None = None

    def do(self, row: Row) -> Result:
        """Make a row's adapter, unless it is there already."""
        if row.error is not None:
            return fail(row.id, row.out, "RowError", row.error)
        start = time.perf_counter()
        try:
            with at_hand(row.inputs) as inputs:
                result = self._do(row, inputs)
        except D2LError as error:
            fatal = isinstance(error, BaseModelError | CheckpointError)  # which all rows share
            return fail(row.id, row.out, type(error).__name__, describe_error(error), fatal=fatal)
        except Exception as error:  # noqa: BLE001 - one row's bug must not end the others
            return fail(row.id, row.out, type(error).__name__, str(error) or repr(error))
        return replace(result, seconds=time.perf_counter() - start)

    def plan(self, row: Row) -> "CompilePlan | None":
        """What a row will do, without weights; None where it is done. Raises D2LError."""
        if row.error is not None:
            raise DocumentError(row.error)
        with at_hand(row.inputs) as inputs:
            state = self._place(row).check(self._ask(row, inputs))
            if state is not None and state.is_current:
                return None
            return self._plan(row, inputs)

    def _do(self, row: Row, inputs: Sequence[str]) -> Result:
        place, request = self._place(row), self._ask(row, inputs)
        state = place.check(request)
        if state is not None and state.is_current:
            return _tell(row, place.out, state)
        force = self.job.force or (state is not None and state.may_replace)
        place.refuse(force=force)
        plan = self._plan(row, inputs)
        compiler = self._open()
        found = compiler.look_up(plan)
        adapter = compiler(plan, found=found)
        try:
            place.save(adapter, force=force)
        except AdapterError:  # another run may have been faster: then what stands there is the same
            state = place.check(request)
            if state is None or not state.is_current:
                raise
            return _tell(row, place.out, state)
        made = _tell(row, place.out, place.check(request), found)
        return replace(made, warnings=_list_warnings(plan))

    def _place(self, row: Row) -> "_Local | _Remote":
        if is_remote(self.job.out_dir):
            return _Remote(self.job.out_dir, row.out)
        return _Local(self.job.out_dir, row.out)

    def _options(self, row: Row) -> dict[str, Any]:
        return {**OPTIONS, **self.job.options, **row.options}

    def _ask(self, row: Row, inputs: Sequence[str]) -> Request:
        job = self.job
        options = {"checkpoint": job.checkpoint, **self._options(row), "live_check": False}
        del options["password"]  # is written nowhere, and what it opens says whether it was right
        return Request(tuple(inputs), options, job.base, job.device, job.offline)

    def _plan(self, row: Row, inputs: Sequence[str]) -> "CompilePlan":
        reading, wishes = _sort_options(self._options(row), cache=self.job.cache)
        return self._open().plan([Path(path) for path in inputs], reading=reading, **wishes)

    def _open(self) -> "Compiler":
        if self._compiler is None:
            from d2l.api.compiler import Compiler

            self._compiler = Compiler.from_pretrained(
                self.job.checkpoint,
                base=self.job.base,
                device=self._pick_device(),
                local_files_only=self.job.offline,
            )
        return self._compiler

    def _pick_device(self) -> str:
        """The job's device; of several that CUDA has, the worker's own."""
        import torch

        count = torch.cuda.device_count() if self.job.device in ("auto", "cuda") else 0
        return f"cuda:{self._index % count}" if count > 1 else self.job.device


class _Local:
    """A row's adapter folder on this machine."""

    def __init__(self, root: str, out: str) -> None:
        self._folder = Path(root, out)
        self.out = str(self._folder)

    def check(self, request: Request) -> State | None:
        return check(self._folder, request)

    def refuse(self, *, force: bool) -> None:
        refuse_adapter(self._folder, force=force)

    def save(self, adapter: Any, *, force: bool) -> None:
        adapter.save_pretrained(self._folder, force=force)


class _Remote:
    """A row's adapter folder in a store: made in a temporary folder, then uploaded."""

    def __init__(self, root: str, out: str) -> None:
        self._remote = RemoteFolder(root, out)
        self._name = PurePosixPath(out).name
        self.out = self._remote.address

    def check(self, request: Request) -> State | None:
        with tempfile.TemporaryDirectory(prefix="d2l-lock-") as folder:
            at = Path(folder, self._name)
            state = check(at, request) if self._remote.fetch_lock(at) else None
        if state is None or not self._remote.is_whole(state.lock["files"]):
            return None
        # Files of a store are not read again: nothing but their lock was fetched.
        return replace(state, differences=tuple(d for d in state.differences if d.kind != "file"))

    def refuse(self, *, force: bool) -> None:
        with tempfile.TemporaryDirectory(prefix="d2l-lock-") as folder:
            if not force and self._remote.fetch_lock(Path(folder)):
                raise AdapterError(
                    f"{self.out} exists already", hint="choose another folder, or --force"
                )

    def save(self, adapter: Any, *, force: bool) -> None:  # noqa: ARG002 - `refuse` has looked
        with tempfile.TemporaryDirectory(prefix="d2l-upload-") as folder:
            self._remote.upload(adapter.save_pretrained(Path(folder, self._name)))


def _sort_options(options: Mapping[str, Any], *, cache: bool) -> "tuple[ReadOptions, PlanWishes]":
    from d2l.documents.intake import ReadOptions

    reading = ReadOptions(**{name: options[name] for name in _READING})
    wishes: Any = {name: value for name, value in options.items() if name not in _READING}
    wishes["cache"] = cache
    return reading, wishes


def _list_warnings(plan: "CompilePlan") -> list[str]:
    """What `d2l compile` warns of: findings in the documents, what their readers want told, what
    was passed over, and the plan's own warnings."""
    return [*plan.intake.describe(), *plan.warnings]


def _tell(row: Row, out: str, state: State | None, found: "Found | None" = None) -> Result:
    """The result of a row whose adapter stands there, from its lock; `found` is what the cache held
    of one that was made just now."""
    assert state is not None  # every adapter that was compiled has one
    chunks = state.lock["chunks"]
    return Result(
        id=row.id,
        status=DONE,
        out=out,
        digest=_digest_lock(state.lock),
        tokens=sum(chunk["n_tokens"] for chunk in chunks),
        chunks=len(chunks),
        cached=len(chunks) if found is None else found.n_cached,
        unchanged=found is None,
    )


def _digest_lock(lock: Mapping[str, Any]) -> str:
    """SHA-256 of a lock as its file has it: `adapters.lock_file` writes it in one form only."""
    from d2l.adapters.lock_file import format_lock

    return hashlib.sha256(format_lock(lock).encode()).hexdigest()


def describe_error(error: D2LError) -> str:
    """An error in one line, with what to do about it."""
    return f"{error.message} ({error.hint})" if error.hint else error.message
