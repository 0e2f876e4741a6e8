"""Row → adapter, on disk or in a store, and its result: the work of every engine.

The first row that needs the network opens it, and it stays open. A row that is done already needs
neither the network nor torch. An error is the row's result.
"""

import hashlib
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2l.adapters.lock_file import format_lock
from d2l.batch.results import DONE, Result, fail
from d2l.batch.rows import READING, BatchRow
from d2l.batch.stores import LocalFolder, RemoteFolder, at_hand, is_remote
from d2l.compiler.lock import Request, State, TaskRequest
from d2l.documents.intake import ReadOptions, refuse_warnings
from d2l.errors import (
    AdapterError,
    BaseModelError,
    CheckpointError,
    D2LError,
    DocumentError,
)
from d2l.files.atomic import is_disk_full
from d2l.hypernets.options import (
    DOCUMENT_OPTIONS,
    CompileOptions,
    NetworkOptions,
    TaskCompileOptions,
)

if TYPE_CHECKING:
    from d2l.api.compiler import Compiler, TaskCompiler
    from d2l.compiler.chunk_cache import Cached
    from d2l.compiler.plan import CompilePlan


@dataclass(frozen=True)
class Job:
    """Options of all rows, which a row's own replace.

    `strict`: a row with a warning fails. `folder`: relative paths are below it; None: below the
    working directory.
    """

    out_dir: str
    options: CompileOptions
    reading: ReadOptions = field(default_factory=ReadOptions)
    force: bool = False
    strict: bool = False
    folder: str | None = None


