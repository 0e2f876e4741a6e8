"""Devices: the choice of one for a model, and of a precision."""

import os
import re

import torch

from d2l.bases.precision import find_speedup
from d2l.errors import BaseModelError

#: Variable that names the precision of bases, where no option does.
DTYPE_VARIABLE = "D2L_BASE_DTYPE"
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def pick_device(device: str) -> str:
    """Resolve "auto" to CUDA, then MPS, then CPU; refuse a device this machine does not have."""
    n_cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if n_cards else "mps" if torch.backends.mps.is_available() else "cpu"
    match = re.fullmatch(r"(cpu|cuda|mps)(?::([0-9]{1,3}))?", device)
    if match is None:
        raise BaseModelError(
            f"unknown device {device!r}", hint="use auto, cpu, cuda, cuda:N or mps"
        )
    n_present = {"cpu": 1, "cuda": n_cards, "mps": int(torch.backends.mps.is_available())}
    if int(match[2] or 0) >= n_present[match[1]]:
        reason, hint = "", "use --device auto"
        if match[1] == "cuda":
            reason, hint = explain_no_cuda() or (f"CUDA devices here: {n_cards}", hint)
        raise BaseModelError(
            f"device {device!r} is not available on this machine" + (reason and f": {reason}"),
            hint=hint,
        )
    return device


def explain_no_cuda() -> tuple[str, str] | None:
    """Explain why torch reaches no CUDA device, with a hint; None if it reaches one."""
    if torch.cuda.is_available():
        return None
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return "this torch has no CUDA", "install the CUDA build of torch, or use --device auto"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        reason = "no CUDA device"
    except (RuntimeError, AssertionError) as error:  # no driver, an old driver, no card
        reason = str(error).split(". ")[0]
    return reason, "`nvidia-smi` shows driver and cards; or use --device auto"


def is_cuda(device: str | torch.device) -> bool:
    """True if a device is a CUDA device. Call it as `devices.is_cuda`, so that a test can replace
    it."""
    return torch.device(device).type == "cuda"


def pick_dtype(device: str, *, measured: bool = True) -> torch.dtype:
    """Pick the precision of a base: that of `D2L_BASE_DTYPE`; else bf16 on CUDA, and on a CPU that
    computes faster in bf16; else fp32. Without `measured` a CPU gets fp32. Raises BaseModelError
    for an unknown precision."""
    wanted = os.environ.get(DTYPE_VARIABLE)
    if wanted:
        if wanted not in _DTYPES:
            raise BaseModelError(
                f"{DTYPE_VARIABLE} is {wanted!r}", hint=f"choose from {', '.join(_DTYPES)}"
            )
        return _DTYPES[wanted]
    on_cpu = torch.device(device).type == "cpu"
    is_fast = find_speedup().pays if on_cpu and measured else is_cuda(device)
    return torch.bfloat16 if is_fast else torch.float32


def name_dtype(dtype: torch.dtype) -> str:
    """Name a precision as options spell it."""
    return next((name for name, known in _DTYPES.items() if known == dtype), str(dtype))
