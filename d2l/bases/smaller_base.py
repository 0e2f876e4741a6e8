"""Advice on a smaller base, where the machine is small for the base of the default network."""

from dataclasses import dataclass

import psutil
import torch

from d2l.bases.catalog import BY_ALIAS, find_known
from d2l.bases.devices import name_dtype, pick_device, pick_dtype

LARGE, SMALL = "qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b"
#: Available bytes from which on the large base leaves memory for other programs.
_ENOUGH = 6e9
#: Speed of the small base in units of that of the large base, for chunks of 129 tokens on one core.
_SPEED = 3
#: What makes long work shorter.
_FASTER = f"a smaller network is faster, but knows fewer answers: --checkpoint {SMALL}"


@dataclass(frozen=True)
class SmallerBase:
    """The small base, in place of `base` (a name or an alias) on a device."""

    base: str
    device: str

    @property
    def hint(self) -> str:
        """Line to print if work takes long; empty if the base is small."""
        known, small = find_known(self.base), BY_ALIAS[SMALL]
        return "" if known and known.n_parameters <= small.n_parameters else _FASTER

    @property
    def advice(self) -> str | None:
        """A line with its memory and speed; None if `base` is another one than the large base, or
        if a CPU has the memory for it and is fast in bf16."""
        device = pick_device("auto") if self.device == "auto" else self.device
        known, dtype = find_known(self.base), pick_dtype(device)
        if known is None or known.alias != LARGE or torch.device(device).type != "cpu":
            return None
        free, reasons = psutil.virtual_memory().available, []
        if free < _ENOUGH:
            reasons.append(f"{free / 1e9:.1f} GB of memory are available")
        if dtype == torch.float32:
            reasons.append(f"bases run in {name_dtype(dtype)} on this processor")
        sizes = [BY_ALIAS[alias].n_parameters * dtype.itemsize / 1e9 for alias in (LARGE, SMALL)]
        line = (
            f"the weights of {LARGE} take {sizes[0]:.1f} GB; those of {SMALL} take {sizes[1]:.1f} "
            f"GB and read {_SPEED} times as fast, but know fewer answers "
            f"(d2l compile --checkpoint {SMALL})"
        )
        return f"{' and '.join(reasons)}: {line}" if reasons else None
