"""Kill the real writers at random moments, and look whether anything was lost: a table.

    python -m tests.tools.kill_writes --repetitions 1000

Each repetition forks a process that writes an adapter, an export, a state or a checkpoint, ends it
with SIGKILL (or takes its disk away), starts again as the next command would, and reads back every
byte: old or new must stand there whole, nothing else beside it.
"""

import argparse
import contextlib
import errno
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from d2l.adapters.info import read_info
from d2l.adapters.peft_folder import AdapterContent, read_adapter, write_adapter
from d2l.adapters.provenance import Provenance
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.errors import D2LError
from d2l.files import renames
from d2l.files.atomic import write_file
from d2l.files.leftovers import recover
from tests.records import MINIMAL

#: What Python tells of before the system is asked to do it (its audit events).
_CALLS = {"open", "os.mkdir", "os.rename", "os.link", "os.chmod", "os.remove", "os.rmdir"}
_OLD, _NEW = 1, 2


class Lost(Exception):
    """Something is neither old nor new, or lies beside it."""


@dataclass(frozen=True)
class Writer:
    """Writes a version, the number, at a path; and reads which version is there whole."""

    write: Callable[[Path, int], object]
    read: Callable[[Path], int]


# ---- what is written ----------------------------------------------------------------------------


def write_version(out: Path, version: int) -> None:
    """A small adapter, every value of which is its version, and every text names it."""
    factors = {
        f"model.layers.{layer}.self_attn.q_proj": LoraFactors(
            torch.full((4, 512), float(version)), torch.full((512, 4), float(version))
        )
        for layer in range(8)
    }
    content = AdapterContent(
        weights=LoraWeights("base", 1.0, factors),
        n_base_layers=8,
        provenance=Provenance.from_json(
            MINIMAL | {"warnings": [f"version {version}"]}, source="a version"
        ),
        texts={"README.md": f"version {version}\n" * 99, "tokenizer.json": f"{version}" * 9999},
    )
    write_adapter(content, out, dtype="fp32", force=True)


def read_version(out: Path) -> int:
    """The version of an adapter; raises Lost where its files are of two."""
    made = read_info(out).provenance
    assert made is not None
    found: set[float] = set()
    for factors in read_adapter(out).factors.values():
        found |= {float(v) for t in (factors.a, factors.b) for v in t.unique()}
    (text,) = set((out / "README.md").read_text().split("\n")) - {""}
    tokens = set((out / "tokenizer.json").read_text())
    (version,) = {*found, float(text.split()[-1]), *map(float, tokens)}
    if made.warnings != (f"version {version:.0f}",):
        raise Lost("two versions in one adapter")
    return int(version)


def write_one_file(out: Path, version: int) -> None:
    """One file of a megabyte in small pieces, as an export in one file is written."""

    def fill(made: Path) -> None:
        with made.open("wb", buffering=1 << 14) as file:
            for _ in range(64):
                file.write(bytes([version]) * (1 << 14))

    write_file(out, fill)


def read_one_file(out: Path) -> int:
    """The version of a file; raises Lost where it is cut short or mixed."""
    data = out.read_bytes()
    if len(data) != 1 << 20 or len(set(data)) != 1:
        raise Lost("half a file")
    return data[0]


ADAPTER = Writer(write_version, read_version)
FILE = Writer(write_one_file, read_one_file)


# ---- how it is stopped --------------------------------------------------------------------------


@dataclass(frozen=True)
class Rehearsal:
    """The same write elsewhere, which nobody stopped: seconds and calls."""

    seconds: float
    n_calls: int


def kill_at_a_moment(write: Callable[[], object], chance: random.Random, usual: Rehearsal) -> str:
    """SIGKILL at any moment of a write, most likely within it."""
    child = _start(write)
    time.sleep(chance.uniform(0, 1.2 * usual.seconds))
    os.kill(child, signal.SIGKILL)
    return _wait(child)


def kill_at_a_call(write: Callable[[], object], chance: random.Random, usual: Rehearsal) -> str:
    """SIGKILL just before one of the calls that change or open files, each as likely."""
    return _fork(partial(_kill_before, write, chance.randrange(usual.n_calls)))


def kill_between_renames(
    write: Callable[[], object], chance: random.Random, usual: Rehearsal
) -> str:
    """SIGKILL when the old folder has been moved aside and the new one has no name yet."""
    del chance, usual

    def killed() -> None:
        move = renames.move_if_free

        def kill(source: Path, target: Path) -> None:
            if any(target.parent.glob(f".{target.name}.*.old")):
                os.kill(os.getpid(), signal.SIGKILL)
            move(source, target)

        import d2l.files.atomic

        d2l.files.atomic.move_if_free = kill
        write()

    outcome = _fork(killed)
    if outcome != "killed":
        raise Lost(f"there was no such moment: {outcome}")
    return outcome


def fill_the_disk(write: Callable[[], object], chance: random.Random, usual: Rehearsal) -> str:
    """No room left at some place of a file, at some call, or when it is to be synced."""
    del usual
    way = chance.choice(["size", "sync", "call"])

    def full() -> None:
        if way == "size":
            resource.setrlimit(resource.RLIMIT_FSIZE, (chance.randrange(1, 80_000),) * 2)
        elif way == "sync":
            _fail_from(os, "fsync", chance.randrange(10))
        else:
            _fail_from(os, "mkdir", 0)
            _fail_from(Path, "write_text", chance.randrange(4))
        with contextlib.suppress(D2LError, OSError, RuntimeError):
            write()
            os._exit(0)
        os._exit(3)

    return _fork(full)


