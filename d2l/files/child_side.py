"""The child's side of `child`: a request on stdin, lines of JSON on stdout.

Light to import: the parent waits for the start.
"""

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

#: (request, bytes behind it) → reply.
Work = Callable[[dict[str, Any], bytes], dict[str, Any]]
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def serve(work: Work) -> None:
    """Do one piece of work, within the limits that stand on stdin."""
    head = json.loads(sys.stdin.buffer.readline())
    sys.stderr.write("d2l worker ready\n")
    sys.stderr.flush()
    sys.excepthook = _reply_failure
    die_with_parent(int(head["parent"]))
    limit_resources(int(head["memory_bytes"]), float(head["seconds"]))
    reply(work(head["request"], sys.stdin.buffer.read()))


def die_with_parent(parent: int) -> None:
    """End with the process of this number, even if it is killed."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    elif sys.platform != "win32":
        threading.Thread(target=watch_parent, args=(parent,), daemon=True).start()
    if sys.platform != "win32" and os.getppid() != parent:  # the parent has ended already
        os._exit(1)


def run_program(command: Sequence[str], data: bytes) -> tuple[int, bytes]:
    """Run a program that ends with this process; return its exit code and output."""
    import subprocess

    end = partial(die_with_parent, os.getpid()) if sys.platform == "linux" else None
    done = subprocess.run(command, input=data, capture_output=True, check=False, preexec_fn=end)
    return done.returncode, done.stdout


def watch_parent(parent: int) -> None:
    """Check every second that the parent still lives."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def limit_resources(memory_bytes: int, seconds: float) -> None:
    """Bound address space and processor time, where the system can."""
    if sys.platform == "win32":
        return
    import resource

    def lower(kind: int, soft: int) -> None:
        hard = resource.getrlimit(kind)[1]
        soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(kind, (soft, hard))

    lower(resource.RLIMIT_AS, memory_bytes)
    lower(resource.RLIMIT_CPU, math.ceil(seconds) + 1)
    lower(resource.RLIMIT_CORE, 0)


def reply(message: dict[str, Any]) -> None:
    """Write one line, in ASCII, so that any text passes."""
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


def _reply_failure(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Reply with the name of an unexpected exception; the parent makes a message of it."""
    reply({"failure": kind.__name__})
    sys.__excepthook__(kind, error, trace)
