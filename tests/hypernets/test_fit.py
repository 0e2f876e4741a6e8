"""Opening a network: its configuration at once, its base when asked, and only one that fits."""

import json
from pathlib import Path

import pytest

from d2l.errors import BaseModelError, CheckpointError
from d2l.hypernets.doc_to_lora.network import DocToLoraConfig
from d2l.hypernets.fit import SEATS, Kind, Kinds, open_network
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
    network = open_network("seats", kinds=SEATS, offline=True)
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
    network = open_network("seats", kinds=SEATS, base="elsewhere", offline=True)
    (warning,) = network.warnings
    assert warning.startswith(f"the checkpoint was trained for {BASE}, and elsewhere does not look")
    deepen(tiny.write_base(place / "deep", "llama"))
    deep = open_network("seats", kinds=SEATS, base="deep", offline=True)
    for look in (lambda: deep.base, lambda: deep.warnings, lambda: deep.tokenizer):
        with pytest.raises(BaseModelError, match="has 5 layers"):
            look()


@pytest.mark.usefixtures("place")
def test_a_kind_that_the_caller_cannot_use_is_refused_in_its_words() -> None:
    kinds = Kinds(
        (Kind(DocToLoraConfig),), "{name} at {path}: a {kind} network {{}}", "try another"
    )
    with pytest.raises(CheckpointError) as caught:
        open_network("seats", kinds=kinds)
    assert (caught.value.message, caught.value.hint) == (
        "seats at seats: a seats network {}",
        "try another",
    )
    assert isinstance(open_network("seats", kinds=SEATS).config, SeatsConfig)
