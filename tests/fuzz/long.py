"""Fuzz every reader of strangers' bytes for a while, and report: `make fuzz`.

`FUZZ_SECONDS` is shared out among the readers, and a reader's share ends early at `--cases`. Cases
are numbered: `python -m tests.fuzz.long --only READER --start N --cases 1` repeats one, with the
same `--files`. With `--log`, a run that ended goes on where it was.
"""

import argparse
import faulthandler
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tests.fuzz.cases import Outcome, bound_memory, try_bytes, try_case
from tests.fuzz.readers import Reader, make_readers

_SHOWN = 20  # failures and refusals by name, a reader
_PER_PROCESS = 1000  # cases
_HANGS_S = 300.0  # after which a process ends that hears no signal
_BYTES = re.compile(r"b(['\"]).*?\1|\d+")

_readers: dict[str, Reader] = {}  # processes inherit them


def fuzz(name: str, *, start: int, most: int, seconds: float) -> Iterator[tuple[int, Outcome]]:
    """Yield cases within a time; a process that a case takes down is one failure."""
    try_bytes(_readers[name], _readers[name].seeds[0])  # imports what the processes share
    ends, number, last = time.monotonic() + seconds, start, start + most
    while number < last and time.monotonic() < ends:
        with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
            ahead = pool.map(partial(_try, name), range(number, min(number + _PER_PROCESS, last)))
            try:
                for outcome in ahead:
                    yield number, outcome
                    number += 1
            except BrokenProcessPool:
                yield number, Outcome(False, "crashes")
                number += 1


def _try(name: str, number: int) -> Outcome:
    faulthandler.dump_traceback_later(_HANGS_S, exit=True)
    try:
        return try_case(_readers[name], number)
    finally:
        faulthandler.cancel_dump_traceback_later()


def report(name: str, outcomes: dict[int, Outcome]) -> str:
    """Lines about one reader."""
    n_cases, seconds = max(len(outcomes), 1), sum(done.seconds for done in outcomes.values())
    faults = {number: done.fault for number, done in outcomes.items() if done.fault}
    refusals = {number: done.why for number, done in outcomes.items() if done.refused}
    slowest = max(outcomes, key=lambda number: outcomes[number].seconds, default=0)
    lines = [
        f"{name:<26} {len(outcomes):>9,} cases  {len(refusals) / n_cases:>4.0%} refused  "
        f"{n_cases / max(seconds, 1e-9):>8,.0f} a second  {len(faults):>5} failures"
    ]
    if outcomes:
        lines.append(f"    slowest: case {slowest}, {outcomes[slowest].seconds:.2f} s")
    for kind, texts in (("failure", faults), ("refusal", refusals)):
        kinds = {number: _BYTES.sub("N", text)[:150] for number, text in texts.items()}
        for text, n in Counter(kinds.values()).most_common(_SHOWN):
            first = next(number for number in kinds if kinds[number] == text)
            lines.append(f"    {kind} {n} × case {first}: {texts[first][:200]!r}")
    return "\n".join(lines)


def read_log(path: Path | None) -> dict[str, dict[int, Outcome]]:
    """The outcomes of a run before, by reader and case; without the line that it died at."""
    done: dict[str, dict[int, Outcome]] = {}
    for line in path.read_text().split("\n")[:-1] if path and path.exists() else ():
        name, number, *values = json.loads(line)
        done.setdefault(name, {})[number] = Outcome(*values)
    return done


def main() -> None:
    """Run and report; exit code 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=float(os.environ.get("FUZZ_SECONDS", 3600))
    )
    parser.add_argument("--cases", type=int, default=1_000_000, help="most of a reader")
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", nargs="*", default=[], help="readers by name")
    parser.add_argument("--fast", action="store_true", help="fast readers only")
    parser.add_argument("--files", nargs="*", type=Path, default=[], help="folders of seeds")
    parser.add_argument("--log", type=Path, help="of each case; a run goes on behind it")
    parser.add_argument("--report", type=Path, default=Path("build/fuzz.txt"))
    given = parser.parse_args()
    bound_memory()
    given.report.parent.mkdir(parents=True, exist_ok=True)
    memory = Path("/dev/shm")  # a case is a file: where it can be, in memory
    folder = memory if os.access(memory, os.W_OK) else None
    done = read_log(given.log)
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        given.report.open("w", encoding="utf-8") as file,
        (given.log or Path(os.devnull)).open("a", encoding="utf-8", buffering=1) as log,
    ):
        os.environ["D2L_CACHE_DIR"] = str(Path(place, "cache"))
        for name, reader in make_readers(Path(place), given.files).items():
            if (not given.only or name in given.only) and (reader.fast or not given.fast):
                _readers[name] = reader
        ends = time.monotonic() + given.seconds
        for n, name in enumerate(_readers):
            outcomes = done.setdefault(name, {})
            start = max(outcomes, default=given.start - 1) + 1
            share = (ends - time.monotonic()) / (len(_readers) - n)
            most = given.start + given.cases - start
            for number, outcome in fuzz(name, start=start, most=most, seconds=share):
                outcomes[number] = outcome
                log.write(json.dumps([name, number, *vars(outcome).values()]) + "\n")
            text = report(name, outcomes)
            for stream in (sys.stdout, file):
                stream.write(text + "\n")
                stream.flush()
    sys.exit(any(outcome.fault for name in _readers for outcome in done[name].values()))


if __name__ == "__main__":
    main()
