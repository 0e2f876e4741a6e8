"""Run work on a stranger's data in a child process, under limits of time, memory and output.

A module's name and a request in, its reply out; the child runs `child_side`. Callers turn `Stopped`
into an error that names their work.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import d2l
from d2l.errors import D2LError
from d2l.progress import Steps, ignore_steps

#: The child's first line on its standard error; without it, the installation is broken.
READY = b"d2l worker ready"
# This package's folder goes last on the path, so that an installed package comes first. -P keeps
# the working folder off the path: strangers' files may lie there.
_START = (
    "import sys; sys.path.append(sys.argv[1]); import importlib; "
    "importlib.import_module(sys.argv[2]).main()"
)
_SIGNALS = {6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 24: "SIGXCPU"}

_Lines = queue.SimpleQueue[bytes]


class Limits(NamedTuple):
    """Bounds of one piece of work: wall-clock time, address space, and length of the reply."""

    seconds: float
    memory_bytes: int
    reply_bytes: int


class Stopped(Exception):
    """The child gave no reply. `why`: "time", "memory", "output", "crash" or "exception"; `cause`
    names the signal, exit code or exception of the last two."""

    def __init__(self, why: str, cause: str = "") -> None:
        super().__init__(f"{why} {cause}".strip())
        self.why, self.cause = why, cause


def ask_child(
    module: str,
    request: Mapping[str, Any],
    limits: Limits,
    *,
    data: bytes = b"",
    on_progress: Steps = ignore_steps,
) -> dict[str, Any]:
    """Return the reply of a module's `main` to a request of JSON values and bytes.

    The child has ended when this returns or raises, and never survives this process. Raises
    Stopped, and D2LError where temporary files cannot be written.
    """
    with _open_scratch() as letter, _open_scratch() as errors:
        bounds = {"seconds": limits.seconds, "memory_bytes": limits.memory_bytes}
        head = {"request": dict(request), "parent": os.getpid(), **bounds}
        with _naming_scratch():
            letter.write(json.dumps(head).encode() + b"\n")
            letter.write(data)
            letter.seek(0)
        with _start(module, letter, errors, limits) as (worker, lines):
            reply = _wait_for_reply(lines, limits, on_progress)
            if reply is None:
                worker.wait()  # its output has ended, so it is about to
                errors.seek(0)
                raise explain_death(worker.returncode, errors.read())
    if "failure" in reply:
        failure = str(reply["failure"])
        raise Stopped("memory") if failure == "MemoryError" else Stopped("exception", failure)
    return reply


@contextmanager
def _open_scratch() -> Iterator[IO[bytes]]:
    """Open a file without a name: in memory on Linux, where it needs no folder for temporary files,
    which may be full or missing."""
    with _naming_scratch():
        file: IO[bytes]
        if sys.platform == "linux":
            file = os.fdopen(os.memfd_create("d2l"), "w+b")
        else:
            file = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        yield file
    finally:
        with suppress(OSError):  # closing tries once more to write
            file.close()


@contextmanager
def _naming_scratch() -> Iterator[None]:
    """Turn the system's errors about temporary files into one line."""
    try:
        yield
    except OSError as error:
        raise D2LError(
            f"temporary files cannot be written ({error.strerror or error})",
            hint="free some space, or name another folder for them in TMPDIR",
        ) from error


@contextmanager
def _start(
    module: str, letter: IO[bytes], errors: IO[bytes], limits: Limits
) -> Iterator[tuple[subprocess.Popen[bytes], _Lines]]:
    """Start the child; kill it and wait for its end when the block ends."""
    root = str(Path(d2l.__file__).resolve().parents[1])
    with subprocess.Popen(
        [sys.executable, "-P", "-c", _START, root, module],
        stdin=letter,
        stdout=subprocess.PIPE,
        stderr=errors,
    ) as worker:
        lines: _Lines = queue.SimpleQueue()
        pump = threading.Thread(
            target=_pump_lines, args=(worker.stdout, lines, limits.reply_bytes), daemon=True
        )
        try:
            pump.start()
            yield worker, lines
        finally:
            worker.kill()
            pump.join()


def _wait_for_reply(lines: _Lines, limits: Limits, on_progress: Steps) -> dict[str, Any] | None:
    """Pass progress on until the reply comes; None if the child ends without one."""
    deadline = time.monotonic() + limits.seconds
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise Stopped("time") from None
        if not line.endswith(b"\n"):
            if len(line) >= limits.reply_bytes:
                raise Stopped("output")
            return None
        message: dict[str, Any] = json.loads(line)
        if "progress" not in message:
            return message
        on_progress(*message["progress"])


def _pump_lines(stream: IO[bytes], lines: _Lines, max_bytes: int) -> None:
    """Move lines from a pipe to a queue; an incomplete line marks the end."""
    while True:
        line = stream.readline(max_bytes)
        lines.put(line)
        if not line.endswith(b"\n"):
            return


def explain_death(code: int, errors: bytes) -> Stopped:
    """Explain why a child ended without a reply, by its exit code and its standard error."""
    if READY not in errors:  # not the data's fault: a broken installation
        raise RuntimeError(f"the parser process did not start: {errors.decode(errors='replace')}")
    name = _SIGNALS.get(-code, f"signal {-code}" if code < 0 else f"exit code {code}")
    return {"SIGXCPU": Stopped("time"), "SIGKILL": Stopped("memory")}.get(
        name, Stopped("crash", name)
    )
