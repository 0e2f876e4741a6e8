"""The command `d2l calibrate`: second moments of the base that will serve, measured and kept."""

from typing import TYPE_CHECKING

from d2l.commands import console
from d2l.commands.options import DryRun, taking

if TYPE_CHECKING:
    from d2l.hypernets.options import CompileOptions


@taking("d2l.hypernets.options:CompileOptions", "checkpoint", "base", "device", "offline")
def calibrate(options: "CompileOptions", dry_run: DryRun = False) -> None:
    """Fit a seat network to another file of its base.

    Takes minutes on a CPU.
    """
    from d2l.compiler import calibrate as pipeline

    plan = pipeline.prepare(options)
    if dry_run:
        config, n_tokens = plan.network.config, sum(map(len, plan.pieces))
        lines = [
            f"checkpoint  {plan.network.files.name} ({config.kind})",
            f"base        {config.base}",
            f"tokens      {n_tokens:,} of plain text in {len(plan.pieces):,} pieces",
            f"writes      {plan.path}",
        ]
        values = {
            "checkpoint": plan.network.files.name,
            "base": config.base,
            "n_tokens": n_tokens,
            "moments": str(plan.path),
        }
        console.emit(values, "\n".join(lines))
        return
    with console.ProgressBar("reading plain text") as steps:
        path = pipeline.calibrate(plan, options.device, watch=steps)
    console.emit({"moments": str(path)}, str(path))