class Worker:
    """Worker of a process: rows in, results out. `index` counts the workers of one machine, which
    share out its CUDA devices if the job names none."""

    def __init__(self, job: Job, index: int = 0) -> None:
        self.job = job
        self._index = index

    def do(self, row: BatchRow) -> Result:
        """Make a row's adapter, unless it is there already."""
        if row.error is not None:
            return fail(row, "RowError", row.error)
        start = time.perf_counter()
        try:
            with at_hand(row.inputs) as inputs:
                result = self._do(row, inputs)
        except Exception as error:  # noqa: BLE001 - one row's bug must not end the others
            known = error.describe() if isinstance(error, D2LError) else str(error)
            # All rows share the network and its base; but another row may have no examples.
            shared = isinstance(error, BaseModelError | CheckpointError) and row.examples is None
            fatal = shared or is_disk_full(error)
            return fail(row, type(error).__name__, known or repr(error), fatal=fatal)
        return replace(result, seconds=time.perf_counter() - start)

    def plan(self, row: BatchRow) -> "CompilePlan | None":
        """Plan a row without weights; None if its adapter is done. Raises D2LError."""
        if row.error is not None:
            raise DocumentError(row.error)
        with at_hand(row.inputs) as inputs:
            folder = self._find_folder(row)
            state = folder.check(self._ask(row, inputs))
            if state is not None and state.is_current:
                return None
            self._refuse(folder, state)
            return self._plan(row, inputs)

    def _do(self, row: BatchRow, inputs: Sequence[str]) -> Result:
        folder, request = self._find_folder(row), self._ask(row, inputs)
        state = folder.check(request)
        if state is not None and state.is_current:
            if self.job.strict:  # its warnings are known only after reading it
                self._plan(row, inputs)
            return _describe(row, folder.out, state)
        force = self._refuse(folder, state)
        plan = self._plan(row, inputs)
        compiler = self._compiler if row.description is None else self._task_compiler
        cached = compiler.look_up(plan)
        adapter = compiler.run(plan, cached=cached)
        try:
            folder.save(adapter, force=force)
        except AdapterError:  # another run may have been faster: then what stands there is the same
            state = folder.check(request)
            if state is None or not state.is_current:
                raise
            return _describe(row, folder.out, state)
        result = _describe(row, folder.out, folder.check(request), cached)
        intake = plan.intake
        warnings = [*intake.warnings, *plan.warnings]
        return replace(result, warnings=warnings, remarks=intake.remarks)

    def _refuse(self, folder: LocalFolder | RemoteFolder, state: State | None) -> bool:
        """Refuse a row that may not write (D2LError); True if it replaces an adapter."""
        force = self.job.force or (state is not None and state.may_replace)
        altered = _list_altered(state)
        folder.refuse(force=force or bool(altered))
        if altered and not force:
            raise AdapterError(
                f"{folder.out}: altered since it was written: {', '.join(altered)}",
                hint="--force makes it again",
            )
        return force

    def _find_folder(self, row: BatchRow) -> LocalFolder | RemoteFolder:
        kind = RemoteFolder if is_remote(self.job.out_dir) else LocalFolder
        return kind(self.job.out_dir, row.out)

    def _ask(self, row: BatchRow, inputs: Sequence[str]) -> Request:
        options = self.job.options
        where = (options.base, options.device, options.offline, options.base_dtype)
        if row.description is not None:
            wanted = self._task_options.changed(**row.options).record({})
            return TaskRequest((row.description,), wanted, *where, row.examples)
        wanted = options.changed(**_pick(row, DOCUMENT_OPTIONS)).record({})
        return Request(tuple(inputs), wanted | self._reading(row).record(), *where)

    def _reading(self, row: BatchRow) -> ReadOptions:
        return replace(self.job.reading, **_pick(row, READING))

    def _plan(self, row: BatchRow, inputs: Sequence[str]) -> "CompilePlan":
        plan: CompilePlan
        if row.description is not None:
            task = self._task_compiler
            plan = task.plan(row.description, examples=row.examples, **row.options)
        else:
            paths, own = [Path(path) for path in inputs], _pick(row, DOCUMENT_OPTIONS)
            plan = self._compiler.plan(paths, reading=self._reading(row), **own)
        if self.job.strict:
            refuse_warnings([*plan.intake.warnings, *plan.warnings])
        return plan

    @cached_property
    def _compiler(self) -> "Compiler":
        from d2l.api.compiler import Compiler

        return Compiler(replace(self.job.options, device=self._pick_device(), cache=True))

    @cached_property
    def _task_compiler(self) -> "TaskCompiler":
        from d2l.api.compiler import TaskCompiler

        return TaskCompiler(replace(self._task_options, device=self._pick_device()))

    @cached_property
    def _task_options(self) -> TaskCompileOptions:
        names = [*(item.name for item in fields(NetworkOptions)), "dtype"]
        return TaskCompileOptions(**{name: getattr(self.job.options, name) for name in names})

    def _pick_device(self) -> str:
        import torch

        device = self.job.options.device
        count = torch.cuda.device_count() if device in ("auto", "cuda") else 0
        # Each worker of the machine has its own.
        return f"cuda:{self._index % count}" if count > 1 else device


def _list_altered(state: State | None) -> list[str]:
    """List the files of an adapter that were altered since it was written."""
    differences = state.differences if state is not None else ()
    texts = [drift.text.removeprefix("file ") for drift in differences if drift.kind == "file"]
    return [text.removesuffix(" was altered") for text in texts]


def _pick(row: BatchRow, names: Collection[str]) -> dict[str, Any]:
    """Pick those of a row's options that have these names."""
    return {name: value for name, value in row.options.items() if name in names}


def _describe(
    row: BatchRow, out: str, state: State | None, cached: "Cached | None" = None
) -> Result:
    """Describe a row's adapter from its lock; `cached` is the cache's share of a new one."""
    assert state is not None  # every adapter that was compiled has one
    chunks = state.lock["chunks"]
    return Result(
        id=row.id,
        status=DONE,
        out=out,
        digest=hashlib.sha256(format_lock(state.lock).encode()).hexdigest(),
        tokens=sum(chunk["n_tokens"] for chunk in chunks),
        chunks=len(chunks),
        cached=len(chunks) if cached is None else cached.n_cached,
        unchanged=cached is None,
    )
