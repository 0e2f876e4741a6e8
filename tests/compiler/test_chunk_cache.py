"""The cache of parts: what is found gives the same bytes, and what is wrong is not found."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2l.api.compiler import Compiler
from d2l.compiler import chunk_cache
from d2l.compiler.plan import CompilePlan
from d2l.documents.document import Document
from d2l.files import cache_entries as entries
from d2l.hypernets.network import LoadedNetwork
from d2l.hypernets.options import CompileOptions
from d2l.readers.parsing import Section
from tests import tiny
from tests.compiled import KINDS, read_files, write_files

pytestmark = pytest.mark.usefixtures("one_thread", "cache")

read = LoadedNetwork.read
PAGES = (tiny.DOCUMENT, "The tower has 96 steps. The bell is cast in bronze.")


def make_compiler(root: Path, kind: str = "seats", **changes: Any) -> Compiler:
    base, checkpoint = write_files(root, kind)
    values: dict[str, Any] = {"device": "cpu", "dtype": "fp32", "offline": True}
    return Compiler(CompileOptions(str(checkpoint), str(base), **(values | changes)))


def document(*pages: str) -> Document:
    sections = tuple(Section(text, page=n) for n, text in enumerate(pages or PAGES, start=1))
    return Document("manual.txt", "text", sections, "0" * 64, 10)


def plan_for(compiler: Compiler, *pages: str, **wishes: Any) -> CompilePlan:
    return compiler.plan(document(*pages), **{"cache": True, **wishes})


def saved(compiler: Compiler, plan: CompilePlan, out: Path) -> dict[str, bytes]:
    return read_files(compiler(plan).save_pretrained(out / "a.lora", force=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left", ["all", "parts", "some parts"])
def test_cached_results_are_those_of_an_uncached_run(kind: str, left: str, tmp_path: Path) -> None:
    compiler = make_compiler(tmp_path, kind, chunk_tokens=24)
    plain = saved(compiler, plan_for(compiler, cache=False), tmp_path)
    assert not entries.list_entries()
    plan = plan_for(compiler)
    assert saved(compiler, plan, tmp_path) == plain
    (joined,) = entries.list_entries(entries.ASSEMBLED)
    (tmp_path / "new").touch()  # a cache may be shared
    assert joined.path.stat().st_mode == (tmp_path / "new").stat().st_mode
    if kind != "seats":  # parts side by side are not stored twice
        ranks = {len(t) for name, t in load_file(joined.path).items() if name.startswith("a.")}
        assert ranks == {plan.config.bias_rank}
    parts = entries.list_entries(entries.CHUNKS)
    assert len(parts) == sum(1 + bool(chunk.part_rank) for chunk in plan.chunks) > 1
    if left != "all":
        for entry in entries.list_entries(entries.ASSEMBLED):
            entry.path.unlink()
    if left == "some parts":
        parts[0].path.unlink()
    fresh = make_compiler(tmp_path, kind, chunk_tokens=24)
    found = fresh.look_up(plan)
    assert found.n_read == (left == "some parts")
    assert (found.assembled is not None) == (left == "all")
    assert saved(fresh, plan, tmp_path) == plain
    assert (fresh._loaded is None) == (left == "all")  # neither base nor network


def test_only_the_changed_chunk_is_read(tmp_path: Path) -> None:
    compiler = make_compiler(tmp_path, chunking="stable")
    saved(compiler, plan_for(compiler), tmp_path)
    changed = plan_for(compiler, PAGES[0], PAGES[1].replace("96 steps", "97 steps"))
    found = compiler.look_up(changed)
    assert saved(compiler, changed, tmp_path) == saved(
        compiler, replace(changed, options=replace(changed.options, cache=False)), tmp_path
    )
    assert 0 < found.n_read < len(changed.chunks)


@pytest.mark.parametrize("most", [0, 100, 1 << 20])
def test_a_gpu_reads_short_chunks_side_by_side(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are not cached, and others with the same values."""
    compiler, together = make_compiler(tmp_path, "llama", chunk_tokens=24), []
    plan = plan_for(compiler)
    alone = compiler(replace(plan, options=replace(plan.options, cache=False)))
    monkeypatch.setattr("d2l.compiler.run.count_together", lambda _: most)
    monkeypatch.setattr(
        LoadedNetwork, "read", lambda self, chunks: together.append(chunks) or read(self, chunks)
    )
    saved(compiler, plan, tmp_path)
    lengths = [[len(chunk.token_ids) for chunk in chunks] for chunks in together]
    assert [chunk for chunks in together for chunk in chunks] == [*plan.chunks]
    assert all(len(some) == 1 or max(some) * len(some) <= most for some in lengths)
    assert (len(together) == len(plan.chunks)) == (most == 0)
    (entry, *_) = entries.list_entries(entries.CHUNKS)
    entry.path.unlink()
    together.clear()
    again = compiler(plan)
    assert [len(chunks) for chunks in together] == [1]
    assert again.weights is not None
    for name, factors in alone.weights.factors.items():
        torch.testing.assert_close(again.weights.factors[name].a, factors.a)
        torch.testing.assert_close(again.weights.factors[name].b, factors.b)


