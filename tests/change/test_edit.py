"""`edit`: without a chunk an adapter is what a fresh compile without that chunk gives."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from d2l.adapters import deltas
from d2l.adapters.peft_folder import read_adapter, read_memory
from d2l.adapters.weights import LoraFactors
from d2l.api.adapter import Adapter
from d2l.change.edit import prepare
from d2l.change.edit import run as run_plan
from d2l.change.parents import ChangeOptions
from d2l.documents.document import Document
from d2l.errors import AdapterError
from d2l.readers.parsing import Section
from tests import tiny
from tests.change.test_merge import compile_roomy, dense, make_note, options_for, worst
from tests.compiled import Compiled, read_files
from tests.task_adapters import make_factors, write_task

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = (
    "The pump stands in the harbor.",
    "Open the copper valve below 3 bar.",
    "The lantern is lit at 21:40.",
)


def make_notes(*numbers: int) -> list[Document]:
    return [make_note(TEXTS[n], f"{n}.txt") for n in numbers]


def read_record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "d2l.json").read_text("utf-8"))


def edit(
    folder: Path, out: Path, *, options: ChangeOptions, force: bool = False, **edits: Any
) -> Path:
    made = Adapter.of(run_plan(prepare(folder, **edits), options))
    return made.save_pretrained(out, force=force)


def run(done: Compiled, out: Path, **edits: Any) -> Path:
    edit(done.adapter, out, **edits, options=options_for(done))
    return out


def compile_fresh(root: Path, kind: str, *documents: Document, **changes: Any) -> Compiled:
    return compile_roomy(root / "fresh", kind, *documents, **changes)


# ---- Doc-to-LoRA --------------------------------------------------------------------------------


@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_without_a_document_it_is_a_fresh_compile_of_the_others(
    left_out: int, tmp_path: Path
) -> None:
    done = compile_roomy(tmp_path, "llama", *make_notes(0, 1, 2))
    rest = [n for n in range(3) if n != left_out]
    out = run(done, tmp_path / "out", drop=(f"{left_out}.txt",))
    fresh = compile_fresh(tmp_path, "llama", *make_notes(*rest))
    assert worst(dense(out), dense(fresh.adapter)) < 1e-6
    assert read_adapter(out).rank == fresh.plan.rank  # the learned part stays, once
    records = read_record(out), read_record(fresh.adapter)
    for key in ("document", "source", "ranks", "index", "n_tokens"):
        assert [c[key] for c in records[0]["chunks"]] == [c[key] for c in records[1]["chunks"]]
    assert records[0]["inputs"] == records[1]["inputs"]
    assert records[0]["parents"][0]["chunks"] == read_record(done.adapter)["chunks"]


def test_keeping_alone_and_dropping_the_rest_are_the_same(tmp_path: Path) -> None:
    done = compile_roomy(tmp_path, "llama", *make_notes(0, 1, 2))
    kept = run(done, tmp_path / "kept", keep=("1.txt",))
    dropped = run(done, tmp_path / "dropped", drop=("0.txt", "2.txt"))
    assert worst(dense(kept), dense(dropped)) == 0.0
    fresh = compile_fresh(tmp_path, "llama", *make_notes(1))
    assert worst(dense(kept), dense(fresh.adapter)) < 1e-6


def test_a_chunk_of_one_document_goes_by_its_page(tmp_path: Path) -> None:
    """Against dense arithmetic: the sum without that chunk's part, the learned part in full."""
    pages = tuple(Section(text * 3, page=n + 1) for n, text in enumerate(TEXTS))
    size = sum(len(section.text) for section in pages)
    document = Document("docs/manual.pdf", "pdf", pages, "0" * 64, size)
    done = compile_roomy(tmp_path, "llama", document, chunk_tokens=40)
    chunks = read_record(done.adapter)["chunks"]
    assert len(chunks) > 2
    gone = [n for n, chunk in enumerate(chunks) if "3" in chunk["source"]]
    assert 0 < len(gone) < len(chunks)
    out = run(done, tmp_path / "out", drop=("manual.pdf:p. 3",))
    weights = read_adapter(done.adapter)
    expected = {}
    for name, f in weights.factors.items():
        parts = [
            f.b[:, slice(*chunks[n]["ranks"])].double() @ f.a[slice(*chunks[n]["ranks"])].double()
            for n in gone
        ]
        expected[name] = f.b.double() @ f.a.double() - sum(parts)
    assert worst(dense(out), expected) < 1e-6
    with pytest.raises(AdapterError, match="no chunk would be left"):
        run(done, tmp_path / "none", drop=("manual.pdf",))


