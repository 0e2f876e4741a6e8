"""Runs of engines beside PEFT: `runs.json`, the source of the tables.

The tests of engines write the file (`make test-engines`, `make test-vllm`).
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

RUNS: Final = Path(__file__).with_name("runs.json")


@dataclass(frozen=True)
class EngineRun:
    """Run of an engine beside PEFT, with an adapter of a shipped network.

    Over ten prompts: `cosine`, the lowest between the adapter's changes of the next token's logits
    in both, None if the engine gives no logits; `equal`, greedy answers that equal PEFT's token for
    token; `logprob`, the largest difference in nats between both log-probabilities of a token of
    the engine's greedy answers. Then `answered` of `questions`: answers that contain the reference.
    """

    engine: str  # key of RUNTIMES
    package: str  # name and version
    date: str  # YYYY-MM-DD
    network: str
    seats: int
    cosine: float | None
    equal: int
    logprob: float
    questions: int
    answered: int
    answered_by_peft: int


@cache
def read_runs() -> tuple[EngineRun, ...]:
    """Read all runs, sorted by engine and network."""
    return tuple(EngineRun(**row) for row in json.loads(RUNS.read_text("utf-8")))


def find_last(engine: str) -> EngineRun | None:
    """Find the latest run of an engine; None if it was never run."""
    runs = [run for run in read_runs() if run.engine == engine]
    return max(runs, key=lambda run: run.date, default=None)
