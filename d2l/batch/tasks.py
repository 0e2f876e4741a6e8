"""Adapters of task descriptions in a batch: the check for done ones, and their results."""

import hashlib
from pathlib import Path

from d2l.adapters.info import WEIGHTS, is_adapter, read_info
from d2l.batch.results import DONE, Result
from d2l.batch.rows import BatchRow
from d2l.compiler.plan import TaskPlan
from d2l.errors import AdapterError


def is_done(row: BatchRow, out: Path, plan: TaskPlan, *, force: bool) -> bool:
    """True if the adapter at `out` is the plan's, and is as an earlier result knows it.

    Raises AdapterError if it was altered, unless `force`.
    """
    provenance = read_info(out).provenance if is_adapter(out) else None
    if provenance is None or provenance.description is None:
        return False
    is_same = (
        provenance.description.text == plan.documents[0].text
        and provenance.description.embedder == plan.network.embedder_name
        and provenance.description.examples == plan.examples
        and provenance.checkpoint.sha256 == plan.network.digest()
        and provenance.options.scaling in (None, plan.scaling)  # None: seats have one alone
        and provenance.options.dtype == plan.options.dtype
        and provenance.refinement is None
    )
    is_altered = row.digest not in (None, _digest(out))
    if is_same and is_altered and not force:
        raise AdapterError(
            f"{out}: altered since it was written: {WEIGHTS}", hint="--force makes it again"
        )
    return is_same and not is_altered


def describe_task(row: BatchRow, out: Path, plan: TaskPlan, *, unchanged: bool) -> Result:
    """Describe the adapter of a description at `out`, from its d2l.json and its plan."""
    provenance = read_info(out).provenance
    assert provenance is not None  # making says where an adapter came from
    return Result(
        id=row.id,
        status=DONE,
        out=str(out),
        digest=_digest(out),
        tokens=plan.n_tokens,
        chunks=len(plan.chunks),
        warnings=provenance.warnings,
        unchanged=unchanged,
    )


def _digest(out: Path) -> str:
    """Compute the SHA-256 of an adapter's weights."""
    with (out / WEIGHTS).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
