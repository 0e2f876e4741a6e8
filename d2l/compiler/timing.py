"""Estimates of compiling time, by the last runs on this machine.

A plan in, seconds out. The rates are in the cache folder; without them there is no estimate.
"""

from d2l.compiler.plan import CompilePlan
from d2l.files.cache import read_memory, write_memory

_FILE = "rates.json"
#: Runs for an estimate: other work on the machine makes each run slower or faster.
_RUNS = 5


def estimate_seconds(plan: CompilePlan, device: str) -> tuple[float, float] | None:
    """Estimate the shortest and the longest time after loading, at the rates of the last runs on
    this machine; None without any."""
    rates = _read_rates(_key(plan, device))
    return (plan.n_tokens / max(rates), plan.n_tokens / min(rates)) if rates else None


def describe_estimate(seconds: tuple[float, float] | None) -> str:
    """Describe an estimate: "1.8 to 4.3 s after loading, by the last runs here"."""
    if seconds is None:
        return "not known before the first run on this machine"
    low, high = (f"{value:,.1f}" for value in seconds)
    span = f"about {low}" if low == high else f"{low} to {high}"
    return f"{span} s after loading, by the last runs here"


def remember_rate(plan: CompilePlan, device: str, seconds: float) -> None:
    """Store tokens a second of a finished run, unless it was too short."""
    if plan.n_tokens >= 256 and seconds > 0:
        key = _key(plan, device)
        rates = [*_read_rates(key), plan.n_tokens / seconds][-_RUNS:]
        spelled = " ".join(f"{rate:.1f}" for rate in rates)
        write_memory(_FILE, read_memory(_FILE) | {key: spelled}, most=100)


def _read_rates(key: str) -> list[float]:
    try:
        rates = [float(rate) for rate in read_memory(_FILE).get(key, "").split()]
    except ValueError:
        return []
    return [rate for rate in rates if 0 < rate < 1e12]


def _key(plan: CompilePlan, device: str) -> str:
    return f"{plan.config.kind}:{plan.config.base}:{device}:{plan.base_dtype}"
