"""Opening a network: its configuration at once, its base when asked, and only one that fits."""

import json
from pathlib import Path

import pytest

from d2l.errors import BaseModelError, CheckpointError
from d2l.hypernets.networks import open_network, open_seats
from d2l.hypernets.seats.config import SeatsConfig
from tests import tiny

BASE = "tiny-org/llama-tiny"


def deepen(folder: Path) -> None:
    """Let a base's config announce more layers."""
    config = json.loads((folder / "config.json").read_text("utf-8")) | {"num_hidden_layers": 5}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")


@pytest.fixture
def place(working_folder: Path) -> Path:
    """A working folder with the tiny seat network, and no base yet."""
    tiny.write_seats(working_folder / "seats")
    return working_folder


def test_the_configuration_is_read_without_a_base(place: Path) -> None:
    network = open_network("seats", offline=True)
    assert (network.files.path, network.config.base) == (Path("seats"), BASE)
    assert len(network.digest()) == 64
    with pytest.raises(BaseModelError):
        _ = network.base
    tiny.write_base(place / "tiny-org" / "llama-tiny", "llama")
    assert network.base.folder == Path(BASE)
    assert network.warnings == ()
    assert network.tokenizer.encode("pump")


def test_a_base_of_another_name_is_warned_of_and_of_other_shapes_refused(place: Path) -> None:
    tiny.write_base(place / "elsewhere", "llama")
    network = open_network("seats", base="elsewhere", offline=True)
    (warning,) = network.warnings
    assert warning.startswith(f"the checkpoint was trained for {BASE}, and elsewhere does not look")
    deepen(tiny.write_base(place / "deep", "llama"))
    deep = open_network("seats", base="deep", offline=True)
    for look in (lambda: deep.base, lambda: deep.warnings, lambda: deep.tokenizer):
        with pytest.raises(BaseModelError, match="has 5 layers"):
            look()


def test_a_network_without_seats_is_refused_by_who_needs_them(place: Path) -> None:
    tiny.write_doc_to_lora(place / "rows", "llama")
    with pytest.raises(CheckpointError, match="rows: is a doc_to_lora network, which has no seats"):
        open_seats("rows")
    assert isinstance(open_seats("seats").config, SeatsConfig)
