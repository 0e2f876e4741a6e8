import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file, save_file

from d2l.api.adapter import Adapter
from d2l.commands.compile_report import Report, report_plan, report_run
from d2l.compiler.timing import remember_rate
from d2l.documents.document import Document
from d2l.documents.intake import Intake
from d2l.readers.parsing import Section
from tests import tiny
from tests.command import Command
from tests.compiled import (
    LAST_PAGE,
    Compile,
    Compiled,
    compile_tiny,
    write_files,
)
from tests.processes import list_imported

pytestmark = pytest.mark.usefixtures("one_thread", "cache")

N_CHARS = len(tiny.DOCUMENT) + 2 + len(LAST_PAGE)  # an empty line between sections


def report_written(done: Compiled, seconds: float = 1.0, start: float | None = None) -> Report:
    """What is said of a finished run."""
    adapter = Adapter.from_pretrained(done.adapter)
    return report_run(done.plan, adapter, done.adapter, (seconds, start))


# ---- the plan -----------------------------------------------------------------------------------


def test_a_plan_tells_what_would_be_done(compiled: Compile) -> None:
    done = compiled("llama")
    report = report_plan(replace(done.plan, options=replace(done.plan.options, dtype="bf16")))
    # 6 ranks of 64 + 32 values in each of 3 layers, four bytes each
    assert done.plan.adapter_bytes == 6 * 96 * 3 * 4 == 6_912
    assert report.text.splitlines() == [
        f"input       handbook.txt (text, 2 pages, {N_CHARS} characters)",
        f"checkpoint  {done.checkpoint} (doc_to_lora)",
        "base        tiny-org/llama-tiny",
        f"tokens      {done.plan.n_text_tokens} in 2 chunks",
        "LoRA rank   6",
        "weights     3.5 kB (bf16)",
        "time        not known before the first run on this machine",
    ]


def test_a_plans_values_are_json_and_agree_with_the_adapter_that_is_written(
    compiled: Compile,
) -> None:
    done = compiled("llama")
    values = report_plan(done.plan).values
    record = json.loads((done.adapter / "d2l.json").read_text("utf-8"))
    assert json.loads(json.dumps(values)) == values
    assert values == {
        "checkpoint": str(done.checkpoint),
        "base": "tiny-org/llama-tiny",
        "inputs": [
            {
                "name": "handbook.txt",
                "format": "text",
                "n_sections": 2,
                "n_chars": N_CHARS,
                "rank": 4,  # the other 2 are the learned part's
                "notes": [],
                "findings": [],
            }
        ],
        "skipped": [],
        "n_tokens": len(tiny.encode(done.plan.documents[0].text)),
        "n_tokens_read": sum(chunk["n_tokens"] for chunk in record["chunks"]),
        "n_chunks": 2,
        "n_parts": 0,
        "chunks": [
            {
                "document": "handbook.txt",
                "source": chunk["source"],
                "n_tokens": chunk["n_tokens"],
                "rank": 2,
            }
            for chunk in record["chunks"]
        ],
        "merge": "concat",
        "rank": 6,
        "rank_before_max_rank": 6,
        "warnings": [],
        "device": "cpu",
        "adapter_bytes": 6_912,
        "parts_bytes": 0,
        "estimated_seconds": None,
    }


@pytest.mark.parametrize("kind", ["gemma2", "seats"])
def test_the_size_in_the_plan_is_that_of_the_written_tensors(kind: str, compiled: Compile) -> None:
    done = compiled(kind)
    path = done.adapter / "adapter_model.safetensors"
    header_bytes = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    values = report_plan(done.plan).values
    assert values["adapter_bytes"] == path.stat().st_size - header_bytes


def test_after_a_run_the_estimate_comes_from_it(compiled: Compile) -> None:
    done = compiled("llama")
    cut = replace(done.plan.cut, chunks=done.plan.chunks * 5)
    long = replace(done.plan, cut=cut)
    remember_rate(long, "cpu", 4 * long.n_tokens / 100)  # 25 tokens a second
    report = report_plan(done.plan)
    seconds = done.plan.n_tokens / 25
    assert report.values["estimated_seconds"] == [round(seconds, 2)] * 2
    last = report.text.splitlines()[-1]
    assert last == f"time        about {seconds:.1f} s after loading, by the last runs here"


