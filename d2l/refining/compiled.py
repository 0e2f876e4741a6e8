"""Refine an adapter while it is compiled."""

from dataclasses import dataclass

from d2l.adapters.provenance import Provenance, Refinement
from d2l.compiler.plan import CompilePlan
from d2l.errors import OptionError
from d2l.hypernets.protocol import Assembled, Hypernetwork
from d2l.progress import Progress
from d2l.refining.adapters import note_refinement
from d2l.refining.refine import RefineJob, refine_numbers


@dataclass(frozen=True)
class Refined:
    """The new numbers of an adapter, and what was done to them."""

    assembled: Assembled
    done: Refinement

    def note(self, made: Provenance) -> Provenance:
        """See `note_refinement`."""
        return note_refinement(made, self.done)


def refine_compiled(
    plan: CompilePlan, hypernet: Hypernetwork, assembled: Assembled, watch: Progress
) -> Refined:
    """Refine the adapter that a plan's chunks became; raises D2LError."""
    options, merge = plan.options.refine, plan.options.merge
    assert options is not None
    if assembled.memory is not None and merge.scale != 1.0:
        raise OptionError(
            f"seats of strength {merge.scale:g} cannot be refined: it would make up for that",
            hint="leave --scale at 1, or refine nothing",
        )
    job = RefineJob(plan.base, plan.documents, options, plan.device, watch, hypernet)
    return Refined(*refine_numbers(assembled, job, bias_scale=merge.bias_scale))
