"""`d2l batch` makes adapters of descriptions, each as `t2l make` makes it, beside documents."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from d2l.batch.rows import BatchRow
from d2l.batch.run import ENGINES
from d2l.batch.work import Job, Worker
from d2l.errors import CheckpointError
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.seats.compiling import SeatsNetwork
from tests import tiny
from tests.command import Command
from tests.compiled import read_files

TASK = "open the copper valve"
NETWORK = ("--checkpoint", "seats", "--device", "cpu", "--offline")
BATCH = ("batch", "rows.jsonl", "--out-dir", "made", *NETWORK)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def place(working_folder: Path) -> Path:
    """A folder with a base, networks, a note and a file of examples."""
    tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(
        working_folder / "seats",
        repeats=12,
        reads="both",
        after_opening=tiny.encode("<|im_end|>\n<|im_start|>user\n"),
        before_answer=tiny.encode("<|im_end|>\n<|im_start|>assistant\n"),
    )
    tiny.write_text_to_lora(working_folder / "by-words", "llama", None)
    (working_folder / "note.txt").write_text(f"{tiny.DOCUMENT}\n", "utf-8")
    (working_folder / "rows.csv").write_text("text,label\npump,harbor\nlamp,gate\n", "utf-8")
    return working_folder


def write_manifest(*rows: dict[str, Any]) -> None:
    Path("rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


def read_results() -> dict[str, dict[str, Any]]:
    lines = Path("made", "results.jsonl").read_text("utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def run_here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Do rows in this process; the list fills with the folders of networks that are loaded."""
    loaded: list[str] = []
    load = SeatsNetwork.load_hypernet

    def note(path: Path, *values: Any, **options: Any) -> Any:
        loaded.append(path.name)
        return load(path, *values, **options)

    def run(job: Job, rows: list[BatchRow], n_workers: int) -> Any:
        del n_workers
        worker = Worker(job)
        yield from map(worker.do, rows)

    monkeypatch.setattr(SeatsNetwork, "load_hypernet", staticmethod(note))
    monkeypatch.setitem(ENGINES, "local", run)
    return loaded


@pytest.mark.slow
def test_one_manifest_makes_adapters_of_documents_and_of_descriptions(command: Command) -> None:
    write_manifest(
        {"id": "note", "input": "note.txt"},
        {"id": "task", "description": TASK},
        {"id": "shown", "description": TASK, "examples": "rows.csv", "options": {"dtype": "fp32"}},
        {"id": "empty", "description": '""'},
        {"id": "gone", "description": TASK, "examples": "none.csv"},
    )
    done = command(*BATCH)
    assert done.code == 1
    assert done.out.startswith("5 rows: 3 made, 0 unchanged, 2 failed in ")
    results = read_results()
    assert "the description is empty" in results["empty"]["error"]["message"]
    assert "none.csv: cannot be read" in results["gone"]["error"]["message"]
    make = ("make", TASK, *NETWORK, "-o")
    assert command("compile", "note.txt", *NETWORK, "-o", "alone/note.lora").code == 0
    assert command.t2l(*make, "alone/task.lora").code == 0
    shown = ("alone/shown.lora", "--examples", "rows.csv", "--dtype", "fp32")
    assert command.t2l(*make, *shown).code == 0
    for name in ("note.lora", "task.lora", "shown.lora"):
        assert read_files(Path("made", name)) == read_files(Path("alone", name))


