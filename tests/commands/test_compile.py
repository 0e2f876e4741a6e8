import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from d2l.commands.compile import remarks, report_plan, report_run
from d2l.compiler.timing import remember_rate
from d2l.documents.document import Document, Section
from d2l.documents.intake import Intake
from tests import tiny
from tests.compiled import LAST_PAGE, Compiled, compile_tiny, make_document

pytestmark = pytest.mark.usefixtures("one_thread")

Compile = Callable[[str], Compiled]
N_CHARS = len(tiny.DOCUMENT) + 2 + len(LAST_PAGE)  # an empty line between sections
INTAKE = Intake((make_document(),), ())


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D2L_CACHE", str(tmp_path / "cache"))


# ---- remarks ------------------------------------------------------------------------------------


def test_remarks_tell_notes_skipped_and_ignored_inputs_in_this_order() -> None:
    noted = replace(make_document("a.pdf"), notes=("2 of 3 pages have no text", "one more"))
    skipped = (("b.pdf", "b.pdf: the file is empty"), ("c.pdf", "no permission"))
    intake = Intake((noted, make_document("d.pdf")), skipped, ("e.png", "f.exe"))
    assert list(remarks(intake)) == [
        "a.pdf: 2 of 3 pages have no text",
        "a.pdf: one more",
        "skipped b.pdf: the file is empty",
        "skipped c.pdf: no permission",
        "passed over 2 files of other kinds: e.png, f.exe",
    ]


def test_many_ignored_files_are_counted_and_three_are_named() -> None:
    intake = Intake((make_document(),), (), ("a.x", "b.x", "c.x", "d.x"))
    assert list(remarks(intake)) == ["passed over 4 files of other kinds: a.x, b.x, c.x, …"]
    assert list(remarks(INTAKE)) == []


# ---- the plan -----------------------------------------------------------------------------------


def test_a_plan_tells_what_would_be_done(compiled: Compile) -> None:
    done = compiled("llama")
    n_tokens = sum(len(chunk.token_ids) for chunk in done.plan.chunks)
    report = report_plan(done.plan, replace(done.options, dtype="bf16"), INTAKE)
    # 6 ranks of 64 + 32 values in each of 3 layers, four bytes each
    assert done.plan.adapter_bytes == 6 * 96 * 3 * 4 == 6_912
    assert report.text.splitlines() == [
        f"input       handbook.txt (text, {N_CHARS} characters)",
        f"checkpoint  {done.checkpoint} (doc_to_lora)",
        "base        tiny-org/llama-tiny",
        f"tokens      {n_tokens} in 2 chunks",
        "rank        6",
        "weights     6.9 kB (bf16)",
        "time        about 0.0 s on cpu past start-up (from stated rate)",
    ]


def test_a_plans_values_are_json_and_agree_with_the_adapter_that_is_written(
    compiled: Compile,
) -> None:
    done = compiled("llama")
    values = report_plan(done.plan, done.options, INTAKE).values
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
                "notes": [],
            }
        ],
        "skipped": [],
        "n_tokens": sum(chunk["n_tokens"] for chunk in record["chunks"]),
        "n_chunks": 2,
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
        "estimated_seconds": 0.0,
        "estimate_from": "stated rate",
    }


@pytest.mark.parametrize("kind", ["gemma2", "seats"])
def test_the_size_in_the_plan_is_that_of_the_written_tensors(kind: str, compiled: Compile) -> None:
    done = compiled(kind)
    path = done.adapter / "adapter_model.safetensors"
    header_bytes = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    values = report_plan(done.plan, done.options, INTAKE).values
    assert values["adapter_bytes"] == path.stat().st_size - header_bytes


def test_after_a_run_the_estimate_comes_from_it(compiled: Compile) -> None:
    done = compiled("llama")
    long = replace(done.plan, chunks=done.plan.chunks * 5)
    remember_rate(long, "cpu", 4 * long.n_tokens / 100)  # 25 tokens a second
    report = report_plan(done.plan, done.options, INTAKE)
    seconds = done.plan.n_tokens / 25
    assert report.values["estimated_seconds"] == round(seconds, 2)
    assert report.values["estimate_from"] == "last run"
    last = report.text.splitlines()[-1]
    assert last == f"time        about {seconds:.1f} s on cpu past start-up (from last run)"