def test_skipped_inputs_and_warnings_are_among_the_values(compiled: Compile) -> None:
    done = compiled("seats")
    intake = Intake(done.plan.documents, (("b.pdf", "b.pdf: the file is empty"),))
    values = report_plan(replace(done.plan, intake=intake)).values
    assert values["skipped"] == [{"name": "b.pdf", "reason": "b.pdf: the file is empty"}]
    assert values["warnings"] == list(done.plan.warnings) != []


def test_seats_and_a_bounded_rank_are_named_as_such(compiled: Compile, tmp_path: Path) -> None:
    seats, cut = compiled("seats"), compile_tiny(tmp_path, "llama", max_rank=3)
    for done, line in (
        (seats, "LoRA rank   16 (17 seats)"),
        (cut, "LoRA rank   3 (bounded, from 6)"),
    ):
        assert line in report_plan(done.plan).text.splitlines()
        assert line in report_written(done).text.splitlines()


def test_of_several_inputs_each_has_its_line_with_its_seats(tmp_path: Path) -> None:
    tiny.write_seats(tmp_path / "checkpoint", repeats=3)
    texts = ("The pump stands in the harbor.", "Open the copper valve.")
    notes = [
        Document(f"{n}.txt", "text", (Section(text),), "0" * 64, len(text))
        for n, text in enumerate(texts)
    ]
    done = compile_tiny(tmp_path, "seats", *notes)
    plan, run = report_plan(done.plan), report_written(done)
    seats = [chunk.rank for chunk in done.plan.chunks]
    assert len(seats) == 2
    for report in (plan, run):
        shown = [line for line in report.text.splitlines() if line.startswith("input")]
        assert shown == [
            f"input       {n}.txt (text, {len(text)} characters): {seats[n]} seats"
            for n, text in enumerate(texts)
        ]
        assert [row["rank"] for row in report.values["inputs"]] == seats


def test_of_many_inputs_eight_are_shown_and_the_rest_is_summed_up(compiled: Compile) -> None:
    document = Document("a.txt", "text", (Section("x" * 1_000),), "0" * 64, 1_000)
    done = compiled("llama")
    plan = replace(done.plan, intake=Intake((document,) * 10))
    lines = report_plan(plan).text.splitlines()
    assert lines[:8] == ["input       a.txt (text, 1,000 characters): 0 ranks"] * 8
    assert lines[8] == "            and 2 more, 2,000 characters: 0 ranks"
    assert lines[9].startswith("checkpoint")


# ---- a run --------------------------------------------------------------------------------------


def test_a_run_tells_the_adapter_first_then_what_was_written(compiled: Compile) -> None:
    done = compiled("llama")
    report = report_written(done, seconds=12.345678, start=4.56)
    size = sum(path.stat().st_size for path in done.adapter.iterdir())
    assert report.text.splitlines() == [
        str(done.adapter),
        f"input       handbook.txt (text, 2 pages, {N_CHARS} characters)",
        f"tokens      {done.plan.n_text_tokens} in 2 chunks",
        "LoRA rank   6",
        f"size        {size / 1_000:.1f} kB (weights 6.9 kB)",
        "time        12.3 s, and 4.6 s to start",
    ]
    values = report.values
    assert json.loads(json.dumps(values)) == values
    assert (values["adapter"], values["device"]) == (str(done.adapter), "cpu")
    assert (values["size_bytes"], values["seconds"]) == (size, 12.346)
    assert values["max_merge_error"] == 0.0
    planned = report_plan(done.plan).values
    shared = planned.keys() & values.keys()
    assert planned.keys() - shared == {"estimated_seconds"}
    assert all(values[key] == planned[key] for key in shared)


