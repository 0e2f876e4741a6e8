"""What rows of a batch do on a full disk, behind links, with odd names and altered adapters."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError

from d2l.adapters.lock_file import compare_files, digest_folder, read_lock
from d2l.batch.results import Result, ResultsFile, fail
from d2l.batch.rows import BatchRow, read_manifest
from d2l.batch.run import ENGINES, run_batch
from d2l.batch.stores import LocalFolder
from d2l.batch.work import Job, Worker
from d2l.compiler.lock import Drift, State
from d2l.errors import AdapterError, CheckpointError, D2LError, OptionError
from d2l.files.atomic import is_disk_full, naming
from d2l.files.ownership import refuse_existing
from d2l.hypernets.options import CompileOptions
from tests import tiny
from tests.batch.test_batch import words
from tests.command import Command
from tests.compiled import read_files, write_files

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
ROWS = [BatchRow(name, f"{name}.lora", ("a.txt",)) for name in ("a", "b", "c")]


def fail_with(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [*FULL, errno.EACCES])
def test_a_full_disk_ends_the_run_and_other_errors_their_row(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(*_: object) -> None:
        with naming(tmp_path / "x.lora", AdapterError):
            fail_with(number)()

    monkeypatch.setattr(Worker, "_do", save)
    assert Worker(Job(str(tmp_path), CompileOptions("none"))).do(ROWS[0]).fatal == (number in FULL)
    monkeypatch.setattr(Worker, "_do", fail_with(number))
    assert Worker(Job(str(tmp_path), CompileOptions("none"))).do(ROWS[0]).fatal == (number in FULL)


def test_what_safetensors_hides_is_seen() -> None:
    said = "Error while serializing: I/O error: No space left on device (os error {})"
    assert is_disk_full(SafetensorError(said.format(errno.ENOSPC)))
    assert not is_disk_full(SafetensorError(said.format(errno.EACCES)))
    assert not is_disk_full(ValueError(said.format(errno.ENOSPC)))


def test_a_run_that_ends_on_a_full_disk_keeps_the_rows_that_are_done(
    working_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(working_folder, "seats")
    (working_folder / "docs").mkdir()
    for row in ROWS:
        (working_folder / "docs" / f"{row.id}.txt").write_text("The pump is red.", "utf-8")

    def do(_job: object, rows: list[BatchRow], _n: int) -> object:
        worker = Worker(Job("many", CompileOptions("none")))
        yield Result(rows[0].id, "done", "many/a.lora", "0")
        yield worker.do(rows[1])
        raise AssertionError("the next row was begun")

    monkeypatch.setattr(Worker, "_do", fail_with(errno.ENOSPC))
    monkeypatch.setitem(ENGINES, "local", do)
    done = command("batch", "docs", *words())
    assert done.code == 1
    told = [line for line in done.err.splitlines() if "No space left on device" in line]
    assert len(told) == 1
    assert told[0].startswith("error: no more rows can be done: ")
    lines = (working_folder / "many" / "results.jsonl").read_text("utf-8").splitlines()
    assert [line.split('"')[3] for line in lines] == ["docs/a.txt"]


def test_unwritable_results_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d2l.batch.results.os.fsync", fail_with(errno.ENOSPC))
    results = (Result(row.id, "done") for row in ROWS)
    with (
        pytest.raises(D2LError, match="cannot be written") as raised,
        ResultsFile(tmp_path / "r.jsonl") as record,
    ):
        list(run_batch(results, ROWS, record))  # type: ignore[arg-type]
    assert is_disk_full(raised.value)


def test_a_read_only_disk_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = type("Facts", (), {"f_flag": os.ST_RDONLY})
    monkeypatch.setattr("d2l.files.ownership.os.access", lambda *_: False)
    monkeypatch.setattr("d2l.files.ownership.os.statvfs", lambda _: facts, raising=False)
    with pytest.raises(AdapterError) as raised:
        refuse_existing(tmp_path / "x", force=False, own_names=lambda _: (), error=AdapterError)
    assert is_disk_full(raised.value)


def test_an_altered_adapter_is_named_with_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ("file README.md was altered", "file d2l.json is missing")
    state = State({}, tuple(Drift("file", text) for text in texts))
    monkeypatch.setattr(LocalFolder, "check", lambda *_: state)
    monkeypatch.setattr(LocalFolder, "refuse", lambda *_, force: None if force else 1 / 0)
    row = Worker(Job(str(tmp_path), CompileOptions("none"))).do(ROWS[0])
    assert row.error is not None
    assert row.error["message"] == (
        f"{tmp_path / 'a.lora'}: altered since it was written: README.md, d2l.json is missing "
        "(--force makes it again)"
    )


def test_a_link_below_the_folder_does_not_lead_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "many" / "deep").mkdir(parents=True)
    (tmp_path / "many" / "out").symlink_to(tmp_path)
    (tmp_path / "many" / "in").symlink_to("deep")
    (tmp_path / "link").symlink_to("many")
    for root in ("many", "link"):
        LocalFolder(str(tmp_path / root), "in/x.lora")
        LocalFolder(str(tmp_path / root), "new/x.lora")
        with pytest.raises(AdapterError, match="through a link"):
            LocalFolder(str(tmp_path / root), "out/x.lora")


@pytest.mark.parametrize("name", ["\x1b[2Jx", "a\nb", "a\tb", "a/\u202eb"])
def test_a_name_with_control_characters_is_refused(name: str, tmp_path: Path) -> None:
    row = f'{{"id": "a", "input": "a.txt", "out": {json.dumps(name)}}}\n'
    (tmp_path / "rows.jsonl").write_text(row, "utf-8")
    (found,) = read_manifest(tmp_path / "rows.jsonl")
    assert "control characters" in str(found.error)
    assert str(found.error).isprintable()


def test_what_is_no_file_differs_from_any_lock(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a", "utf-8")
    lock = {"files": digest_folder(tmp_path)}
    (tmp_path / "folder").mkdir()
    assert compare_files(lock, digest_folder(tmp_path)) == []
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "a").rename(tmp_path / "folder" / "b")
    (tmp_path / "a").symlink_to("folder/b")
    assert compare_files(lock, digest_folder(tmp_path)) == [
        "a was altered",
        "folder/b was added",
        "link was added",
        "pipe was added",
    ]


def test_two_runs_do_not_write_one_file_of_results(tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "r.jsonl"), pytest.raises(OptionError, match="another run"):
        ResultsFile(tmp_path / "r.jsonl").__enter__()


def test_a_network_that_cannot_be_opened_ends_the_run(tmp_path: Path) -> None:
    rows = [BatchRow("a", "a.lora", ("a.txt",)), BatchRow("b", "b.lora", ("b.txt",))]
    fatal = fail(rows[0], "CheckpointError", "none: no such checkpoint", fatal=True)

    def engine() -> Generator[Result, None, None]:
        yield fatal

    with (
        ResultsFile(tmp_path / "r.jsonl") as record,
        pytest.raises(CheckpointError, match="no row can be done: none"),
    ):
        list(run_batch(engine(), rows, record))


class Killed(BaseException):
    """What no code catches: the process is gone."""


def test_a_kill_during_an_upload_leaves_no_lock_or_a_whole_adapter(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each file, with 100 bytes of it there; the old adapter has parts, the new has none."""
    tiny.write_base(working_folder / "base", "llama")
    tiny.write_seats(working_folder / "net", repeats=2, chunk_tokens=64)
    document, store, row = Path("a.txt"), Path("store", "a.lora"), ROWS[0]
    values = {"base": "base", "device": "cpu", "offline": True}

    def work(out: str) -> str:
        job = Job(f"file://{working_folder}/{out}", CompileOptions("net", **values))
        return Worker(job).do(row).status

    document.write_text(f"{tiny.DOCUMENT} " * 3)
    assert work("store") == "done"
    shutil.copytree("store", "old")
    document.write_text(tiny.DOCUMENT)
    assert work("new") == "done"
    old, new = (read_files(working_folder / name / "a.lora") for name in ("old", "new"))
    assert {"parts.json", "parts.safetensors"} == set(old) - set(new)
    step = 0

    def fail_at(place: int, act: Callable[..., None]) -> Callable[..., None]:
        def change(system: Any, path: str, *to: str, **options: Any) -> None:
            nonlocal step
            step += 1
            if step == place:
                if act.__name__ == "put_file":
                    Path(to[0]).write_bytes(Path(path).read_bytes()[:100])
                raise Killed
            act(system, path, *to, **options)

        return change

    for place in range(1, 99):
        shutil.rmtree("store")
        shutil.copytree("old", "store")
        step = 0
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            for name in ("put_file", "rm_file", "mv"):
                patch.setattr(LocalFileSystem, name, fail_at(place, getattr(LocalFileSystem, name)))
            assert work("store") == "done"
        if (store / "d2l.lock").exists():
            assert compare_files(read_lock(store) or {}, digest_folder(store)) == []
        assert work("store") == "done"
        assert read_files(store) == new
        if step < place:
            break
    assert place > len(new)
