"""How long compiling took the last time, to say how long it will take.

A plan in, seconds out. Kept in the cache folder; losing it only loses the estimate.
"""

import contextlib

from d2l.compiler.plan import CompilePlan
from d2l.files.cache import read_memory, write_memory

_FILE = "rates.json"
#: Assumed until there is a measurement, in multiply-adds a second: half of what two laptop cores
#: reach in fp32 with SmolLM2-135M, and a fifth of a data-center GPU's bf16 peak.
_STATED = {"cpu": 2.5e10, "mps": 5e11, "cuda": 5e13}


def estimate_seconds(plan: CompilePlan, device: str) -> tuple[float, str]:
    """(seconds past start-up, where the figure comes from: "last run" or "stated rate")."""
    with contextlib.suppress(ValueError):
        known = float(read_memory(_FILE).get(_key(plan, device), ""))
        if 0 < known < 1e12:
            return plan.n_tokens / known, "last run"
    config = plan.base.config
    hidden, inner = int(config.hidden_size), int(config.intermediate_size)
    per_token = int(config.num_hidden_layers) * (4 * hidden * hidden + 3 * hidden * inner)
    return plan.n_tokens * per_token / _STATED[device.split(":")[0]], "stated rate"


def remember_rate(plan: CompilePlan, device: str, seconds: float) -> None:
    """Store tokens a second of a finished run; short runs say little and are left out."""
    if plan.n_tokens >= 256 and seconds > 0:
        rate = f"{plan.n_tokens / seconds:.1f}"
        write_memory(_FILE, read_memory(_FILE) | {_key(plan, device): rate}, most=100)


def _key(plan: CompilePlan, device: str) -> str:
    return f"{plan.config.kind}:{plan.config.base}:{device}"
