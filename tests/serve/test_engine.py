"""One base and more adapters than are kept in memory."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from d2l.errors import AdapterError
from d2l.serve.engine import Engine, Order
from d2l.serve.generation import Piece
from d2l.serve.library import Library
from d2l.serve.protocol import ChatRequest
from tests.serving import ADAPTERS, N_TOKENS, Shelf, make_shelf

pytestmark = pytest.mark.usefixtures("one_thread")
TURNS = [{"role": "user", "content": "Where is the pump?"}]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return make_shelf(tmp_path_factory.mktemp("shelf"))


def test_few_adapters_are_kept_and_all_answer_as_they_do_alone(shelf: Shelf) -> None:
    entries = Library(shelf.folder, print).list_entries()
    engine = Engine(entries.values(), shelf.asking, n_kept=2)
    expected = {name: shelf.load(name).ask(TURNS[0]["content"]) for name in ADAPTERS}
    model = engine._loaded[entries["copper"].folder].adapted.model
    wanted = ChatRequest.model_validate({"model": "pump", "messages": TURNS})
    for name in (*ADAPTERS, *reversed(ADAPTERS), "pump", "pump"):
        said: list[str] = []
        engine.answer(
            Order(wanted, N_TOKENS, entries[name]),
            lambda news, said=said: said.append(news.text) if isinstance(news, Piece) else None,  # type: ignore[misc]
            lambda: False,
        )
        assert "".join(said) == expected[name]
        assert len(model.peft_config) <= 2


def test_a_folder_without_adapters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no adapter here that says its base"):
        Library(tmp_path, print)
    with pytest.raises(AdapterError, match="cannot be listed"):
        Library(tmp_path / "none", print)


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
    assert list(Library(tmp_path, remarks.append).list_entries()) == ["note"]
    assert remarks == [
        f"{path.parent}: left out (adapter_config.json: is no regular file)" for path in configs
    ]


def test_an_adapters_own_folder_is_served_alone(shelf: Shelf) -> None:
    assert list(Library(shelf.folder / "note.lora", print).list_entries()) == ["note"]
