"""Carry out plans of `d2l compile`: write adapters and their exports, together or one each."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from d2l.adapters.find import refuse_adapter
from d2l.commands import console
from d2l.commands.compile_report import (
    Report,
    add_cached,
    add_exports,
    report_run,
)
from d2l.commands.export import export_beside
from d2l.progress import Progress, silent

if TYPE_CHECKING:
    import d2l
    from d2l.compiler.plan import CompilePlan


@dataclass(frozen=True)
class CompileRun:
    """How adapters are compiled and written, and which exports go with each of them."""

    compiler: "d2l.Compiler"
    targets: tuple[str, ...]  # exports beside the adapter
    force: bool
    strict: bool  # no warnings are allowed

    def carry_out(
        self, plan: "CompilePlan", out: Path, *, watch: Progress = silent, is_first: bool = True
    ) -> Report:
        """Compile a plan, write the adapter at `out`, and its exports beside it. The report of the
        first plan also tells how long everything took until then."""
        refuse_adapter(out, force=self.force, n_bytes=plan.adapter_bytes + plan.parts_bytes)
        cached = self.compiler.look_up(plan)
        self.compiler.load(plan, cached)
        start = time.perf_counter()
        adapter = self.compiler(plan, watch=watch, cached=cached)
        adapter.save_pretrained(out, force=self.force)
        seconds = time.perf_counter() - start
        until = start - console.STARTED if is_first else None
        report = report_run(plan, adapter, out, seconds=seconds, start=until)
        report = add_cached(report, plan, cached)
        options = self.compiler.options
        exports = export_beside(
            out, self.targets, base=options.base, offline=options.offline, force=self.force
        )
        return add_exports(report, exports)
