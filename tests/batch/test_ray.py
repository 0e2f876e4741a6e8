"""`--engine ray` on a real Ray with two actors on this machine; it or an actor is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from d2l.api.compiler import Compiler
from d2l.batch.ray_engine import run_on_ray
from d2l.batch.rows import BatchRow
from d2l.batch.work import Job
from d2l.errors import MissingExtraError
from d2l.hypernets.options import CompileOptions
from tests import tiny
from tests.batch.test_batch import read_results
from tests.compiled import read_files, write_files

N_DOCUMENTS = 40


@pytest.mark.slow
def test_a_killed_run_and_a_killed_actor_make_the_same_bytes(working_folder: Path) -> None:
    pytest.importorskip("ray")
    write_files(working_folder, "seats")
    (working_folder / "docs").mkdir()
    for n in range(N_DOCUMENTS):
        text = f"Pump {n} stands in the harbor. It is rinsed every {n + 2} days."
        (working_folder / "docs" / f"{n:02}.txt").write_text(text, "utf-8")
    network = ("--checkpoint", "checkpoint", "--base", tiny.base_name("llama"), "--device", "cpu")
    command = [sys.executable, "-m", "d2l", "batch", "docs", "--out-dir", "many", *network]
    command += ["--offline", "--engine", "ray", "--workers", "2", "--json"]
    killed: list[int] = []
    # Ray has a number of threads of its own otherwise, and another number rounds otherwise.
    # And its workers give way to all others, which on a busy machine is for ever.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    environment["D2L_CACHE_MAX_SIZE"] = "0"
    with subprocess.Popen(
        command, cwd=working_folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        next(line for line in first.stdout if json.loads(line)["event"] == "row")
        first.kill()
    process = subprocess.Popen(
        command, cwd=working_folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    threading.Thread(target=kill_one, args=(process.pid, working_folder, killed)).start()
    output, _ = process.communicate(timeout=540)
    events = [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 0
    assert events[-1]["unchanged"] > 0
    assert killed, "no actor was found while rows were in work"
    assert (events[-1]["rows"], events[-1]["failed"]) == (N_DOCUMENTS, 0)
    rows = read_results(working_folder / "many" / "results.jsonl")
    assert [row["id"] for row in rows] == [f"docs/{n:02}.txt" for n in range(N_DOCUMENTS)]
    assert {row["status"] for row in rows} == {"done"}
    options = CompileOptions("checkpoint", tiny.base_name("llama"), device="cpu", offline=True)
    compiler = Compiler(options)
    for row in rows:
        out = working_folder / "alone" / Path(row["out"]).name
        alone = read_files(compiler(row["id"]).save_pretrained(out))
        assert read_files(working_folder / row["out"]) == alone


def kill_one(pid: int, folder: Path, killed: list[int]) -> None:
    """Kill an actor once some more adapters are there."""
    n_before = len(list((folder / "many").glob("*.lora")))
    while len(list((folder / "many").glob("*.lora"))) < n_before + 3:
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.05)
    words = ["ps", "-eo", "pid=,args="]
    listed = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        number, words = line.split(None, 1)
        if words.startswith("ray::") and "MapBatches(RowActor)" in words and descends(number, pid):
            os.kill(int(number), signal.SIGKILL)
            killed.append(int(number))
            return


def descends(number: str, ancestor: int) -> bool:
    """Whether a process is below another."""
    at = int(number)
    while at > 1:
        if at == ancestor:
            return True
        try:
            at = int(Path(f"/proc/{at}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            return False
    return False


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    rows = [BatchRow("a", "a.lora", ("a.txt",))]
    with pytest.raises(MissingExtraError) as caught:
        list(run_on_ray(Job("out", CompileOptions("checkpoint")), rows, n_workers=1))
    assert caught.value.hint == "pip install 'd2l[ray]'"