# ---- seats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("left_out", [0, 1])
def test_seats_of_the_rest_are_seated_as_freshly_compiled(left_out: int, tmp_path: Path) -> None:
    done = compile_roomy(tmp_path, "seats", *make_notes(0, 1))
    out = run(done, tmp_path / "out", drop=(f"{left_out}.txt",))
    fresh = compile_fresh(tmp_path, "seats", *make_notes(1 - left_out))
    assert worst(dense(out), dense(fresh.adapter)) < 1e-6
    assert torch.equal(read_memory(out).keys, read_memory(fresh.adapter).keys)
    names = ("chat_template.jinja", "adapter_config.json", "tokenizer.json")
    for name in names:
        assert (out / name).read_bytes() == (fresh.adapter / name).read_bytes()
    assert read_record(out)["prompt"] == read_record(fresh.adapter)["prompt"]


def test_a_page_of_seats_goes_as_if_it_had_not_been_there(tmp_path: Path) -> None:
    """Where the other chunk has as many seats without it: one for each token, so always here."""
    first = Section("Open the copper valve before the pressure falls below 3 bar.", page=1)
    second = Section(f"The {' '.join(tiny.WORDS * 2)}.", page=2)

    def compile_pages(root: Path, *sections: Section) -> Compiled:
        size = sum(len(section.text) for section in sections)
        document = Document("manual.pdf", "pdf", sections, "0" * 64, size)
        return compile_roomy(root, "seats", document, tokens_per_seat=1)

    alone = compile_pages(tmp_path / "fresh", first)
    done = compile_pages(tmp_path, first, second)
    assert [chunk.source for chunk in done.plan.chunks] == ["p. 1", "p. 2"]
    assert done.plan.chunks[0].rank == alone.plan.rank
    out = run(done, tmp_path / "out", drop=("manual.pdf:p. 2",))
    assert worst(dense(out), dense(alone.adapter)) < 1e-6


def test_fewer_seats_than_the_shortest_opening_leave_the_rest_to_the_base(tmp_path: Path) -> None:
    done = compile_roomy(tmp_path, "seats", *make_notes(0, 1))
    cut = compile_roomy(tmp_path / "cut", "seats", *make_notes(0, 1))
    record = read_record(cut.adapter)
    start, _ = record["chunks"][0]["ranks"]
    least = tiny.make_seats_config().min_seats
    # A first chunk of two seats, as a document of many chunks has them.
    record["chunks"][0]["ranks"] = [start, start + 2]
    record["chunks"][1]["ranks"] = [start + 2, record["chunks"][1]["ranks"][1]]
    (cut.adapter / "d2l.json").write_text(json.dumps(record))
    out = run(cut, tmp_path / "out", keep=("0.txt",))
    assert (read_adapter(out).rank, read_memory(out).n_seats) == (least, 2)
    assert least > 2
    for name, f in read_adapter(out).factors.items():
        if name.endswith(("k_proj", "v_proj")):
            scale = float(f.b[:, :2].abs().max())
            assert float(f.b[:, 2:].abs().max()) < 1e-5 * scale, name
    memory = read_memory(done.adapter)
    assert torch.equal(read_memory(out).keys, memory.keys[:, :2])


@pytest.mark.usefixtures("whole_ranks")
def test_seats_keep_the_strength_that_their_chunk_has(tmp_path: Path) -> None:
    done = compile_roomy(tmp_path, "seats", *make_notes(0, 1))
    whole, chunks = read_adapter(done.adapter), read_record(done.adapter)["chunks"]
    write_chunks(done.adapter, [chunks[0] | {"scale": 0.5}, chunks[1]])
    half = run(done, tmp_path / "half", keep=("0.txt", "1.txt"))
    for name, f in read_adapter(half).factors.items():
        expected = whole.factors[name].b.clone()
        if not name.endswith("down_proj"):
            expected[:, slice(*chunks[0]["ranks"])] *= 0.5
        assert torch.allclose(f.b, expected, rtol=1e-5, atol=1e-6)
    assert [chunk.get("scale", 1.0) for chunk in read_record(half)["chunks"]] == [0.5, 1.0]


# ---- what is refused ----------------------------------------------------------------------------


