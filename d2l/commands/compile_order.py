"""What `d2l compile` was asked for beside the adapter itself, and a plan that is carried out so."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from d2l.commands import console
from d2l.commands.compile_report import Report, add_cached, add_exports, report_run
from d2l.commands.export import export_beside
from d2l.commands.lock import Locking
from d2l.progress import Progress, silent

if TYPE_CHECKING:
    import d2l
    from d2l.compiler.plan import CompilePlan


@dataclass(frozen=True)
class Order:
    """How adapters are compiled and written, and what goes with each of them."""

    compiler: "d2l.Compiler"
    targets: tuple[str, ...]  # exports beside the adapter
    force: bool
    explain: bool  # say why chunks are read that might have been in the cache
    locking: Locking

    def carry_out(self, plan: "CompilePlan", out: Path, *, watch: Progress = silent) -> Report:
        """Compile what is planned, write it at `out`, and what was ordered beside it."""
        found = self.compiler.look_up(plan)
        if self.explain:
            from d2l.compiler.part_cache import explain

            for line in explain(plan, found):
                console.note(line)
        self.compiler.load(plan, found)
        start = time.perf_counter()
        options = self.compiler.options
        base, offline = options.base, options.offline
        adapter = self.compiler(plan, watch=watch, found=found)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        self.locking.refuse_other(adapter, out)
        adapter.save_pretrained(out, force=self.force)
        seconds += time.perf_counter() - start
        report = add_cached(report_run(plan, adapter, out, seconds=seconds), plan, found)
        exports = export_beside(out, self.targets, base=base, offline=offline, force=self.force)
        return add_exports(report, exports)
