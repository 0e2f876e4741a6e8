"""`d2l batch`: every row ends done once, however processes end, and as if compiled alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from d2l.api.compiler import Compiler
from d2l.batch.pool import run_locally
from d2l.batch.results import ResultsFile
from d2l.batch.rows import BatchRow, list_rows
from d2l.batch.run import run_batch
from d2l.batch.work import Job, Worker
from d2l.hypernets.options import CompileOptions
from tests import tiny
from tests.command import Command
from tests.compiled import read_files, write_files
from tests.documents.samples import encrypt_pdf, make_docx, make_pdf, pdf_page

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

N_DOCUMENTS = 6


@pytest.fixture(autouse=True)
def place(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a base, a network and short documents."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_files(working_folder, "seats")
    (working_folder / "docs").mkdir()
    write_documents(working_folder, range(N_DOCUMENTS))
    return working_folder


def write_documents(place: Path, numbers: Iterable[int]) -> None:
    for n in numbers:
        text = f"Pump {n} stands in the harbor. It is rinsed every {n + 2} days."
        (place / "docs" / f"{n}.txt").write_text(text, "utf-8")


def words(*more: str, out: str = "many") -> tuple[str, ...]:
    common = ("--checkpoint", "checkpoint", "--base", tiny.base_name("llama"), "--offline")
    return ("--out-dir", out, *common, "--device", "cpu", *more)


def read_results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def make_job(out_dir: str = "many") -> Job:
    options = CompileOptions("checkpoint", tiny.base_name("llama"), device="cpu", offline=True)
    return Job(out_dir, options)


def compile_alone(place: Path) -> dict[str, dict[str, bytes]]:
    """The files of every document's adapter, each as it is compiled alone, by its folder."""
    compiler = Compiler(make_job().options)
    found = {}
    for file in sorted((place / "docs").iterdir()):
        out = place / "alone" / f"{file.stem}.lora"
        found[out.name] = read_files(compiler(f"docs/{file.name}").save_pretrained(out))
    return found


def read_many(place: Path, out: str = "many") -> dict[str, dict[str, bytes]]:
    return {f.name: read_files(f) for f in (place / out).iterdir() if f.is_dir()}


def test_adapters_are_those_of_single_runs_and_done_once(place: Path, command: Command) -> None:
    done = command("batch", "docs", *words("--json"))
    assert done.code == 0, done.err
    events = [json.loads(line) for line in done.out.splitlines()]
    assert events[0] == {"event": "start", "rows": N_DOCUMENTS}
    assert (events[-1]["done"], events[-1]["failed"]) == (N_DOCUMENTS, 0)
    assert read_many(place) == compile_alone(place)
    lines = (place / "many" / "results.jsonl").read_bytes()
    rows = read_results(place / "many" / "results.jsonl")
    assert [row["id"] for row in rows] == [f"docs/{n}.txt" for n in range(N_DOCUMENTS)]
    assert {row["status"] for row in rows} == {"done"}
    before = {p: p.stat().st_mtime_ns for p in (place / "many").glob("*/*")}
    again = command("batch", "docs", *words())
    assert again.out.startswith(f"{N_DOCUMENTS} rows: 0 made, {N_DOCUMENTS} unchanged, 0 failed")
    assert {p: p.stat().st_mtime_ns for p in (place / "many").glob("*/*")} == before
    assert (place / "many" / "results.jsonl").read_bytes() == lines
    single = ("compile", "docs/3.txt", "-o", "many/3.lora", *words()[2:], "--locked")
    assert command(*single).code == 0  # the lock is that of the command


