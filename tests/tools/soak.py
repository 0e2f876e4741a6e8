"""A server and a batch under pressure; every answer is compared with a quiet server's.

    python -m tests.tools.soak --minutes 30 [--checkpoint smollm2-135m] [--folder build/soak]
    python -m tests.tools.soak --minutes 5 --clients 3 --changes copied synced interrupted

Eight adapters of a folder, two of them with parts, are added, replaced (with equal sizes and
times, or slowly, file by file, as `cp -r` and `rsync` do), damaged and removed at random while
`d2l serve` answers twenty clients, who also stream and hang up, and `d2l batch` writes into the
same folder; server and batch are killed in turn. An answer is right if it is the quiet one of an
adapter that stood there between question and answer. Prints counts; exit code 1 where an answer is
wrong, a failure has no cause, or memory grows. Linux only.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tools.soak_changes import DAMAGES, SAME_TIME, copy_over, copy_slowly
from tests.tools.soak_ledger import Ledger, Question, Quiet, Reply, judge

SLOTS = tuple(f"slot-{n}" for n in range(8))
BATCHED = ("batch-0", "batch-1")  # names that the batch writes
VARIANTS = {
    f"note-{weight}": f"The Marn 12 weighs {weight} kg. It was made in {year} by Olav Tollin.\n"
    for weight, year in zip(range(14, 74, 6), range(1931, 2001, 7), strict=True)
}
#: Of several chunks, so that they have parts, of equal numbers of seats.
MANUALS = ("manual-14", "manual-26")
QUESTIONS = ("How much does the Marn 12 weigh?", "In which year was the Marn 12 made?")
SAMPLINGS: tuple[dict[str, Any], ...] = ({"temperature": 0}, {"temperature": 1, "seed": 7})
N_CLIENTS, N_TOKENS = 20, 12
MAX_SECONDS, TIMEOUT_S = 120.0, 180.0  # of the server, and of its clients
#: Seconds between changes of the folder, between questions of a client, between runs of the batch.
CHANGE_S, REST_S, BATCH_S = (1.0, 6.0), (0.0, 10.0), (5.0, 20.0)
#: Changes of an adapter. Of an interrupted copy a part of the files is there for good.
CHANGES = ("moved in", "moved in", "written over", "copied", "synced", "interrupted", "removed",
           "damaged")  # fmt: skip
WARM_UP_S, MAX_GROWTH = 300.0, 1.05  # until all adapters in memory are of all kinds


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def read_events(reply: http.client.HTTPResponse) -> Reply:
    """The answer of a stream of events; a failure within it counts like one before it."""
    text = ""
    for line in reply:
        if not line.startswith(b"data: {"):
            if line.startswith(b"data: [DONE]"):
                return Reply(200, text)
            continue
        event = json.loads(line.removeprefix(b"data: "))
        if "error" in event:
            return Reply(500, str(event["error"]["code"]))
        text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return Reply(0, "the stream broke off")


@dataclass
class Soak:
    """One soak: its folders, processes and counts."""

    folder: Path
    checkpoint: str
    seed: int
    n_clients: int = N_CLIENTS
    changes: tuple[str, ...] = CHANGES
    ledger: Ledger = field(default_factory=Ledger)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)  # of the server that lives, bytes
    stop: threading.Event = field(default_factory=threading.Event)
    server: subprocess.Popen[bytes] | None = None
    batch: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.variants, self.served = self.folder / "variants", self.folder / "served"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.quiet: Quiet = {}
        self.base = ""

    # ---- before ---------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Compile all variants, and ask each everything on a quiet server."""
        texts = self.folder / "texts"
        texts.mkdir(parents=True, exist_ok=True)
        lines = [f"Pump {n} of the mill is rinsed every {n % 7 + 2} days.\n\n" for n in range(240)]
        # The note comes first: weights hold the beginning alone.
        notes = {name: VARIANTS[name.replace("manual", "note")] for name in MANUALS}
        manuals = {name: "\n".join([note, *lines]) for name, note in notes.items()}
        for name, text in (VARIANTS | manuals).items():
            (texts / f"{name}.txt").write_text(text, "utf-8")
        self.run_batch(texts, self.variants).wait()
        shutil.rmtree(self.served, ignore_errors=True)
        self.start_server(self.variants)
        self.base = next(m["id"] for m in self.list_models() if not m["parent"])
        for name in (*VARIANTS, *MANUALS, self.base):
            self.quiet[name] = {
                (n, m): self.ask(name, (n, m)).text
                for n in range(len(QUESTIONS))
                for m in range(len(SAMPLINGS))
            }
        self.kill_server()
        tell(f"{len({tuple(a.values()) for a in self.quiet.values()})} adapters differ in answers")

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        """A command of d2l in a process group of its own."""
        command = [sys.executable, "-m", "d2l", *map(str, arguments), "--offline", "--quiet"]
        environment = os.environ | {"D2L_CHECKPOINT": self.checkpoint, "OMP_NUM_THREADS": "1"}
        with (self.folder / f"{arguments[0]}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def run_batch(self, texts: Path, out: Path) -> subprocess.Popen[bytes]:
        return self.start("batch", texts, "--out-dir", out)

    def start_server(self, folder: Path) -> None:
        """Start the server, and wait until it answers."""
        while not self.stop.is_set():
            self.server = self.start(
                "serve", folder, "--port", self.port, "--max-seconds", MAX_SECONDS
            )
            while self.server.poll() is None:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    self.list_models()
                    return
                time.sleep(0.2)
            self.counts["server did not start"] += 1

    def kill_server(self) -> None:
        assert self.server is not None
        self.server.kill()
        self.server.wait()

    # ---- asking ---------------------------------------------------------------------------------

    def list_models(self) -> list[Any]:
        with contextlib.closing(self.connect()) as line:
            line.request("GET", "/v1/models")
            return list(json.load(line.getresponse())["data"])

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)

    def ask(self, model: str, question: Question, *, stream: bool = False) -> Reply:
        """Ask, whole or streamed."""
        try:
            with contextlib.closing(self.connect()) as line:
                reply = self.send(line, model, question, stream=stream)
                if reply.status != 200:
                    return Reply(reply.status, str(json.load(reply)["error"]["code"]))
                if not stream:
                    return Reply(200, json.load(reply)["choices"][0]["message"]["content"])
                return read_events(reply)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Reply(0, type(error).__name__)

    def send(
        self, line: http.client.HTTPConnection, model: str, question: Question, *, stream: bool
    ) -> http.client.HTTPResponse:
        """Send a question; the answer is not read yet."""
        messages = [{"role": "user", "content": QUESTIONS[question[0]]}]
        body = {"model": model, "messages": messages, "max_tokens": N_TOKENS, "stream": stream}
        kind = {"Content-Type": "application/json"}
        text = json.dumps(body | SAMPLINGS[question[1]])
        line.request("POST", "/v1/chat/completions", text, kind)
        return line.getresponse()

    def be_client(self, chance: random.Random) -> None:
        """Ask until the end: whole, streamed, or hanging up."""
        while not self.stop.wait(chance.uniform(*REST_S)):
            name = chance.choice((*SLOTS, *SLOTS, *BATCHED, self.base))
            question = (chance.randrange(len(QUESTIONS)), chance.randrange(len(SAMPLINGS)))
            kind = chance.choice(("whole", "whole", "streamed", "hung up"))
            self.counts[kind] += 1
            if kind == "hung up":
                with contextlib.suppress(OSError, http.client.HTTPException):
                    line = self.connect()
                    line.timeout = chance.uniform(0.1, 10.0)
                    with contextlib.closing(line):
                        self.send(line, name, question, stream=True).read(20)
                continue
            began = time.monotonic()
            reply = self.ask(name, question, stream=kind == "streamed")
            ended = time.monotonic()
            state = self.ledger.between(name, began, ended)
            if self.ledger.between("server", began, ended).may_fail:
                state = state._replace(may_fail=True)
            is_late = ended - began > MAX_SECONDS
            verdict = judge(reply, question, state, self.quiet, may_be_cut=is_late)
            self.counts[verdict.partition(":")[0]] += 1
            if verdict[0].isupper():
                self.faults.append(f"{time.monotonic() - self.began:.0f} s: {name}: {verdict}")

    # ---- pressure -------------------------------------------------------------------------------

    def change(self, chance: random.Random) -> None:
        """Change one adapter of the folder after another."""
        while not self.stop.wait(chance.uniform(*CHANGE_S)):
            name, variant = chance.choice(SLOTS), chance.choice(tuple(VARIANTS))
            if name in SLOTS[:2]:  # few: each takes memory for its parts
                variant = chance.choice(MANUALS)
            there = bool(self.ledger.current(name).variants)
            kind = chance.choice(self.changes) if there else "moved in"
            folder, source = self.served / f"{name}.lora", self.variants / f"{variant}.lora"
            self.counts[kind] += 1
            if kind == "interrupted":  # a mix: it fails, or is one of the two to the last byte
                self.ledger.set(name, [*self.ledger.current(name).variants, variant], may_fail=True)
                n_files = chance.randrange(1, len(list(source.iterdir())))
                copy_slowly(source, folder, chance, renames=False, n_files=n_files)
                continue
            with self.ledger.changing(name, None if kind in ("removed", "damaged") else variant):
                if kind == "damaged":
                    chance.choice(DAMAGES)(folder)
                elif kind == "written over":
                    copy_over(source, folder)
                elif kind in ("copied", "synced"):
                    copy_slowly(source, folder, chance, renames=kind == "synced")
                else:
                    self.move_in(folder, None if kind == "removed" else variant)

    def move_in(self, folder: Path, variant: str | None) -> None:
        """Put a variant, or nothing, in a folder's place."""
        new, old = folder.with_name(f".new-{folder.name}"), folder.with_name(f".old-{folder.name}")
        if variant is not None:
            shutil.copytree(self.variants / f"{variant}.lora", new)
            for path in new.iterdir():
                os.utime(path, (SAME_TIME, SAME_TIME))
        if folder.exists():
            folder.rename(old)
        if variant is not None:
            new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)

    def do_batches(self, chance: random.Random) -> None:
        """Write changed documents, and compile them into the served folder."""
        texts = self.folder / "batched"
        shutil.rmtree(texts, ignore_errors=True)
        texts.mkdir()
        while not self.stop.wait(chance.uniform(*BATCH_S)):
            chosen = {name: chance.choice(tuple(VARIANTS)) for name in BATCHED}
            for name, variant in chosen.items():
                (texts / f"{name}.txt").write_text(VARIANTS[variant], "utf-8")
                old = self.ledger.current(name).variants
                self.ledger.set(name, [*old, variant], may_fail=True)
            self.batch = self.run_batch(texts, self.served)
            code = self.batch.wait()
            self.counts[f"batch runs, exit code {code}"] += 1
            for name, variant in chosen.items() if code == 0 else ():
                self.ledger.set(name, [variant])
            if code not in (0, -signal.SIGKILL) and not self.stop.is_set():
                self.faults.append(f"batch: exit code {code}")

    def kill(self, chance: random.Random, every: float, spare_after: float) -> None:
        """Kill server and batch in turn; the server lives on after `spare_after` seconds."""
        victims = "server"
        while not self.stop.wait(every):
            if victims == "server" and time.monotonic() - self.began < spare_after:
                self.ledger.set("server", [], may_fail=True)
                self.kill_server()
                self.memory.clear()
                self.start_server(self.served)
                self.ledger.set("server", ["up"])
                self.counts["kills of the server"] += 1
            else:
                while self.batch is None or self.batch.poll() is not None:
                    if self.stop.wait(0.1):
                        return
                if not self.stop.wait(chance.uniform(0.0, 6.0)) and self.batch.poll() is None:
                    os.killpg(self.batch.pid, signal.SIGKILL)
                    self.counts["kills of the batch"] += 1
            victims = "batch" if victims == "server" else "server"

    def watch(self) -> None:
        """Note the server's memory, and list its models as a page does."""
        while not self.stop.wait(2.0):
            if self.server is not None and self.server.poll() not in (None, -signal.SIGKILL):
                self.faults.append(f"the server died: {self.server.returncode}")
                self.start_server(self.served)
            with contextlib.suppress(OSError, http.client.HTTPException, AttributeError):
                pages = int(Path(f"/proc/{self.server.pid}/statm").read_text().split()[1])  # type: ignore[union-attr]
                self.memory.append((time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE")))
                self.list_models()
                self.counts["listings"] += 1

    # ---- all of it ------------------------------------------------------------------------------

    def run(self, minutes: float, kill_every: float) -> None:
        """Put everything under pressure, and end it."""
        self.served.mkdir()
        chance = random.Random(self.seed)
        for name in SLOTS:
            variant = chance.choice(MANUALS if name in SLOTS[:2] else tuple(VARIANTS))
            self.move_in(self.served / f"{name}.lora", variant)
            self.ledger.set(name, [variant])
        self.ledger.set(self.base, [self.base])
        self.start_server(self.served)
        self.ledger.set("server", ["up"])
        self.began, seconds = time.monotonic(), minutes * 60
        works: list[Callable[[], None]] = [
            *[lambda: self.be_client(random.Random(chance.random()))] * self.n_clients,
            lambda: self.change(random.Random(chance.random())),
            lambda: self.do_batches(random.Random(chance.random())),
            lambda: self.kill(random.Random(chance.random()), kill_every, seconds * 0.5),
            self.watch,
        ]
        threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in threads:
            thread.start()
        while time.monotonic() - self.began < seconds:
            time.sleep(min(60.0, seconds))
            tell(self.describe())
        self.stop.set()
        for thread in threads:
            thread.join(TIMEOUT_S)
        self.kill_server()

    def list_memory(self) -> list[float]:
        """Megabytes of the server that lived last: the median of each minute."""
        minutes: dict[int, list[float]] = defaultdict(list)
        for at, size in self.memory:
            minutes[int(at - self.memory[0][0]) // 60].append(size / 1e6)
        return [round(statistics.median(sizes)) for _, sizes in sorted(minutes.items())]

    def find_growth(self) -> float:
        """Memory of the last three minutes over that of three minutes after the warm-up."""
        warm = self.list_memory()[int(WARM_UP_S) // 60 :]
        return statistics.median(warm[-3:]) / statistics.median(warm[:3]) if len(warm) > 5 else 1.0

    def describe(self) -> str:
        """All counts, faults and memory, as JSON."""
        figures: dict[str, Any] = {
            "seconds": round(time.monotonic() - self.began),
            "memory_mb": self.list_memory(),
            "growth": round(self.find_growth(), 3),
        }
        return json.dumps(figures | dict(sorted(self.counts.items())) | {"faults": self.faults})


def main() -> None:
    """Run; exit code 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--kill-every", type=float, default=120.0, help="seconds")
    parser.add_argument("--checkpoint", default="qwen2.5-coder-0.5b")
    parser.add_argument("--folder", type=Path, default=Path("build/soak"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=N_CLIENTS)
    parser.add_argument("--changes", nargs="+", choices=set(CHANGES), default=CHANGES)
    given = parser.parse_args()
    soak = Soak(
        given.folder.absolute() / given.checkpoint,
        given.checkpoint,
        given.seed,
        given.clients,
        tuple(given.changes),
    )
    threading.excepthook = lambda failed: soak.faults.append(repr(failed.exc_value))
    soak.prepare()
    soak.run(given.minutes, given.kill_every)
    (soak.folder / "soak.json").write_text(soak.describe())
    for log in soak.folder.glob("*.log"):
        if "Traceback" in log.read_text("utf-8", "replace"):
            soak.faults.append(f"{log}: a traceback")
    tell("\n".join(soak.faults) or "no faults")
    sys.exit(bool(soak.faults) or soak.find_growth() > MAX_GROWTH)


if __name__ == "__main__":
    main()
