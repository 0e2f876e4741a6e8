"""Opening a network: its configuration at once, its base when asked, and only one that fits."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from d2l.adapters.peft_folder import read_adapter
from d2l.errors import BaseModelError, CheckpointError
from d2l.hypernets import networks
from d2l.hypernets.networks import open_network, open_seats
from d2l.hypernets.seats.config import SeatsConfig
from tests import tiny
from tests.command import Command
from tests.files.hub_server import REPO, serve_hub

BASE = "tiny-org/llama-tiny"
FOREIGN = Path(__file__).parents[1] / "data" / "foreign"


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


@pytest.fixture
def _packages_are_listed_anew() -> Iterator[None]:
    networks.list_networks.cache_clear()
    yield
    networks.list_networks.cache_clear()


@pytest.mark.usefixtures("_packages_are_listed_anew")
def test_another_package_brings_a_network_by_its_entry_point(
    working_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package lies on the path as if it were installed: a module and an entry point. Its
    checkpoint, whose files have names of their own, comes from the hub."""
    monkeypatch.syspath_prepend(str(FOREIGN))
    tiny.write_base(working_folder / "llama", "llama")
    fields = {"base": BASE, "n_layers": tiny.N_LAYERS, "d_in": [tiny.INNER], "d_out": [tiny.HIDDEN]}
    stored = {
        "ones/ones.json": json.dumps(fields).encode(),
        "ones/ones.weights": save({"one": torch.ones(1)}),
        "ones/other.bin": b"another file",
    }
    Path("note.txt").write_text("The pump stands in the harbor.", "utf-8")
    words = ("compile", "note.txt", "-o", "note.lora", "--checkpoint", f"{REPO}:ones")
    words = (*words, "--base", "llama", "--device", "cpu")
    with serve_hub(stored, working_folder / "hub", monkeypatch) as hub:
        planned = command(*words, "--dry-run")
        assert planned.code == 0, planned.err
        assert hub.asked == {"ones/ones.json"}
        done = command(*words)
        assert done.code == 0, done.err
        assert hub.asked == {"ones/ones.json", "ones/ones.weights"}
    assert "unchanged" in command(*words, "--offline").out
    made = json.loads(Path("note.lora", "d2l.json").read_text("utf-8"))
    assert made["checkpoint"]["network"] == "ones"
    weights = read_adapter(Path("note.lora"))
    factors = weights.factors["model.layers.2.mlp.down_proj"]
    assert torch.equal(factors.b @ factors.a, torch.ones(tiny.HIDDEN, tiny.INNER))


@pytest.mark.usefixtures("_packages_are_listed_anew")
def test_a_package_whose_network_cannot_be_imported_is_named(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = working_folder / "d2l_gone-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: d2l-gone\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[d2l.networks]\ngone = d2l_gone:Network\n")
    monkeypatch.syspath_prepend(str(working_folder))
    with pytest.raises(CheckpointError, match="d2l_gone:Network: the network gone cannot be"):
        open_network("smollm2-135m", offline=True)