def test_changes_are_made_and_failures_are_tried_again(place: Path, command: Command) -> None:
    (place / "docs" / "2.txt").write_bytes(b"")
    rows = [{"id": f"m{n}", "input": f"docs/{n}.txt"} for n in range(3)]
    rows[1]["out"] = "deep/one"
    manifest = place / "rows.jsonl"
    manifest.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + "{bad\n", "utf-8")
    done = command("batch", "rows.jsonl", *words("--results", "told.jsonl"))
    assert done.code == 1
    assert done.out.splitlines()[-1].startswith("4 rows: 2 made, 0 unchanged, 2 failed in ")
    told = {row["id"]: row for row in read_results(place / "told.jsonl")}
    status = {"m0": "done", "m1": "done", "m2": "failed", "line 4": "failed"}
    assert {name: row["status"] for name, row in told.items()} == status
    assert told["m2"]["error"]["kind"] == "DocumentError"
    assert "\n" not in told["m2"]["error"]["message"]
    assert (place / "many" / "deep" / "one" / "d2l.lock").is_file()
    (place / "docs" / "2.txt").write_text("The bell is cast in bronze.", "utf-8")
    (place / "docs" / "0.txt").write_text("The tower has 96 steps.", "utf-8")
    done = command("batch", "rows.jsonl", *words("--results", "told.jsonl", "--retry-failed"))
    assert done.out.splitlines()[-1].startswith("2 rows: 1 made, 0 unchanged, 1 failed in ")
    done = command("batch", "rows.jsonl", *words("--results", "told.jsonl"))
    assert done.out.splitlines()[-1].startswith("4 rows: 1 made, 2 unchanged, 1 failed in ")
    assert len(read_results(place / "told.jsonl")) == 4


def test_rows_with_warnings_are_counted_and_fail_with_strict(place: Path, command: Command) -> None:
    (place / "docs" / "0.txt").write_bytes("Die Brücke ist grün, sagt Käthe.".encode("cp1252"))
    done = command("batch", "docs/0.txt", "docs/1.txt", "-q", *words())
    assert done.code == 0, done.err
    assert done.out.startswith("2 rows: 2 made (1 with warnings), 0 unchanged, 0 failed in ")
    again = command("batch", "docs/0.txt", "docs/1.txt", *words("--json"))
    *_, first, _, end = (json.loads(line) for line in again.out.splitlines())
    assert first["warnings"]
    assert (end["unchanged"], end["warned"]) == (2, 1)
    for out in ("many", "others"):
        strict = command("batch", "docs/0.txt", "docs/1.txt", *words("--strict", out=out))
        assert strict.code == 1
        assert ", 1 failed in " in strict.out
        assert "failed: docs/0.txt: --strict: read as " in strict.err
    assert not (place / "others" / "0.lora").exists()


def test_a_document_that_fails_is_named_once(place: Path, command: Command) -> None:
    (place / "docs" / "0.txt").write_bytes(b"")
    done = command("batch", "docs/0.txt", *words())
    assert done.err.startswith("failed: docs/0.txt: the file is empty")
    assert done.err.count("0.txt") == 1


def test_a_format_other_than_the_suffix_says_is_a_note(place: Path, command: Command) -> None:
    (place / "docs" / "0.pdf").write_bytes(make_docx())
    done = command("batch", "docs/0.pdf", *words())
    assert done.code == 0, done.err
    left_out = "10 characters of headers, footers, comments and deletions left out"
    remarks = ["docs/0.pdf: is a DOCX document", f"docs/0.pdf: {left_out}"]
    assert done.err.splitlines() == remarks
    (row,) = read_results(place / "many" / "results.jsonl")
    assert (row["remarks"], "warnings" in row) == (remarks, False)


def test_a_password_opens_documents_and_is_kept_nowhere(place: Path, command: Command) -> None:
    (place / "docs" / "0.pdf").write_bytes(
        encrypt_pdf(make_pdf([pdf_page(["The pump is red, and stands at the gate."])]), "Harn-77")
    )
    closed = command("batch", "docs/0.pdf", *words())
    assert closed.code == 1
    assert "--password" in closed.err
    done = command("batch", "docs/0.pdf", *words("--password", "Harn-77"))
    assert (done.code, "1 made" in done.out) == (0, True)
    again = command("batch", "docs/0.pdf", *words())
    assert "1 unchanged" in again.out  # what was opened is known by its bytes
    written = [path for path in (place / "many").rglob("*") if path.is_file()]
    assert len(written) > 3
    assert [path for path in written if b"Harn-77" in path.read_bytes()] == []


