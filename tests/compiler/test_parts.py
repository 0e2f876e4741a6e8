"""Documents longer than one memory holds keep a part for each chunk, whatever is in them."""

import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from d2l.adapters.info import PART_VALUES, PARTS, read_info
from d2l.adapters.parts import Parts, keep_memories, read_parts
from d2l.adapters.weights import Memory
from d2l.api.adapter import Adapter
from d2l.change import edit, merge, merge_plan
from d2l.change.parents import ChangeOptions
from d2l.compiler.plan import CompilePlan
from d2l.documents.document import Document
from d2l.readers.parsing import Heading, Section
from tests import tiny
from tests.adapters.test_parts import written
from tests.compiler.test_chunk_cache import document, make_compiler, plan_for, saved
from tests.sized import assert_four_times

pytestmark = pytest.mark.usefixtures("one_thread", "cache")
PAGES = (
    tiny.DOCUMENT,
    "The tower has 96 steps. The bell is cast in bronze.",
    "The well is 30 m deep. Its rope is changed in May.",
)


def parts_of(folder: Path) -> Parts:
    parts = read_parts(read_info(folder))
    assert parts is not None
    return parts


def compile_pages(root: Path, *pages: str, kind: str = "seats", **wishes: Any) -> Path:
    compiler = make_compiler(root, kind)
    plan = plan_for(compiler, *(pages or PAGES), **wishes)
    return compiler(plan).save_pretrained(root / f"{len(list(root.iterdir()))}.lora")


# ---- which documents ----------------------------------------------------------------------------


def test_a_document_keeps_parts_where_seats_lack_room_or_they_are_asked_for(tmp_path: Path) -> None:
    compiler = make_compiler(tmp_path)
    long, short = plan_for(compiler), plan_for(compiler, "The pump stands.")
    assert (long.keeps_parts, short.keeps_parts) == (True, False)
    assert plan_for(compiler, "The pump stands.", parts=True).keeps_parts
    single = saved(compiler, plan_for(compiler, parts=False), tmp_path)
    assert not single.keys() & {PARTS, PART_VALUES}
    several = saved(compiler, long, tmp_path)
    assert several.keys() - single.keys() == {PARTS, PART_VALUES}


def test_each_memory_is_that_of_its_chunk_compiled_alone(tmp_path: Path) -> None:
    compiler = make_compiler(tmp_path)
    plan = plan_for(compiler)
    parts = parts_of(compiler(plan).save_pretrained(tmp_path / "a.lora"))
    assert len(plan.chunks) > 3
    for place, chunk in enumerate(plan.chunks):
        (alone,) = compiler._loaded.write(chunk, *compiler._loaded.read([chunk]), [chunk.part_rank])
        assert chunk.part_rank == parts.records[place].n_seats == alone.n_seats
        rows = Memory(alone.keys.bfloat16(), alone.values.bfloat16())
        rounded = keep_memories(parts.select([place]).index, [rows], 8)
        assert torch.equal(parts.read(place).keys, rounded.read(0).keys)
        assert torch.equal(parts.read(place).values, rounded.read(0).values)
        assert parts.records[place].text in plan.documents[0].text


def test_a_second_run_reads_no_chunk_and_a_changed_paragraph_few(tmp_path: Path) -> None:
    compiler = make_compiler(tmp_path)
    plan = plan_for(compiler, *PAGES)
    first = saved(compiler, plan, tmp_path)
    fresh = make_compiler(tmp_path)
    assert fresh.look_up(plan).n_read == 0
    assert saved(fresh, plan, tmp_path) == first
    assert fresh._loaded is None
    changed = plan_for(compiler, *PAGES[:2], PAGES[2].replace("30 m", "40 m"))
    assert 0 < fresh.look_up(changed).n_read <= 3 < len(changed.chunks) / 3
    uncached = replace(changed, options=plan.options.changed(cache=False))
    assert saved(fresh, changed, tmp_path) == saved(fresh, uncached, tmp_path)


# ---- edit and merge -----------------------------------------------------------------------------


def change(root: Path) -> ChangeOptions:
    base = str(root / tiny.base_name("llama"))
    return ChangeOptions(checkpoint=str(root / "checkpoint"), base=base, device="cpu", offline=True)


def write(made: Any, out: Path) -> Path:
    return Adapter.of(made).save_pretrained(out)


@pytest.mark.parametrize("kind", ["seats", "llama"])
@pytest.mark.parametrize("selectors", [{"drop": ["#1"]}, {"keep": ["#0", "#2"]}])
def test_editing_takes_parts_with_their_chunks_and_leaves_the_others_bytes(
    kind: str, selectors: dict[str, list[str]], tmp_path: Path
) -> None:
    folder = compile_pages(tmp_path, kind=kind, parts=True, chunk_tokens=24)
    before = parts_of(folder)
    n = len(before.records)
    stays = [0, 2] if "keep" in selectors else [0, *range(2, n)]
    made = edit.run(edit.prepare(folder, **selectors), change(tmp_path))
    out = write(made, tmp_path / "out.lora")
    assert written(parts_of(out), tmp_path / "a") == written(before.select(stays), tmp_path / "b")
    texts = [before.records[place].text for place in stays]
    assert [record.text for record in parts_of(out).records] == texts