def test_skipped_inputs_and_warnings_are_among_the_values(compiled: Compile) -> None:
    done = compiled("seats")
    intake = Intake(INTAKE.documents, (("b.pdf", "b.pdf: the file is empty"),))
    values = report_plan(done.plan, done.options, intake).values
    assert values["skipped"] == [{"name": "b.pdf", "reason": "b.pdf: the file is empty"}]
    assert values["warnings"] == list(done.plan.warnings) != []


def test_seats_and_a_bounded_rank_are_named_as_such(compiled: Compile, tmp_path: Path) -> None:
    seats, cut = compiled("seats"), compile_tiny(tmp_path, "llama", max_rank=3)
    for done, line in ((seats, "rank        17 (seats)"), (cut, "rank        3 (bounded, from 6)")):
        assert line in report_plan(done.plan, done.options, INTAKE).text.splitlines()
        assert line in report_run(done.result, INTAKE).text.splitlines()


@pytest.mark.parametrize(("n_documents", "lines"), [(8, 8), (9, 1)])
def test_more_than_eight_inputs_are_summed_up(
    n_documents: int, lines: int, compiled: Compile
) -> None:
    document = Document("a.txt", "text", (Section("x" * 1_000),), "0" * 64, 1_000)
    done = compiled("llama")
    text = report_plan(done.plan, done.options, Intake((document,) * n_documents, ())).text
    shown = [line for line in text.splitlines() if line.startswith("input")]
    expected = {
        8: ["input       a.txt (text, 1,000 characters)"] * 8,
        9: ["inputs      9 documents, 9,000 characters"],
    }
    assert shown == expected[n_documents]
    assert len(shown) == lines


# ---- a run --------------------------------------------------------------------------------------


def test_a_run_tells_the_adapter_first_then_what_was_written(compiled: Compile) -> None:
    done = compiled("llama")
    result = replace(done.result, seconds=12.345678)
    report = report_run(result, INTAKE)
    size = sum(path.stat().st_size for path in done.adapter.iterdir())
    assert report.text.splitlines() == [
        str(done.adapter),
        f"input       handbook.txt (text, {N_CHARS} characters)",
        f"tokens      {done.plan.n_tokens} in 2 chunks",
        "rank        6",
        f"size        {size / 1_000:.1f} kB",
        "time        12.3 s on cpu past start-up",
    ]
    values = report.values
    assert json.loads(json.dumps(values)) == values
    assert (values["adapter"], values["device"]) == (str(done.adapter), "cpu")
    assert (values["size_bytes"], values["seconds"]) == (size, 12.346)
    assert values["max_merge_error"] == 0.0
    planned = report_plan(done.plan, done.options, INTAKE).values
    shared = planned.keys() & values.keys()
    assert planned.keys() - shared == {"adapter_bytes", "estimated_seconds", "estimate_from"}
    assert all(values[key] == planned[key] for key in shared)


def test_a_run_tells_the_worst_error_of_compression(compiled: Compile) -> None:
    result = replace(compiled("llama").result, merge_error={"a": 0.01, "b": 0.12345, "c": 0.0})
    report = report_run(result, INTAKE)
    assert report.values["max_merge_error"] == 0.12345
    assert report.text.splitlines()[-3:-1] == [
        "error       at most 12.35% of a module's delta was cut off",
        f"size        {report.values['size_bytes'] / 1_000:.1f} kB",
    ]


def test_sizes_are_told_in_the_unit_that_suits_them(tmp_path: Path) -> None:
    done = compile_tiny(tmp_path, "llama")
    size = sum(path.stat().st_size for path in done.adapter.iterdir())
    (done.adapter / "more").write_bytes(bytes(99_999 - size))
    assert "size        100.0 kB" in report_run(done.result, INTAKE).text
    (done.adapter / "more").write_bytes(bytes(12_345_678 - size))
    assert "size        12.3 MB" in report_run(done.result, INTAKE).text
