"""A plan of `d2l compile`, carried out: the adapter, and the exports beside it."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from d2l.commands.compile_report import Report, add_cached, add_exports, report_run
from d2l.commands.export import export_beside
from d2l.progress import Progress, silent

if TYPE_CHECKING:
    import d2l
    from d2l.compiler.plan import CompilePlan


@dataclass(frozen=True)
class Order:
    """How adapters are compiled and written, and which exports go with each of them."""

    compiler: "d2l.Compiler"
    targets: tuple[str, ...]  # exports beside the adapter
    force: bool

    def carry_out(self, plan: "CompilePlan", out: Path, *, watch: Progress = silent) -> Report:
        """Compile a plan, write the adapter at `out`, and its exports beside it."""
        found = self.compiler.look_up(plan)
        self.compiler.load(plan, found)
        start = time.perf_counter()
        adapter = self.compiler(plan, watch=watch, found=found)
        adapter.save_pretrained(out, force=self.force)
        seconds = time.perf_counter() - start
        report = add_cached(report_run(plan, adapter, out, seconds=seconds), plan, found)
        options = self.compiler.options
        exports = export_beside(
            out, self.targets, base=options.base, offline=options.offline, force=self.force
        )
        return add_exports(report, exports)