def test_an_altered_adapter_is_not_replaced_without_force(place: Path, command: Command) -> None:
    assert command("batch", "docs/0.txt", *words()).code == 0
    card = place / "many" / "0.lora" / "README.md"
    whole = card.read_bytes()
    card.write_text("mine", "utf-8")
    done = command("batch", "docs/0.txt", *words())
    assert (done.code, card.read_bytes()) == (1, b"mine")
    assert "altered since it was written: README.md" in done.err
    plan = command("batch", "docs/0.txt", *words("--dry-run"))
    assert "0 done, 1 cannot be done" in plan.out
    assert "altered since it was written: README.md" in plan.err
    assert command("batch", "docs/0.txt", *words("--force")).code == 0
    assert card.read_bytes() == whole


def test_exit_code_2_says_that_nothing_could_be_begun(command: Command) -> None:
    assert command("batch", "nowhere", *words()).code == 2
    assert command("batch", "docs", *words("--shard", "3/2")).code == 2
    wrong = ("--out-dir", "many", "--checkpoint", "none", "--offline", "--device", "cpu")
    done = command("batch", "docs", *wrong)
    assert done.code == 2
    assert done.err.splitlines()[0].startswith("error: no row can be done: ")


def test_a_dry_run_counts_and_writes_nothing(command: Command) -> None:
    done = command("batch", "docs", *words("--dry-run", "--json"))
    values = json.loads(done.out)
    assert (values["rows"], values["done"], values["failed"]) == (N_DOCUMENTS, 0, 0)
    assert values["tokens"] > 0
    assert not Path("many").exists()
    assert command("batch", "docs/0.txt", *words()).code == 0
    assert json.loads(command("batch", "docs", *words("--dry-run", "--json")).out)["done"] == 1


def test_shards_make_together_what_one_run_makes(place: Path, command: Command) -> None:
    for shard in ("1/2", "2/2"):
        assert command("batch", "docs", *words("--shard", shard)).code == 0
    assert read_many(place) == compile_alone(place)
    assert len(read_results(place / "many" / "results-2-of-2.jsonl")) == N_DOCUMENTS // 2


def test_it_stops_after_so_many_errors(place: Path) -> None:
    rows = [BatchRow(f"bad {n}", f"{n}.lora", (f"docs/none-{n}.txt",)) for n in range(5)]
    with ResultsFile(place / "told.jsonl") as record:
        results = run_locally(make_job(), rows, n_workers=1)
        found = list(run_batch(results, rows, record, max_errors=2))
    assert [result.status for result in found] == ["failed", "failed"]
    assert len(read_results(place / "told.jsonl")) == 2


