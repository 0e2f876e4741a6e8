"""One base and more adapters than are kept in memory."""

import ctypes
import gc
import os
import random
import shutil
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from d2l.answer.asked import Asked
from d2l.answer.events import Event, Start, TextPiece
from d2l.answer.model import AdaptedModel
from d2l.answer.readers import load_model
from d2l.errors import AdapterError
from d2l.files.tensors import read_header
from d2l.serve.engine import ChatOrder, Engine
from d2l.serve.library import Library, ServedAdapter, read_stamp
from d2l.serve.protocol import ChatRequest, RequestError
from tests.loaded import change_json, change_weights
from tests.serving import ADAPTERS, N_TOKENS, QUESTIONS, Shelf, running, say

pytestmark = pytest.mark.usefixtures("one_thread")
TURNS = [{"role": "user", "content": "Where is the pump?"}]


@pytest.mark.slow
def test_ten_adapters_answer_as_they_do_alone_and_three_stay_in_memory(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = {}
    for n in range(10):
        folder = tmp_path / f"a{n}.lora"
        shutil.copytree(shelf.folder / f"{list(ADAPTERS)[n % 4]}.lora", folder)
        change_weights(folder, lambda _, tensor, n=n: tensor * (1 + n // 4))  # type: ignore[misc]
        alone = AdaptedModel.load(folder, shelf.asking)
        quiet |= {(f"a{n}", question): alone.ask(question) for question in QUESTIONS[:2]}
    loaded: list[weakref.ref[Asked]] = []

    def load(*args: Any, **options: Any) -> Asked:
        new = load_model(*args, **options)
        loaded.append(weakref.ref(new))
        return new

    monkeypatch.setattr("d2l.serve.engine.load_model", load)
    monkeypatch.setattr("d2l.serve.server.N_KEPT", 3)
    with running(shelf, tmp_path) as server, server.client() as client:

        def ask_all(turn: int) -> dict[tuple[str, str], str]:
            asked = random.Random(turn).sample(list(quiet), 8)
            return {(name, text): say(client, name, text).strip() for name, text in asked}

        with ThreadPoolExecutor(3) as clients:
            for answers in clients.map(ask_all, range(3)):
                assert answers == {asked: quiet[asked] for asked in answers}
        gc.collect()
        assert len(loaded) > 10
        assert sum(ref() is not None for ref in loaded) <= 3
    assert len(set(quiet.values())) > 10


def test_a_folder_without_adapters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no adapter here that says its base"):
        Library(tmp_path, remark=print)
    with pytest.raises(AdapterError, match="cannot be listed"):
        Library(tmp_path / "none", remark=print)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no names")
def test_what_is_no_file_is_left_out_and_not_opened(shelf: Shelf, tmp_path: Path) -> None:
    for name in ("note.lora", "pipe.lora", "zero.lora"):
        shutil.copytree(shelf.folder / "note.lora", tmp_path / name)
    configs = [tmp_path / name / "adapter_config.json" for name in ("pipe.lora", "zero.lora")]
    for config in configs:
        config.unlink()
    os.mkfifo(configs[0])
    configs[1].symlink_to("/dev/zero")
    remarks: list[str] = []
    assert list(Library(tmp_path, remark=remarks.append).list_entries()) == ["note"]
    assert remarks == [
        f"{path.parent}: left out (adapter_config.json: is no regular file)" for path in configs
    ]


def ask(engine: Engine, entry: ServedAdapter) -> str:
    wanted = ChatRequest.model_validate({"model": entry.name, "messages": TURNS})
    events: list[Event] = []
    engine.answer(ChatOrder(wanted, N_TOKENS, entry), events.append, lambda: False)
    return "".join(piece.text for piece in events if isinstance(piece, TextPiece))


def test_other_files_of_the_same_sizes_and_times_are_noticed(shelf: Shelf, tmp_path: Path) -> None:
    folder = shutil.copytree(shelf.folder / "note.lora", tmp_path / "note.lora")
    change_json(folder / "d2l.json", weights_sha256=None)  # as of versions without digests
    library = Library(tmp_path, remark=print)
    engine = Engine(library.list_entries().values(), shelf.asking, n_kept=2)
    before = ask(engine, library.list_entries()["note"])
    weights = folder / "adapter_model.safetensors"
    times = weights.stat().st_mtime_ns
    other = load_file(weights)
    save_file(
        {name: tensor.flip(0) for name, tensor in other.items()},
        tmp_path / "other",
        {"format": "pt"},
    )
    size = weights.stat().st_size
    weights.unlink()
    shutil.move(tmp_path / "other", weights)
    os.utime(weights, ns=(times, times))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (size, times)
    after = ask(engine, library.list_entries()["note"])
    assert after == AdaptedModel.load(folder, shelf.asking).ask(TURNS[0]["content"]) != before


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc alone")
def test_freed_memory_goes_back_to_the_system_when_an_adapter_is_replaced(
    shelf: Shelf, tmp_path: Path
) -> None:
    folder = shutil.copytree(shelf.folder / "note.lora", tmp_path / "note.lora")
    library = Library(tmp_path, remark=print)
    engine = Engine(library.list_entries().values(), shelf.asking, n_kept=2)
    blocks = [b"x" * 2**16 for _ in range(3_000)]
    del blocks[1::2]  # first, so that no hole is at the end of the heap
    kept = blocks[::100]
    del blocks
    before = count_resident()
    (folder / "README.md").touch()
    ask(engine, library.list_entries()["note"])
    assert count_resident() < before - 100e6
    assert len(kept) == 15


def count_resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_an_error_leaves_memory_once_it_is_answered(shelf: Shelf, tmp_path: Path) -> None:
    """At once: the frames of an error hold weights, and the collector comes late."""
    for name in ("note", "pump"):
        shutil.copytree(shelf.folder / f"{name}.lora", tmp_path / f"{name}.lora")
    weights = tmp_path / "pump.lora" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2] + b"??")
    with running(shelf, tmp_path) as server, server.client() as client:
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                with pytest.raises(openai.InternalServerError, match="was changed"):
                    say(client, "pump", "Where?")
            left = [held for held in gc.get_objects() if type(held) is AdapterError]
        finally:
            gc.enable()
        assert left == []


def test_an_adapter_that_changes_while_it_is_loaded_is_not_kept(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("note", "pump"):
        shutil.copytree(shelf.folder / f"{name}.lora", tmp_path / f"{name}.lora")
    entries = Library(tmp_path, remark=print).list_entries()
    engine = Engine(entries.values(), shelf.asking, n_kept=2)

    def load(folder: Path, *args: Any, **options: Any) -> Asked:
        (folder / "d2l.json").touch()
        return load_model(folder, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("d2l.serve.engine.load_model", load)
        with pytest.raises(RequestError, match="changed while"):
            ask(engine, entries["pump"])
    for name in ("note", "pump"):
        assert ask(engine, entries[name]) == shelf.load(name).ask(TURNS[0]["content"])


@pytest.mark.parametrize("where", ["adapters.peft_folder.read_header", "adapters.info.read_header"])
def test_weights_that_go_while_they_are_loaded_are_an_error_that_leaves_nothing(
    where: str, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("note", "pump"):
        shutil.copytree(shelf.folder / f"{name}.lora", tmp_path / f"{name}.lora")
    entries = Library(tmp_path, remark=print).list_entries()
    engine = Engine(entries.values(), shelf.asking, n_kept=2)

    def remove(path: Path) -> object:
        path.unlink()
        return read_header(path)

    with monkeypatch.context() as patch:
        patch.setattr(f"d2l.{where}", remove)
        with pytest.raises(AdapterError, match="cannot be read"):
            ask(engine, entries["pump"])
    (first,) = engine._loaded.values()
    assert isinstance(first.model, AdaptedModel)
    assert set(first.model.model.peft_config) == {first.model.name}
    assert ask(engine, entries["note"]) == shelf.load("note").ask(TURNS[0]["content"])


@pytest.mark.skipif(sys.platform == "win32", reason="a move leaves no trace")
def test_another_folder_that_stood_there_during_a_load_is_never_answered_from(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(shelf.folder / "note.lora", tmp_path / "served" / "note.lora")
    shutil.copytree(shelf.folder / "pump.lora", tmp_path / "other")

    def swap(load: Callable[..., Any]) -> Callable[..., Any]:
        def swapped(*args: Any, **options: Any) -> Any:
            folder.rename(tmp_path / "aside")
            (tmp_path / "other").rename(folder)
            try:
                return load(*args, **options)
            finally:
                folder.rename(tmp_path / "other")
                (tmp_path / "aside").rename(folder)

        return swapped

    entries = Library(folder.parent, remark=print).list_entries()
    with monkeypatch.context() as patch:
        patch.setattr("d2l.serve.engine.load_model", swap(load_model))
        engine = Engine(entries.values(), shelf.asking, n_kept=2)
        with pytest.raises(RequestError, match="changed while"):
            ask(engine, entries["note"])
    assert ask(engine, entries["note"]) == shelf.load("note").ask(TURNS[0]["content"])


@pytest.mark.skipif(sys.platform == "win32", reason="links need a permission")
def test_links_go_by_their_own_name_and_a_bad_one_hides_nothing(
    shelf: Shelf, tmp_path: Path
) -> None:
    folder = shutil.copytree(shelf.folder / "note.lora", tmp_path / "old.lora")
    (tmp_path / "cur").symlink_to("old.lora")
    (tmp_path / "loop.lora").symlink_to("loop.lora")
    assert list(Library(tmp_path, remark=print).list_entries()) == ["cur", "old"]
    assert list(Library(tmp_path / "cur", remark=print).list_entries()) == ["cur"]
    (folder / "loop").symlink_to("loop")
    before = read_stamp(tmp_path / "cur")
    (folder / "chat_template.jinja").write_text("another")
    assert read_stamp(tmp_path / "cur") != before


def test_a_name_is_free_again_when_its_other_adapter_goes(shelf: Shelf, tmp_path: Path) -> None:
    for name in ("note", "note.lora"):
        shutil.copytree(shelf.folder / "note.lora", tmp_path / name)
    remarks: list[str] = []
    library = Library(tmp_path, remark=remarks.append)
    assert library.list_entries()["note"].folder == tmp_path / "note"
    shutil.rmtree(tmp_path / "note")
    assert library.list_entries()["note"].folder == tmp_path / "note.lora"
    assert remarks == [f"{tmp_path / 'note.lora'}: left out (the name note is taken)"]


def test_reading_a_long_prompt_ends_when_the_answer_is_due(shelf: Shelf) -> None:
    entries = Library(shelf.folder, remark=print).list_entries()
    engine = Engine(entries.values(), shelf.asking, n_kept=2)
    wanted = ChatRequest.model_validate({"model": "pump", "messages": TURNS})
    events: list[Event] = []
    with pytest.raises(TimeoutError, match="before the answer began"):
        engine.answer(ChatOrder(wanted, N_TOKENS, entries["pump"]), events.append, lambda: True)
    assert [type(event) for event in events] in (
        [],
        [Start],
    )  # of parts, the question is read first
    assert ask(engine, entries["pump"]) == shelf.load("pump").ask(TURNS[0]["content"])


def test_a_long_prompt_is_read_in_pieces_until_its_answer_is_due(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d2l.answer.forward.PIECE", 32)
    entries = Library(shelf.folder, remark=print).list_entries()
    engine = Engine(entries.values(), shelf.asking, n_kept=2)
    question = "Where is the pump? " * 20
    lengths: list[int] = []

    def note_length(_layer: object, args: tuple[Tensor, ...]) -> None:
        lengths.append(args[0].shape[1])

    for name in ("pump", "harbor"):  # with an opening's cache, and without
        entry = entries[name]
        values = {"model": name, "messages": [{"role": "user", "content": question}]}
        order = ChatOrder(ChatRequest.model_validate(values), N_TOKENS, entry)
        events: list[Event] = []
        engine.answer(order, events.append, lambda: False)
        text = "".join(piece.text for piece in events if isinstance(piece, TextPiece))
        assert text == shelf.load(name).ask(question)
        model = engine._loaded[entry.folder, False].model
        assert isinstance(model, AdaptedModel)
        layer = model.model.get_base_model().model.layers[0]
        lengths.clear()
        hook = layer.register_forward_pre_hook(note_length)
        with pytest.raises(TimeoutError):
            engine.answer(order, events.append, lambda: len(lengths) > 2)
        hook.remove()
        assert len(lengths) == 3
        assert max(lengths) <= 32
