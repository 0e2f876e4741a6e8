"""Task description → adapter: `prepare()` returns a plan, `load()` a maker of adapters in memory.

What differs from one kind of network to another stands in `make_kinds`. Writes nothing, prints
nothing.
"""

from d2l.adapters.peft_folder import pick_torch_dtype
from d2l.compiler.make_kinds import DESCRIPTIONS, find_kind
from d2l.compiler.make_plan import SCALINGS, MakeOptions, MakePlan, Maker, MakeWishes
from d2l.errors import OptionError
from d2l.hypernets.fit import open_network

__all__ = ["MakeOptions", "MakePlan", "MakeWishes", "Maker", "load", "prepare"]


def prepare(options: MakeOptions) -> MakePlan:
    """Find the checkpoint, its base and what reads for it, and check that they fit.

    The plan is for any description (`describing` names one). Raises CheckpointError, BaseModelError
    or OptionError with what to do about it.
    """
    pick_torch_dtype(options.dtype)  # refuses what is none
    if options.scaling not in SCALINGS:
        raise OptionError(
            f"unknown scaling {options.scaling!r}", hint=f"choose from {', '.join(SCALINGS)}"
        )
    network = open_network(
        options.checkpoint, kinds=DESCRIPTIONS, base=options.base, offline=options.offline
    )
    return find_kind(network.config).prepare(network, options)


def load(plan: MakePlan) -> Maker:
    """Load what reads and the network; raises D2LError, also where the one does not fit the
    other."""
    return find_kind(plan.config).load(plan)