def test_ranks_that_cannot_be_told_apart_are_refused_with_the_reason(tmp_path: Path) -> None:
    done = compile_roomy(tmp_path, "llama", *make_notes(0, 1), max_rank=3)
    with pytest.raises(AdapterError, match=r"was cut from rank .* so every rank holds a bit"):
        run(done, tmp_path / "out", drop=("1.txt",))


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_averages_are_refused(kind: str, tmp_path: Path) -> None:
    done = compile_roomy(tmp_path, kind, *make_notes(0, 1))
    record = read_record(done.adapter)
    record["options"]["merge"] = "average"
    (done.adapter / "d2l.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(AdapterError, match="is the average of its chunks"):
        run(done, tmp_path / "out", drop=("1.txt",))


def test_adapters_that_an_older_version_refined_are_read_and_not_edited(tmp_path: Path) -> None:
    done = compile_roomy(tmp_path, "seats", *make_notes(0, 1))
    record = read_record(done.adapter)
    record["refinement"] = {"steps": 8, "kept": 4, "recall": [2.5, 1.5]}
    record["chunks"] = [chunk | {"ranks": None} for chunk in record["chunks"]]
    (done.adapter / "d2l.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(AdapterError, match="was refined on the whole of its document"):
        run(done, tmp_path / "out", drop=("1.txt",))


def write_chunks(adapter: Path, chunks: list[dict[str, Any]]) -> None:
    record = read_record(adapter)
    record["chunks"] = [chunk | {"index": n} for n, chunk in enumerate(chunks)]
    (adapter / "d2l.json").write_text(json.dumps(record), "utf-8")


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_chunks_that_claim_the_same_ranks_are_not_counted_again(kind: str, tmp_path: Path) -> None:
    done = compile_roomy(tmp_path, kind, *make_notes(0, 1))
    first = read_record(done.adapter)["chunks"][0]
    write_chunks(done.adapter, [first] * 3)
    with pytest.raises(AdapterError, match="is the average of its chunks"):
        prepare(done.adapter, drop=("0.txt",))


def test_seats_that_no_chunk_names_are_left_out(tmp_path: Path) -> None:
    done = compile_roomy(tmp_path, "seats", *make_notes(0, 1, 2))
    chunks = read_record(done.adapter)["chunks"]
    start, stop = chunks[0]["ranks"]
    write_chunks(done.adapter, [chunks[0] | {"ranks": [start, stop - 1]}, *chunks[1:]])
    run(done, tmp_path / "out", drop=("1.txt",))
    spans = [tuple(chunk["ranks"]) for chunk in read_record(tmp_path / "out")["chunks"]]
    begin, end = chunks[2]["ranks"]
    assert spans == [(0, stop - 1), (stop - 1, stop - 1 + end - begin)]
    assert read_memory(tmp_path / "out").n_seats == spans[1][1]


def test_chunks_without_ranks_cost_next_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can write thousands of them into a d2l.json."""
    done = compile_roomy(tmp_path, "llama", *make_notes(0, 1))
    first, second = read_record(done.adapter)["chunks"]
    write_chunks(done.adapter, [first] + [first | {"ranks": [0, 0]}] * 3000 + [second])
    made: list[int] = []
    monkeypatch.setattr(deltas, "LoraFactors", lambda a, b: made.append(1) or LoraFactors(a, b))
    content = run_plan(prepare(done.adapter, drop=("1.txt",)), options_for(done))
    assert content.provenance is not None
    assert content.provenance.chunks[0].ranks == tuple(first["ranks"])
    assert len(made) == len(content.weights.factors)  # cut once


def test_adapters_of_other_tools_and_empty_edits_are_refused(tmp_path: Path) -> None:
    done = compile_roomy(tmp_path, "llama", *make_notes(0, 1))
    task = write_task(tmp_path / "task", make_factors("llama"), base="b")
    with pytest.raises(AdapterError, match="does not say which ranks hold which chunk"):
        edit(task, tmp_path / "out", drop=("x",), options=options_for(done))
    with pytest.raises(AdapterError, match="nothing to edit"):
        run(done, tmp_path / "out")
    with pytest.raises(AdapterError, match="the adapter has no such document"):
        run(done, tmp_path / "out", drop=("9.txt",))


def test_the_same_edit_gives_the_same_bytes(tmp_path: Path) -> None:
    done = compile_roomy(tmp_path, "seats", *make_notes(0, 1))
    first = read_files(run(done, tmp_path / "out", drop=("1.txt",)))
    edit(
        done.adapter,
        tmp_path / "out",
        drop=("1.txt",),
        options=options_for(done),
        force=True,
    )
    assert read_files(tmp_path / "out") == first
