"""What engines did with an adapter when they were run: `runs.json`, which the tables are made of.

The tests of engines write the file (`make test-engines`, `make test-vllm`); nobody writes it by
hand.
"""

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

RUNS: Final = Path(__file__).with_name("runs.json")


@dataclass(frozen=True)
class Run:
    """One engine beside PEFT, with one adapter of a network that is shipped.

    Over ten prompts: `cosine`, the lowest between the changes that the adapter makes to the next
    token's logits in both, None where the engine tells no logits; `equal`, greedy answers that are
    PEFT's, token for token; `logprob`, the largest difference in nats between the
    log-probabilities that both give a token of the engine's greedy answers. Then `answered` of
    `questions`: answers that contain the reference.
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
def read_runs() -> tuple[Run, ...]:
    """All runs, by engine and network."""
    return tuple(Run(**row) for row in json.loads(RUNS.read_text("utf-8")))


def find_last(engine: str) -> Run | None:
    """The latest run of an engine; None where it was never run."""
    return max((run for run in read_runs() if run.engine == engine), key=_date, default=None)


def save_run(run: Run) -> None:
    """Put a run into the file, in the place of the one before."""
    read_runs.cache_clear()  # another process may have saved one
    kept = [one for one in read_runs() if (one.engine, one.network) != (run.engine, run.network)]
    rows = sorted([*kept, run], key=lambda one: (one.engine, one.network))
    text = ",\n".join(json.dumps(asdict(row)) for row in rows)
    RUNS.write_text(f"[\n{text}\n]\n", "utf-8", newline="\n")
    read_runs.cache_clear()


def _date(run: Run) -> str:
    return run.date