def test_descriptions_that_are_done_are_passed_over_and_altered_ones_kept(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = run_here(monkeypatch)
    tasks = [{"id": f"t{n}", "description": f"count {n} lamps"} for n in range(3)]
    write_manifest(*tasks)
    assert command(*BATCH).code == 0
    assert loaded == ["seats"]  # once for all rows
    weights = [Path("made", f"t{n}.lora", "adapter_model.safetensors") for n in range(3)]
    before = [path.stat().st_mtime_ns for path in weights]
    plan = command(*BATCH, "--dry-run", "--json")
    assert json.loads(plan.out)["done"] == 3
    assert ", 3 unchanged, " in command(*BATCH).out
    assert [path.stat().st_mtime_ns for path in weights] == before
    weights[0].write_bytes(weights[0].read_bytes()[:-1] + b"x")
    write_manifest(tasks[0], {"id": "t1", "description": "count the pumps"}, tasks[2])
    done = command(*BATCH)
    assert "0 made, 1 unchanged, 2 failed" in done.out
    assert "made/t0.lora: altered since it was written: adapter_model.safetensors" in done.err
    assert "made/t1.lora exists already" in done.err
    assert "2 made, 1 unchanged, 0 failed" in command(*BATCH, "--force").out


def test_strict_refuses_a_description_with_a_warning_alone(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(monkeypatch)
    long = {"id": "long", "description": "Open it. " * 100}
    write_manifest(long, {"id": "task", "description": TASK})
    done = command(*BATCH, "--strict")
    assert "1 made, 0 unchanged, 1 failed" in done.out
    assert "failed: long: --strict: " in done.err
    assert not Path("made", "long.lora").exists()
    assert "1 made (1 with warnings), 1 unchanged" in command(*BATCH).out
    assert read_results()["long"]["warnings"]
    assert "1 unchanged, 1 failed" in command(*BATCH, "--strict").out


def test_what_one_row_wants_of_a_network_ends_no_other() -> None:
    worker = Worker(Job("made", CompileOptions("by-words", device="cpu", offline=True)))
    row = BatchRow("a", "a.lora", description=TASK, examples="rows.csv")
    refused = worker.do(row)
    assert refused.error is not None
    assert refused.error["kind"] == CheckpointError.__name__
    assert not refused.fatal
    assert worker.do(BatchRow("b", "b.lora", description=TASK)).status == "done"
    assert worker.do(BatchRow("c", "c.lora", ("note.txt",))).fatal  # it reads no documents


@pytest.mark.parametrize("network", ["seats", "by-words", "by-encoder"])
def test_a_store_knows_adapters_of_descriptions_by_their_lock(place: Path, network: str) -> None:
    tiny.write_encoder(place / "tiny-org" / "encoder")
    tiny.write_text_to_lora(place / "by-encoder", "llama", "tiny-org/encoder")
    store, options = f"file://{place}/store", CompileOptions(network, device="cpu", offline=True)
    row = BatchRow("a", "a.lora", description=TASK)
    made = Worker(Job(store, options)).do(row)
    assert (made.error, made.unchanged, made.out) == (None, False, f"{store}/a.lora")
    again = Worker(Job(store, options)).do(row)
    assert (again.error, again.unchanged, again.digest) == (None, True, made.digest)
    for changed in (
        replace(row, description="light the lantern"),
        replace(row, options={"dtype": "fp32"}),
    ):
        refused = Worker(Job(store, options)).do(changed)
        assert refused.error is not None
        assert "a.lora exists already" in refused.error["message"]
    config = place / network / ("config.json" if network == "seats" else "args.yaml")
    config.write_text(config.read_text("utf-8") + "\n", "utf-8")
    new = Worker(Job(store, options)).do(row)  # of another network: made anew
    assert (new.error, new.unchanged) == (None, False)


def test_examples_are_compared_with_the_lock(place: Path) -> None:
    job = Job("made", CompileOptions("seats", device="cpu", offline=True))
    row = BatchRow("a", "a.lora", description=TASK, examples="rows.csv")
    assert [Worker(job).do(row).unchanged for _ in range(2)] == [False, True]
    refused = Worker(job).do(replace(row, examples=None))
    assert refused.error is not None
    (place / "rows.csv").write_text("text,label\npump,gate\n", "utf-8")
    refused = Worker(job).do(row)
    assert refused.error is not None
    assert "exists already" in refused.error["message"]
    assert not Worker(replace(job, force=True)).do(row).unchanged