def test_entries_are_written_while_the_next_chunk_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler, is_read, waited = make_compiler(tmp_path, chunk_tokens=24), Event(), []
    plan = plan_for(compiler)

    def read_next(self: LoadedNetwork, chunks: Any) -> Any:
        if chunks[0].index == 1:
            is_read.set()
        return read(self, chunks)

    def write(*entry: Any) -> None:
        waited.append(is_read.wait(10))
        write_entry(*entry)

    write_entry = chunk_cache._write
    monkeypatch.setattr(LoadedNetwork, "read", read_next)
    monkeypatch.setattr(chunk_cache, "_write", write)
    saved(compiler, plan, tmp_path)
    assert all(waited)
    assert compiler.look_up(plan).assembled is not None


def test_an_error_of_an_entry_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    compiler = make_compiler(tmp_path, chunk_tokens=24)
    monkeypatch.setattr(chunk_cache, "_write", fail)
    with pytest.raises(ZeroDivisionError):
        compiler(plan_for(compiler))


@pytest.mark.parametrize("changes", [{"tokens_per_seat": 6}, {"chunk_tokens": 20}])
def test_another_rank_or_text_is_another_key(changes: dict[str, Any], tmp_path: Path) -> None:
    compiler = make_compiler(tmp_path)
    saved(compiler, plan_for(compiler), tmp_path)
    assert compiler.look_up(plan_for(compiler, **changes)).n_read


def test_another_precision_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = make_compiler(tmp_path)
    saved(compiler, plan_for(compiler), tmp_path)
    monkeypatch.setenv("D2L_BASE_DTYPE", "bf16")
    found = compiler.look_up(plan_for(compiler))
    assert (found.n_cached, found.assembled) == (0, None)


def test_another_network_or_base_is_another_key(tmp_path: Path) -> None:
    compiler = make_compiler(tmp_path)
    plan = plan_for(compiler)
    saved(compiler, plan, tmp_path)
    for folder, tensor in ((plan.checkpoint.path, "width_vector"), (plan.base.folder, None)):
        path = folder / "model.safetensors"
        kept = path.read_bytes()
        tensors = load_file(path)
        name = tensor or sorted(tensors)[0]
        tensors[name] = tensors[name] + 0.01
        save_file(tensors, path, {"format": "pt"})
        found = compiler.look_up(plan)
        assert (found.n_cached, found.assembled) == (0, None)
        path.write_bytes(kept)
    assert compiler.look_up(plan).assembled is not None


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip_value(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def flip_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8 + data[8:].index(b"claims_seats") + 15] ^= 1  # "1" becomes "0"
    path.write_bytes(bytes(data))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def reshape(path: Path) -> None:
    """Another shape, and no digest to betray it."""
    tensors, said = _open(path)
    tensors = {name: tensor[:, :, :-1].contiguous() for name, tensor in tensors.items()}
    save_file(tensors, path, said)