def test_a_store_holds_the_same_bytes_and_its_lock_comes_last(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"file://{place}/store"
    source = f"file://{place}/docs"
    results = ("--results", "told.jsonl")
    assert command("batch", source, *words(*results, out=address)).code == 0
    assert read_many(place, "store") == compile_alone(place)
    done = command("batch", source, *words(*results, out=address))
    assert f"0 made, {N_DOCUMENTS} unchanged" in done.out
    (place / "store" / "3.lora" / "adapter_model.safetensors").unlink()
    done = command("batch", source, *words(*results, out=address))
    assert "5 unchanged, 1 failed" in done.out  # as with folders: what was altered is not replaced
    assert "1 made" in command("batch", source, *words(*results, "--force", out=address)).out
    order = []
    worker = Worker(make_job(out_dir=f"file://{place}/other"))
    from fsspec.implementations.local import LocalFileSystem

    put = LocalFileSystem.put_file

    def note(system: LocalFileSystem, path: str, to: str, **options: Any) -> None:
        order.append(Path(to).name)
        put(system, path, to, **options)

    monkeypatch.setattr(LocalFileSystem, "put_file", note)
    assert worker.do(list_rows(["docs/0.txt"])[0]).status == "done"
    assert order[-1] == "d2l.lock.part"
    assert len(order) > 4


def test_a_library_that_a_store_needs_is_named(place: Path, command: Command) -> None:
    done = command("batch", "az://container/docs/", *words("--results", str(place / "x.jsonl")))
    assert done.code == 2
    assert "pip install 'd2l[azure]'" in done.err


# ---- crashes ------------------------------------------------------------------------------------


def find_workers(pid: int) -> list[int]:
    """Worker processes below a process."""
    words = ["ps", "-ww", "--ppid", str(pid), "-o", "pid=,args="]
    listed = subprocess.run(words, capture_output=True, text=True, check=False)
    rows = [line.split(None, 1) for line in listed.stdout.splitlines()]
    return [int(number) for number, words in rows if "spawn_main" in words]


def start(place: Path, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "d2l", "batch", "docs", *words("--json", *more)]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True)


def follow(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def test_killed_workers_and_a_killed_parent_lose_nothing_and_do_nothing_twice(place: Path) -> None:
    made: list[str] = []
    n_documents = 80  # so many that no machine is done with them before the kills
    write_documents(place, range(N_DOCUMENTS, n_documents))
    with start(place) as first:
        for event in follow(first):
            if event["event"] == "row":
                made.append(event["id"])
                if len(made) == 1:  # a worker, which is replaced
                    os.kill(find_workers(first.pid)[0], signal.SIGKILL)
                if len(made) == 3:
                    workers = find_workers(first.pid)
                    first.kill()
                    break
    assert wait_until_gone(workers)
    with (place / "many" / "results.jsonl").open("ab") as file:
        file.write(b'{"id": "docs/5.txt", "status": "do')  # and a line was being written
    with start(place) as second:
        events = [event for event in follow(second) if event["event"] == "row"]
    assert second.returncode == 0
    assert {event["id"] for event in events if event["unchanged"]} >= set(made)
    assert read_many(place) == compile_alone(place)
    rows = read_results(place / "many" / "results.jsonl")
    assert {row["id"] for row in rows} == {f"docs/{n}.txt" for n in range(n_documents)}
    assert len(rows) == n_documents
    assert not [path for path in (place / "many").iterdir() if path.name.startswith(".")]


def wait_until_gone(pids: list[int]) -> bool:
    """Whether processes end within seconds: workers follow their parent."""
    for _ in range(200):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


def test_a_row_that_ends_every_process_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d2l.batch.pool.TRIES", 2)
    rows = [BatchRow("x", "x.lora", ("docs/0.txt",)), BatchRow("y", "y.lora", ("docs/1.txt",))]
    found = {}
    results = run_locally(make_job(), [Dying("d", "d.lora"), *rows], n_workers=1)
    for result in results:
        found[result.id] = result
    assert (found["x"].status, found["y"].status) == ("done", "done")
    assert found["d"].error is not None
    assert found["d"].error["kind"] == "Crash"
    assert "signal 9" in found["d"].error["message"]


class Dying(BatchRow):
    """A row that kills the process which unpacks it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.kill, (Late(), signal.SIGKILL))


class Late:
    """The number of the process that it is unpacked in."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.getpid, ())


def test_rows_of_odd_numbers_and_names_fail_in_one_line_of_ours() -> None:
    worker = Worker(make_job())
    long = BatchRow("long", "y" * 300, ("docs/0.txt",))
    many = BatchRow("many", "b.lora", ("docs/0.txt",), options={"max_rank": 10**30})
    for row, kind in ((long, "D2LError"), (many, "OptionError")):
        failed = worker.do(row)
        assert failed.error is not None
        assert failed.error["kind"] == kind