def _fail_from(owner: object, name: str, n_passed: int) -> None:
    call, left = getattr(owner, name), [n_passed]

    def fail(*arguments: object, **named: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return call(*arguments, **named)

    setattr(owner, name, fail)


def _rehearse(write: Callable[[], object]) -> Rehearsal:
    """Let a write happen twice: once by the clock, once with its calls counted, which a child
    tells in its exit code (below 255)."""
    started = time.monotonic()
    _fork(write)
    seconds = time.monotonic() - started
    return Rehearsal(seconds, int(_fork(partial(_count, write)).split()[-1]))


def _count(write: Callable[[], object]) -> None:
    seen = []
    sys.addaudithook(lambda event, _: seen.append(event) if event in _CALLS else None)
    write()
    os._exit(min(len(seen), 254))


def _kill_before(write: Callable[[], object], number: int) -> None:
    left = [number]

    def hook(event: str, _arguments: object) -> None:
        if event in _CALLS:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    write()


def _start(work: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    with contextlib.suppress(BaseException):
        work()
        os._exit(0)
    os._exit(1)


def _fork(work: Callable[[], object]) -> str:
    return _wait(_start(work))


def _wait(child: int) -> str:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {-signal.SIGKILL: "killed", 0: "done"}.get(code, f"exit {code}")


# ---- repetitions --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """What is written, how it is stopped, and whether the system exchanges folders in one step."""

    writer: Writer
    stop: Callable[[Callable[[], object], random.Random, Rehearsal], str]
    two_renames: bool = False


TRIALS = {
    "adapter, any moment": Trial(ADAPTER, kill_at_a_moment),
    "adapter, any moment, two renames": Trial(ADAPTER, kill_at_a_moment, two_renames=True),
    "adapter, any call": Trial(ADAPTER, kill_at_a_call),
    "adapter, any call, two renames": Trial(ADAPTER, kill_at_a_call, two_renames=True),
    "adapter, between the two renames": Trial(ADAPTER, kill_between_renames, two_renames=True),
    "adapter, full disk": Trial(ADAPTER, fill_the_disk),
    "adapter, full disk, two renames": Trial(ADAPTER, fill_the_disk, two_renames=True),
    "file, any moment": Trial(FILE, kill_at_a_moment),
    "file, full disk": Trial(FILE, fill_the_disk),
}


def repeat(trial: Trial, n_times: int, seed: int) -> Counter[str]:
    """Outcomes of many repetitions; raises Lost with the number of the one that lost something."""
    chance, outcomes = random.Random(seed), Counter[str]()
    with _way(trial), tempfile.TemporaryDirectory() as root:
        for number in range(n_times):
            folder = Path(root, str(number))
            (folder / "elsewhere").mkdir(parents=True)
            name = "out"
            try:
                if number % 20 == 0:
                    other = folder / "elsewhere" / name
                    usual = _rehearse(partial(trial.writer.write, other, _OLD))
                shutil.rmtree(folder / "elsewhere")
                outcomes.update(_try_once(trial, folder / name, chance, usual))
            except Exception as error:
                raise Lost(f"repetition {number} (seed {seed}): {error!r}") from error
            shutil.rmtree(folder)
    return outcomes


def _try_once(trial: Trial, place: Path, chance: random.Random, usual: Rehearsal) -> list[str]:
    """Write the old version (or, now and then, none), stop the new one, look."""
    writer = trial.writer
    is_new = trial.stop is not kill_between_renames and chance.random() < 0.2
    if not is_new:
        writer.write(place, _OLD)
    ended = trial.stop(partial(writer.write, place, _NEW), chance, usual)
    if trial.stop is not fill_the_disk:
        recover(place)
    missing = not os.path.lexists(place)
    if missing and not is_new:
        raise Lost("the old one is gone")
    version = 0 if missing else writer.read(place)
    if ended == "done" and version != _NEW:
        raise Lost(f"the write ended, and version {version} is there")
    beside = sorted(p.name for p in place.parent.iterdir() if p != place)
    if beside:
        raise Lost(f"left over: {beside}")
    writer.write(place, _NEW)  # the next command finds its way
    if writer.read(place) != _NEW:
        raise Lost("the next write did not take the place")
    return [ended, {0: "none", _OLD: "old", _NEW: "new"}[version]]


@contextlib.contextmanager
def _way(trial: Trial) -> Iterator[None]:
    found = renames._find_call
    if trial.two_renames:
        renames._find_call = lambda: None
    try:
        yield
    finally:
        renames._find_call = found


def main() -> None:
    """Run the trials that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=f"one of {', '.join(TRIALS)}")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable()  # what came back is counted
    torch.set_num_threads(1)  # threads do not survive a fork
    for name in options.trials or TRIALS:
        started = time.monotonic()
        outcomes = repeat(TRIALS[name], options.repetitions, options.seed)
        counts = ", ".join(f"{key} {n}" for key, n in sorted(outcomes.items()))
        seconds = time.monotonic() - started
        sys.stdout.write(
            f"{name}: {options.repetitions} repetitions, nothing lost: {counts} ({seconds:.0f} s)\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