def test_a_run_tells_the_worst_error_of_compression(compiled: Compile) -> None:
    done = compiled("llama")
    adapter = Adapter.from_pretrained(done.adapter)
    errors = {"a": 0.01, "b": 0.12345, "c": 0.0}
    assert adapter.provenance is not None
    made = adapter.provenance.model_copy(update={"merge_error": errors})
    cut = replace(adapter, provenance=made)
    report = report_run(done.plan, cut, done.adapter, (1.0, None))
    assert report.values["max_merge_error"] == 0.12345
    assert report.text.splitlines()[-3:-1] == [
        "error       at most 12.35% of a module's delta was cut off",
        f"size        {report.values['size_bytes'] / 1_000:.1f} kB (weights 6.9 kB)",
    ]


def test_sizes_are_told_in_the_unit_that_suits_them(tmp_path: Path) -> None:
    done = compile_tiny(tmp_path, "llama")
    size = sum(path.stat().st_size for path in done.adapter.iterdir())
    (done.adapter / "more").write_bytes(bytes(99_999 - size))
    assert "size        100.0 kB" in report_written(done).text
    (done.adapter / "more").write_bytes(bytes(12_345_678 - size))
    assert "size        12.3 MB" in report_written(done).text


# ---- one adapter for each -----------------------------------------------------------------------


def test_what_a_disk_has_no_room_for_is_refused_before_it_is_computed(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, checkpoint = write_files(tmp_path, "seats")
    (tmp_path / "a.txt").write_text("The pump stands in the harbor.", "utf-8")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    monkeypatch.setattr("d2l.compiler.run.load", None)
    options = ["--checkpoint", checkpoint, "--base", base, "--offline"]
    said = command("compile", tmp_path / "a.txt", "-o", tmp_path / "new/a.lora", *options)
    assert (said.code, said.out) == (1, "")
    assert "cannot be written (needs 0.0 MB, and the disk has 0.0 MB free)" in said.err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_compiling_a_note_imports_no_parser_and_nothing_that_runs_adapters(
    compiled: Callable[[str], Compiled], tmp_path: Path
) -> None:
    """They take longer to import than a note takes to compile."""
    done = compiled("seats")
    (tmp_path / "note.txt").write_text(tiny.DOCUMENT)
    words = ["d2l", "compile", str(tmp_path / "note.txt"), "-o", str(tmp_path / "note.lora")]
    options = ["--checkpoint", str(done.plan.checkpoint.path), "--base", str(done.base)]
    program = (
        f"import sys\nsys.argv = {[*words, *options, '--device', 'cpu', '--offline']!r}\n"
        "from d2l.commands.main import main\n"
        "try:\n    main()\nexcept SystemExit as stopped:\n    assert not stopped.code"
    )
    heavy = ("pypdf", "docx", "lxml", "peft", "gguf", "d2l_lab.training")
    assert not list_imported(program, *heavy)


@pytest.mark.parametrize(
    ("kind", "tensor", "value"),
    [
        ("seats", "output.bias", math.nan),
        ("llama", "decoder.layers.0.input_latents_layernorm.weight", math.inf),
    ],
)
def test_values_that_are_not_finite_are_named_and_nothing_is_written(
    command: Command, tmp_path: Path, kind: str, tensor: str, value: float
) -> None:
    base, checkpoint = write_files(tmp_path, kind)
    document, target = tmp_path / "a.txt", tmp_path / "a.lora"
    document.write_text(tiny.DOCUMENT)
    words = ("compile", document, "-o", target, "--base", base, "--checkpoint", checkpoint)
    for folder, ending in ((checkpoint, tensor), (base, "layers.0.mlp.up_proj.weight")):
        file = folder / "model.safetensors"
        intact, tensors = file.read_bytes(), load_file(file)
        name = next(name for name in sorted(tensors) if name.endswith(ending))
        tensors[name].view(-1)[0] = value
        save_file(tensors, file, {"format": "pt"})
        done = command(*words, "--offline", "--device", "cpu")
        file.write_bytes(intact)
        place = f"{base}: NaN or infinite values in " if folder == base else f"{file}: NaN or "
        assert f"error: {place}" in done.err
        assert f"{ending}\n" in done.err
        assert (done.code, target.exists()) == (1, False)
