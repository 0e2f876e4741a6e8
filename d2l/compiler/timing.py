"""How long compiling took the last time, to say how long it will take.

A plan in, seconds out. Kept in the cache folder; losing it only loses the estimate.
"""

import contextlib
import json
from pathlib import Path

from d2l.compiler.plan import CompilePlan
from d2l.files.atomic import replace_file
from d2l.files.cache import cache_dir

#: Assumed until there is a measurement, in multiply-adds a second: half of what two laptop cores
#: reach in fp32 with SmolLM2-135M, and a fifth of a data-center GPU's bf16 peak.
_STATED = {"cpu": 2.5e10, "mps": 5e11, "cuda": 5e13}


def estimate_seconds(plan: CompilePlan, device: str) -> tuple[float, str]:
    """(seconds past start-up, where the figure comes from: "last run" or "stated rate")."""
    known = _read(_file()).get(_key(plan, device))
    if known is not None:
        return plan.n_tokens / known, "last run"
    config = plan.base.config
    hidden, inner = int(config.hidden_size), int(config.intermediate_size)
    per_token = int(config.num_hidden_layers) * (4 * hidden * hidden + 3 * hidden * inner)
    return plan.n_tokens * per_token / _STATED[device.split(":")[0]], "stated rate"


def remember_rate(plan: CompilePlan, device: str, seconds: float) -> None:
    """Store tokens a second of a finished run; short ones say little and are left out."""
    if plan.n_tokens < 256 or seconds <= 0:
        return
    path = _file()
    rates = _read(path) | {_key(plan, device): round(plan.n_tokens / seconds, 1)}
    text = json.dumps(rates, sort_keys=True)
    with contextlib.suppress(OSError):  # an estimate is not worth failing a finished run
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda target: target.write_text(text, "utf-8"))


def _file() -> Path:
    return cache_dir() / "rates.json"


def _key(plan: CompilePlan, device: str) -> str:
    return f"{plan.config.kind}:{plan.config.base}:{device}"


def _read(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {k: float(v) for k, v in found.items() if isinstance(v, int | float) and 0 < v < 1e12}
