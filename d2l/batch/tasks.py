"""Row with a task description → adapter and result."""

import contextlib
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2l.adapters.find import refuse_adapter
from d2l.adapters.info import WEIGHTS, is_adapter, read_info
from d2l.api.compiler import TaskCompiler
from d2l.batch.results import DONE, Result, fail
from d2l.batch.rows import BatchRow
from d2l.batch.run import Results
from d2l.compiler.plan import CompilePlan
from d2l.errors import AdapterError, D2LError
from d2l.files.atomic import is_disk_full

#: Rows that are computed at one go, and of how many these are chosen: some whose descriptions are
#: about as long, since shorter ones cost as much as the longest. Until it is written a row of the
#: default has 0.1 MB a token.
_TOGETHER, _OF = 16, 128


@dataclass(frozen=True)
class TaskWorker:
    """Makes adapters of descriptions below a folder. With `resumes` a row is done already whose
    adapter was made of the same description, network and options; `known` are lines of earlier
    results by id, whose digest its weights must have then."""

    compiler: TaskCompiler
    out_dir: Path
    force: bool = False
    resumes: bool = False
    known: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def do_all(self, rows: Sequence[BatchRow]) -> Results:
        """Make rows in their order; each is computed with others whose turn comes later."""
        for first in range(0, len(rows), _OF):
            several = rows[first : first + _OF]
            by_length = sorted(several, key=lambda row: len(row.description or ""))
            groups = [by_length[at : at + _TOGETHER] for at in range(0, len(several), _TOGETHER)]
            for row in several:
                for group in [group for group in groups if row in group]:
                    groups.remove(group)
                    self._make_ahead(group)
                yield self.do(row)

    def _make_ahead(self, rows: Sequence[BatchRow]) -> None:
        """Compute in one pass what these rows need; a row's own turn raises its error."""
        plans = []
        for row in rows:
            with contextlib.suppress(D2LError):
                plans.append(self._plan(row))
        with contextlib.suppress(D2LError):
            self.compiler.make_ahead([plan for plan in plans if plan is not None])

    def do(self, row: BatchRow) -> Result:
        """Make a row's adapter, unless it is there already."""
        if row.error is not None:
            return fail(row.id, row.out, "RowError", row.error)
        out, start = self.out_dir / row.out, time.perf_counter()
        try:
            plan = self._plan(row)
            if plan is not None:
                self.compiler(plan).save_pretrained(out, force=self.force)
        except D2LError as error:
            fatal = is_disk_full(error)
            return fail(row.id, row.out, type(error).__name__, error.describe(), fatal=fatal)
        seconds = time.perf_counter() - start
        return Result(row.id, DONE, str(out), _digest(out), seconds=seconds, unchanged=plan is None)

    def _plan(self, row: BatchRow) -> CompilePlan | None:
        """What making a row's adapter takes; None where it is there already. Raises D2LError."""
        out = self.out_dir / row.out
        plan = self.compiler.plan(row.description or "", examples=row.examples)
        if self.resumes and self._is_done(row, out, plan):
            return None
        refuse_adapter(out, force=self.force)
        return plan

    def _is_done(self, row: BatchRow, out: Path, plan: CompilePlan) -> bool:
        made = read_info(out).provenance if is_adapter(out) else None
        if made is None or made.description is None:
            return False
        is_same = (
            made.description.text == plan.documents[0].text
            and made.description.embedder == plan.network.embedder_name
            and made.description.examples == plan.examples
            and made.checkpoint.sha256 == plan.network.digest()
            and made.options.scaling in (None, plan.options.scaling)  # None: seats have one alone
            and made.options.dtype == plan.options.dtype
        )
        is_altered = self.known.get(row.id, {}).get("digest") not in (None, _digest(out))
        if is_same and is_altered and not self.force:
            raise AdapterError(
                f"{out}: altered since it was written: {WEIGHTS}", hint="--force makes it again"
            )
        return is_same and not is_altered


def _digest(out: Path) -> str:
    """SHA-256 of an adapter's weights."""
    with (out / WEIGHTS).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
