"""Fuzz every reader of strangers' bytes for a while, and report: `make fuzz`.

`FUZZ_SECONDS` is shared out among the readers, and a reader's share ends early at `--cases`. Cases
are numbered: `python -m tests.fuzz.long --only READER --start N --cases 1` repeats one.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.cases import bound_memory, try_case
from tests.fuzz.readers import Reader, make_readers

_SHOWN = 20  # failures by name, a reader


def fuzz(reader: Reader, *, start: int, most: int, seconds: float) -> tuple[int, int, list[str]]:
    """(cases, how many of them were refused, what went wrong) within a time."""
    ends, n_cases, n_refused = time.monotonic() + seconds, 0, 0
    faults: list[str] = []
    while n_cases < most and time.monotonic() < ends:
        outcome = try_case(reader, start + n_cases)
        n_refused += outcome.refused
        if outcome.fault:
            faults.append(f"case {start + n_cases}: {outcome.fault}")
        n_cases += 1
    return n_cases, n_refused, faults


def report(name: str, cases: int, refused: int, seconds: float, faults: list[str]) -> str:
    """Lines about one reader."""
    share = refused / max(cases, 1)
    lines = [
        f"{name:<26} {cases:>9,} cases  {share:>4.0%} refused  {cases / max(seconds, 1e-9):>8,.0f} "
        f"a second  {len(faults):>5} failures"
    ]
    kinds = Counter(fault.partition(": ")[2][:100] for fault in faults)
    for kind, n in kinds.most_common(_SHOWN):
        first = next(fault for fault in faults if fault.partition(": ")[2][:100] == kind)
        lines.append(f"    {n} × {first}")
    return "\n".join(lines)


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
    parser.add_argument("--report", type=Path, default=Path("build/fuzz.txt"))
    given = parser.parse_args()
    bound_memory()
    failed = False
    given.report.parent.mkdir(parents=True, exist_ok=True)
    memory = Path("/dev/shm")  # a case is a file: where it can be, in memory
    folder = memory if os.access(memory, os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        given.report.open("w", encoding="utf-8") as file,
    ):
        os.environ["D2L_CACHE_DIR"] = str(Path(place, "cache"))
        readers = {
            name: reader
            for name, reader in make_readers(Path(place)).items()
            if (not given.only or name in given.only) and (reader.fast or not given.fast)
        }
        ends = time.monotonic() + given.seconds
        for n, (name, reader) in enumerate(readers.items()):
            share = (ends - time.monotonic()) / (len(readers) - n)
            began = time.monotonic()
            cases, refused, faults = fuzz(
                reader, start=given.start, most=given.cases, seconds=share
            )
            text = report(name, cases, refused, time.monotonic() - began, faults)
            for stream in (sys.stdout, file):
                stream.write(text + "\n")
                stream.flush()
            failed = failed or bool(faults)
    sys.exit(failed)


if __name__ == "__main__":
    main()