@pytest.mark.parametrize("kind", ["seats", "llama"])
def test_merging_joins_parts_and_says_where_a_parent_has_none(kind: str, tmp_path: Path) -> None:
    tiny.write_base(tmp_path / tiny.base_name("llama"), "llama")
    if kind == "seats":
        tiny.write_seats(tmp_path / "checkpoint", repeats=4)
    one = compile_pages(tmp_path, PAGES[0], kind=kind, parts=True)
    other = compile_pages(tmp_path, PAGES[1], kind=kind, parts=True)
    bare = compile_pages(tmp_path, PAGES[2], kind=kind, parts=False)

    def merged(*folders: Path, **wishes: Any) -> Any:
        checkpoint = str(tmp_path / "checkpoint")
        plan = merge_plan.prepare(folders, checkpoint=checkpoint, offline=True, **wishes)
        return merge.run(plan, change(tmp_path))

    both = write(merged(one, other), tmp_path / "both.lora")
    joined, apart = parts_of(both), [parts_of(one), parts_of(other)]
    assert joined.records == (*apart[0].records, *apart[1].records)
    if kind == "seats":
        tensors = [own.stored(n) for own in apart for n in range(len(own.records))]  # type: ignore[misc]
        for n, expected in enumerate(tensors):
            got = joined.stored(n)  # type: ignore[misc]
            assert all(np.array_equal(got[name], expected[name]) for name in expected)
    else:  # compressed ranks hold a bit of every part
        assert merged(one, other, max_rank=2).parts is None
    made = merged(one, bare)
    assert made.parts is None
    assert any("has no parts" in warning for warning in made.provenance.warnings)


# ---- odd documents ------------------------------------------------------------------------------


def plan_document(root: Path, made: Document, **wishes: Any) -> CompilePlan:
    return make_compiler(root).plan(made, parts=True, cache=False, **wishes)


def headed(*pages: tuple[str, str]) -> Document:
    """Pages with a heading each, "" for none."""
    sections = tuple(
        Section(
            f"{title}\n{text}" if title else text, n, None, (Heading(0, 1, title),) if title else ()
        )
        for n, (title, text) in enumerate(pages, start=1)
    )
    return Document("manual.pdf", "pdf", sections, "0" * 64, 10)


def test_headings_are_read_with_every_part_below_them(tmp_path: Path) -> None:
    without = plan_document(tmp_path, headed(("", tiny.DOCUMENT)))
    assert {chunk.headings for chunk in without.chunks} == {()}
    plan = plan_document(tmp_path, headed(("Care", tiny.DOCUMENT)))
    assert len(plan.chunks) > 2
    assert {chunk.headings for chunk in plan.chunks} == {("Care",)}
    words = tiny.encode("Care\n")
    n = len(plan.config.read_opening)
    for chunk in plan.chunks[1:]:  # the first begins with the heading itself
        assert list(chunk.token_ids[n : n + len(words)]) == words


def test_rows_of_tables_stay_whole_unless_one_alone_is_too_long(tmp_path: Path) -> None:
    rows = [f"{n}. | {n}" for n in range(9)]
    long = " | ".join(["copper."] * 30)
    plan = plan_document(tmp_path, document("\n".join(rows), f"{rows[0]}\n{long}"))
    texts = [chunk.text for chunk in plan.chunks]
    for row in rows:
        assert any(row in text for text in texts)
    assert not any(text.startswith("|") for text in texts if "copper" not in text)
    assert sum("copper" in text for text in texts) > 1


@pytest.mark.parametrize("blank", ["", " ", "\n\n", "\t"])
def test_empty_pages_and_long_blanks_give_no_empty_part(blank: str, tmp_path: Path) -> None:
    wide = f"filter{' ' * 90}pump"
    plan = plan_document(tmp_path, document(blank, tiny.DOCUMENT, blank, wide, blank))
    leading = len(plan.config.read_opening)
    assert all(len(chunk.token_ids) > leading for chunk in plan.chunks)
    folder = make_compiler(tmp_path)(plan).save_pretrained(tmp_path / "a.lora")
    assert len(parts_of(folder).records) == len(plan.chunks)


def write_page(draw: random.Random) -> str:
    words = [draw.choice(tiny.WORDS) for _ in range(60)]
    return ". ".join(" ".join(words[n : n + 6]).capitalize() for n in range(0, 60, 6)) + "."


@pytest.mark.slow
@pytest.mark.parametrize("repeated", [False, True])
def test_cutting_takes_time_in_proportion_to_the_pages(repeated: bool, tmp_path: Path) -> None:
    def cut(n_pages: int) -> float:
        draw = random.Random(1)
        pages = [write_page(draw) for _ in range(n_pages)]
        pages = [pages[0]] * n_pages if repeated else pages
        made = headed(*((f"Chapter {n}", page) for n, page in enumerate(pages)))
        start = time.process_time()
        assert len(plan_document(tmp_path, made).chunks) >= n_pages
        return time.process_time() - start

    assert_four_times(cut, 75)
