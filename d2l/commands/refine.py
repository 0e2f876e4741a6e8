"""The command `d2l refine`: an adapter and its document in, the same corrected on it out."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import d2l
from d2l.adapters.info import read_info
from d2l.commands import console
from d2l.commands.options import (
    INPUT,
    AdapterPath,
    Base,
    Checkpoint,
    Device,
    DryRun,
    Force,
    Offline,
    Out,
    RefineSteps,
    RefineTime,
    in_panel,
)
from d2l.errors import AdapterError

if TYPE_CHECKING:
    from d2l.adapters.provenance import Refinement
    from d2l.documents.document import Document


def refine(
    adapter: AdapterPath,
    out: Out,
    document: Annotated[
        list[Path] | None,
        in_panel(
            INPUT, help="What it was compiled from; default: the path in d2l.json; repeatable."
        ),
    ] = None,
    refine: RefineTime = None,
    refine_steps: RefineSteps = None,
    checkpoint: Checkpoint = None,
    base: Base = None,
    device: Device = "auto",
    dry_run: DryRun = False,
    force: Force = False,
    offline: Offline = False,
) -> None:
    """Correct an adapter on its own document.

    Without --refine and --refine-steps it takes two minutes. If nothing changes, it writes nothing
    and exits with 1.
    """
    from d2l.adapters.find import refuse_adapter
    from d2l.change.parents import read_parent
    from d2l.refining.adapters import check_refinable
    from d2l.refining.drills import name_reason
    from d2l.refining.options import RefineOptions, choose_refining, describe_refinement

    options = choose_refining(refine, refine_steps) or RefineOptions(seconds=120)
    if not dry_run:
        refuse_adapter(out, force=force)
    check_refinable(read_parent(adapter))
    documents = _read(adapter, document)
    if dry_run:
        reason = name_reason(documents)
        values = {"seconds": options.seconds, "steps": options.steps, "reason": reason}
        console.emit(values, f"refining    {reason or options.describe()}")
        return
    start = time.perf_counter()
    refined = d2l.refine(
        adapter,
        documents,
        time=options.seconds,
        steps=options.steps,
        watch=console.watch,
        checkpoint=checkpoint,
        base=base,
        device=device,
        local_files_only=offline,
    )
    assert refined.provenance is not None  # refining says what it did
    done = refined.provenance.refinement
    assert done is not None
    if not done.kept:
        raise AdapterError(describe_refinement(done), hint=f"{out} was not written")
    refined.save_pretrained(out, force=force)
    _show(refined, done, out, time.perf_counter() - start)


def _read(adapter: Path, given: list[Path] | None) -> "list[Document]":
    """The documents that were named, or those that the adapter was compiled from."""
    from d2l.compiler.originals import read_originals

    info = read_info(adapter)
    originals = [read_originals(info, str(path)) for path in given or ()] or [read_originals(info)]
    for remark in (remark for one in originals for remark in one.remarks):
        console.warn(remark.partition(":")[0])
    return [document for one in originals for document in one.documents]


def _show(refined: "d2l.Adapter", done: "Refinement", out: Path, seconds: float) -> None:
    from d2l.refining.options import describe_refinement, describe_time

    size = read_info(out).size_bytes
    values = {
        "adapter": str(out),
        "rank": refined.weights.rank,
        "size_bytes": size,
        "seconds": round(seconds, 1),
        "refinement": done.to_json(),
    }
    lines = [
        str(out),
        f"rank        {refined.weights.rank}",
        f"size        {size / 1e6:.2f} MB",
        f"time        {describe_time(seconds)}",
        f"refined     {describe_refinement(done)}",
    ]
    console.emit(values, "\n".join(lines))
