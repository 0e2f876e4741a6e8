"""Advice on a smaller base, where the machine is small for the base of the default network."""

import psutil
import torch

from d2l.bases.catalog import BY_ALIAS, find_known
from d2l.bases.devices import name_dtype, pick_dtype

LARGE, SMALL = "qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b"
#: Available bytes from which on the large base leaves memory for other programs.
_ENOUGH = 6e9
#: Speed of the small base in units of that of the large base, for chunks of 129 tokens on one core.
_SPEED = 3


def suggest_smaller(base: str, *, is_chosen: bool, device: str) -> str | None:
    """Suggest the small base in a line, with its memory and speed.

    None if the user has chosen `base` (a name or an alias), if it is another base than the large
    one, or if a CPU has the memory for it and is fast in bf16. `device`: as `pick_device` gives it.
    """
    known, dtype = find_known(base), pick_dtype(device)
    on_cpu = torch.device(device).type == "cpu"
    if is_chosen or known is None or known.alias != LARGE or not on_cpu:
        return None
    free, reasons = psutil.virtual_memory().available, []
    if free < _ENOUGH:
        reasons.append(f"{free / 1e9:.1f} GB of memory are available")
    if dtype == torch.float32:
        reasons.append(f"bases run in {name_dtype(dtype)} on this processor")
    if not reasons:
        return None
    large, small = (BY_ALIAS[alias].n_parameters * dtype.itemsize / 1e9 for alias in (LARGE, SMALL))
    return (
        f"{' and '.join(reasons)}: the weights of {LARGE} take {large:.1f} GB; those of {SMALL} "
        f"take {small:.1f} GB and read {_SPEED} times as fast, but know fewer answers "
        f"(d2l compile --checkpoint {SMALL})"
    )
