"""`compare`: what differs in words, and norms of differences against dense matrices."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from d2l.adapters.provenance import ChunkRecord
from d2l.change.diff import compare, list_chunks
from d2l.errors import MergeError
from tests import tiny
from tests.change.test_merge import compile_roomy, dense, make_note
from tests.compiled import Compiled
from tests.task_adapters import make_factors, write_task

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_an_adapter_does_not_differ_from_itself(
    kind: str, compiled: Callable[[str], Compiled], tmp_path: Path
) -> None:
    done = compiled(kind)
    copy = shutil.copytree(done.adapter, tmp_path / "copy")
    found = compare(done.adapter, copy)
    assert found.same
    assert (found.facts, found.inputs, found.chunks) == ({}, {}, {})
    assert all((row.relative or 0) < 1e-12 for row in found.layers)


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_layers_change_as_dense_matrices_do(kind: str, tmp_path: Path) -> None:
    notes = [make_note(text, "a.txt") for text in ("The pump is red.", "The pump is in Kiel now.")]
    adapters = [
        compile_roomy(tmp_path / str(n), kind, note).adapter for n, note in enumerate(notes)
    ]
    found = compare(*adapters)
    left, right = (dense(adapter) for adapter in adapters)
    assert not found.same
    assert [row.layer for row in found.layers] == sorted({n.split(".")[2] for n in left})
    for row in found.layers:
        names = [name for name in left if name.startswith(f"model.layers.{row.layer}.")]
        own = sum(float(left[name].norm()) ** 2 for name in names) ** 0.5
        gap = sum(float((left[name] - right[name]).norm()) ** 2 for name in names) ** 0.5
        assert row.norm == pytest.approx(own, rel=1e-6)
        assert row.difference == pytest.approx(gap, rel=1e-6)
        assert row.relative == pytest.approx(gap / own, rel=1e-6)


def test_inputs_chunks_options_and_checkpoints_that_differ_are_named(tmp_path: Path) -> None:
    one, two, three = (
        make_note(text, name)
        for text, name in (
            ("The pump is red.", "a.txt"),
            ("The key is blue.", "b.txt"),
            ("The pump is red.", "c.txt"),
        )
    )
    old = compile_roomy(tmp_path / "old", "llama", one, two).adapter
    new = compile_roomy(tmp_path / "new", "llama", one, three, chunk_tokens=50).adapter
    record = json.loads((new / "d2l.json").read_text())
    record["checkpoint"]["sha256"] = "f" * 64
    record["inputs"][0]["sha256"] = "e" * 64
    (new / "d2l.json").write_text(json.dumps(record))
    found = compare(old, new)
    assert found.inputs == {"a.txt": "changed", "b.txt": "removed", "c.txt": "added"}
    assert set(found.chunks.values()) == {"removed", "added"}
    assert found.facts["option chunk_tokens"] == (None, 50)
    assert found.facts["checkpoint sha256"][1] == "f" * 64
    assert "option merge" not in found.facts


def test_other_modules_and_ranks_of_other_tools_are_compared(tmp_path: Path) -> None:
    base = tiny.base_name("llama")
    one = write_task(tmp_path / "one", make_factors("llama", ("q_proj",), layers=(0,)), base=base)
    two = write_task(tmp_path / "two", make_factors("llama", ("v_proj",), rank=6), base=base)
    found = compare(one, two)
    assert found.facts["modules"] == ("q_proj", "v_proj")
    assert found.facts["rank"] == (4, 6)
    first, second, _ = found.layers
    assert first.relative is not None
    assert (second.norm, second.relative) == (0.0, None)  # the first changes nothing there


def test_chunks_of_one_place_are_told_apart_in_the_time_of_their_number() -> None:
    places = ["§ A", "§ A (2)", "§ A", *["p. 1"] * 50_000]
    chunks = tuple(
        ChunkRecord(index=index, document="a.pdf", source=place, n_tokens=1)
        for index, place in enumerate(places)
    )
    began = time.process_time()
    names = list(list_chunks(chunks))
    assert time.process_time() - began < 20
    assert names[:4] == ["a.pdf: § A", "a.pdf: § A (2)", "a.pdf: § A (3)", "a.pdf: p. 1"]
    assert len(names) == len(places)


def test_adapters_of_bases_of_other_sizes_are_told_apart(tmp_path: Path) -> None:
    small = make_factors("llama")
    large = {name: (a.repeat(1, 2), b) for name, (a, b) in small.items()}
    first = write_task(tmp_path / "first", small, base="org/small")
    second = write_task(tmp_path / "second", large, base="org/large")
    with pytest.raises(MergeError, match="different bases: org/small and org/large") as refused:
        compare(first, second)
    assert refused.value.hint