def fewer_seats(path: Path) -> None:
    """A whole entry with a right digest, whose memory has one seat less than the chunk's."""
    tensors, said = _open(path)
    _sign(path, {name: tensor[:, :-1].contiguous() for name, tensor in tensors.items()}, said)


def narrower(path: Path) -> None:
    """The same with keys and values of another width than the base's."""
    tensors, said = _open(path)
    _sign(path, {name: tensor[:, :, :-1].contiguous() for name, tensor in tensors.items()}, said)


def another_networks(path: Path) -> None:
    """A whole entry of another key under this one's name."""
    tensors, said = _open(path)
    _sign(path, tensors, said | {"key": "0" * 64})


def _open(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return load_file(path), header["__metadata__"]


def _sign(path: Path, tensors: dict[str, torch.Tensor], said: dict[str, str]) -> None:
    said = {name: value for name, value in said.items() if name != "sha256"}
    save_file(tensors, path, said | {"sha256": chunk_cache._digest_entry(tensors, said)})


@pytest.mark.parametrize(
    "harm",
    [truncate, flip_value, flip_header, empty, reshape, fewer_seats, narrower, another_networks],
)
def test_a_damaged_part_is_read_and_replaced(harm: Callable[[Path], None], tmp_path: Path) -> None:
    compiler = make_compiler(tmp_path)
    plan = plan_for(compiler)
    plain = saved(compiler, plan, tmp_path)
    shutil.rmtree(tmp_path / "cache" / entries.ASSEMBLED)
    key = compiler.look_up(plan).chunks[0].key
    path = entries.entry_path(entries.CHUNKS, hashlib.sha256(key.encode()).hexdigest())
    whole = path.read_bytes()
    harm(path)
    assert path.read_bytes() != whole
    found = compiler.look_up(plan)
    assert (found.chunks[0].share, found.n_read) == (None, 1)
    assert found.n_read
    assert saved(compiler, plan, tmp_path) == plain
    shutil.rmtree(tmp_path / "cache" / entries.ASSEMBLED)
    assert compiler.look_up(plan).n_read == 0


@pytest.mark.parametrize("harm", [truncate, flip_value, empty])
def test_a_damaged_joined_adapter_is_made_anew_of_its_parts(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    compiler = make_compiler(tmp_path)
    plan = plan_for(compiler)
    plain = saved(compiler, plan, tmp_path)
    (entry,) = entries.list_entries(entries.ASSEMBLED)
    harm(entry.path)
    found = compiler.look_up(plan)
    assert found.assembled is None
    assert found.n_read == 0
    assert saved(compiler, plan, tmp_path) == plain
    assert compiler.look_up(plan).assembled is not None


@pytest.mark.parametrize("wish", [{"scale": 0.5}, {"merge": "average"}])
def test_other_merge_options_take_no_joined_adapter(wish: dict[str, Any], tmp_path: Path) -> None:
    compiler = make_compiler(tmp_path)
    saved(compiler, plan_for(compiler), tmp_path)
    plan = plan_for(compiler, **wish)
    assert compiler.look_up(plan).assembled is None
    plain = saved(compiler, plan_for(compiler, cache=False, **wish), tmp_path)
    assert saved(compiler, plan, tmp_path) == plain


def test_the_cache_stays_within_its_bound_and_zero_turns_it_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = make_compiler(tmp_path)
    saved(compiler, plan_for(compiler), tmp_path)
    total = sum(entry.size_bytes for entry in entries.list_entries())
    monkeypatch.setenv("D2L_CACHE_MAX_SIZE", str(total))
    saved(compiler, plan_for(compiler, "The harbor is closed at night."), tmp_path)
    assert 0 < sum(entry.size_bytes for entry in entries.list_entries()) <= total
    entries.prune(0)
    monkeypatch.setenv("D2L_CACHE_MAX_SIZE", "0")
    saved(compiler, plan_for(compiler), tmp_path)
    assert entries.list_entries() == []


def test_a_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = make_compiler(tmp_path)
    plan = plan_for(compiler, cache=False)
    plain = saved(compiler, plan, tmp_path)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "file"))
    assert saved(compiler, plan_for(compiler), tmp_path) == plain
