"""Run a parser in a child process, under limits of time, memory and output.

Takes a format name and a parse request, gives what the parser found; every failure of the child
becomes one line. Knows no format: the child looks the parser up.
"""

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import d2l
from d2l.documents.document import Section
from d2l.documents.parsing import Parsed, ParseRequest
from d2l.errors import DocumentError

MAX_LINE_BYTES_PER_CHAR = 12  # JSON spells one character in two escapes of six bytes at most
REPLY_OVERHEAD_BYTES = 1 << 24  # around the text: section heads, notes, progress
# Where this package lies goes last on the path: an installed one is found before, and -P keeps
# the working folder, where a document may come from, off it.
START_WORKER = (
    "import sys; sys.path.append(sys.argv[1]); from d2l.documents.worker import main; main()"
)
SIGNALS = {6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 24: "SIGXCPU"}

Lines = queue.SimpleQueue[bytes]


@dataclass(frozen=True)
class ReadLimits:
    """Bounds of reading one document; a manual of 1,000 pages stays within the defaults."""

    max_bytes: int = 200_000_000  # of the file
    max_chars: int = 20_000_000  # of its text
    seconds: float = 300.0  # of the parser, by the clock
    memory_bytes: int = 2_000_000_000  # of the parser, its address space

    def __post_init__(self) -> None:
        for option, value in (
            ("--max-bytes", self.max_bytes),
            ("--max-chars", self.max_chars),
            ("--parse-seconds", self.seconds),
            ("--parse-memory", self.memory_bytes),
        ):
            if not value > 0:
                raise DocumentError(f"{option} {value:g}: not above 0", hint="give a larger limit")


def run_in_child(format: str, request: ParseRequest, limits: ReadLimits) -> Parsed:
    """Parse in a child process that is gone when this returns or raises."""
    with tempfile.TemporaryFile() as letter, tempfile.TemporaryFile() as errors:
        write_request(letter, format, request, limits)
        with start_worker(letter, errors, request.max_chars) as (worker, lines):
            reply = wait_for_reply(lines, request, limits)
            if reply is None:
                worker.wait()  # its output has ended, so it is about to
                errors.seek(0)
                raise explain_death(worker.returncode, errors.read(), request, limits)
    if "error" in reply:
        raise DocumentError(reply["error"]["message"], hint=reply["error"]["hint"])
    if "failure" in reply:
        raise explain_failure(reply["failure"], format, request, limits)
    sections = tuple(Section(*fields) for fields in reply["sections"])
    return Parsed(sections, tuple(reply["notes"]))


def write_request(
    letter: IO[bytes], format: str, request: ParseRequest, limits: ReadLimits
) -> None:
    """Write what the worker reads: a line of JSON, then the document's bytes."""
    head = {
        "format": format,
        "name": request.name,
        "password": request.password,
        "encoding": request.encoding,
        "max_chars": request.max_chars,
        "max_unpacked_bytes": request.max_unpacked_bytes,
        "memory_bytes": limits.memory_bytes,
        "seconds": limits.seconds,
    }
    letter.write(json.dumps(head).encode() + b"\n")
    letter.write(request.data)
    letter.seek(0)


@contextmanager
def start_worker(
    letter: IO[bytes], errors: IO[bytes], max_chars: int
) -> Iterator[tuple[subprocess.Popen[bytes], Lines]]:
    """Start the child; kill it and wait for its end on the way out, whatever happened."""
    root = str(Path(d2l.__file__).resolve().parents[1])
    with subprocess.Popen(
        [sys.executable, "-P", "-c", START_WORKER, root],
        stdin=letter,
        stdout=subprocess.PIPE,
        stderr=errors,
    ) as worker:
        lines: Lines = queue.SimpleQueue()
        max_bytes = REPLY_OVERHEAD_BYTES + MAX_LINE_BYTES_PER_CHAR * max_chars
        pump = threading.Thread(
            target=pump_lines, args=(worker.stdout, lines, max_bytes), daemon=True
        )
        try:
            pump.start()
            yield worker, lines
        finally:
            worker.kill()
            pump.join()


def wait_for_reply(
    lines: Lines, request: ParseRequest, limits: ReadLimits
) -> dict[str, Any] | None:
    """Pass progress on until the reply comes; None if the child ends without one."""
    deadline = time.monotonic() + limits.seconds
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise too_slow(request, limits) from None
        if not line.endswith(b"\n"):
            return None
        message: dict[str, Any] = json.loads(line)
        if "progress" not in message:
            return message
        request.on_progress(*message["progress"])


def pump_lines(stream: IO[bytes], lines: Lines, max_bytes: int) -> None:
    """Move lines from a pipe to a queue; an incomplete line marks the end."""
    while True:
        line = stream.readline(max_bytes)
        lines.put(line)
        if not line.endswith(b"\n"):
            return


def explain_death(
    code: int, errors: bytes, request: ParseRequest, limits: ReadLimits
) -> DocumentError:
    """Tell why the child ended without a reply, from its exit code."""
    if b"d2l worker ready" not in errors:  # not the document's fault: a broken installation
        raise RuntimeError(f"the parser process did not start: {errors.decode(errors='replace')}")
    name = SIGNALS.get(-code, f"signal {-code}" if code < 0 else f"exit code {code}")
    if name == "SIGXCPU":
        return too_slow(request, limits)
    if name == "SIGKILL":
        return too_hungry(request, limits)
    return DocumentError(
        f"{request.name}: damaged or not a valid document (the parser crashed: {name})",
        hint="get an intact copy of the file, or open it in its own program and save it anew",
    )


def explain_failure(
    failure: str, format: str, request: ParseRequest, limits: ReadLimits
) -> DocumentError:
    """Tell what an exception in the child, given by its name, says about the document."""
    if failure == "MemoryError":
        return too_hungry(request, limits)
    return DocumentError(
        f"{request.name}: damaged or not a valid {format} document ({failure})",
        hint="get an intact copy of the file, or open it in its own program and save it anew",
    )


def too_slow(request: ParseRequest, limits: ReadLimits) -> DocumentError:
    """Say that the time is up."""
    return DocumentError(
        f"{request.name}: parser took more than {limits.seconds:g} seconds",
        hint="raise the limit with --parse-seconds if you trust the file",
    )


def too_hungry(request: ParseRequest, limits: ReadLimits) -> DocumentError:
    """Say that the memory is used up."""
    return DocumentError(
        f"{request.name}: parser used more than {name_size(limits.memory_bytes)} of memory",
        hint="raise the limit with --parse-memory if you trust the file",
    )


def name_size(size_bytes: int) -> str:
    """Write a size in the unit that suits it."""
    return f"{size_bytes / 1e9:g} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:g} MB"
