"""`d2l checkpoints address`: a checkpoint whose seats have addresses, through the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from d2l.adapters.weights import Memory
from d2l.hypernets.seats.addresses import Addresses
from d2l.hypernets.seats.config import SeatsConfig, read_config
from d2l.hypernets.seats.network import Seats, load_seats
from d2l.hypernets.seats.seating import record_inputs
from d2l.training.seats import address
from d2l.training.seats.directions import choose_directions
from tests import tiny
from tests.command import Command
from tests.tiny_seats import make_base, make_config, make_network, make_statistics

CONFIG = tiny.make_seats_config()
N_WORDS = CONFIG.max_seats - CONFIG.min_seats


@pytest.fixture
def files(tmp_path: Path) -> Path:
    tiny.write_seats(tmp_path / "seats")
    tiny.write_base(tmp_path / "base", "llama")
    (tmp_path / "a.txt").write_text(tiny.DOCUMENT, "utf-8")
    return tmp_path


def run(command: Command, files: Path, *options: object, out: str = "addressed") -> Any:
    return command(
        "checkpoints", "address", files / "seats", "-o", files / out, "--base", files / "base",
        "--json", *options,
    )  # fmt: skip


def test_weights_stay_and_adapters_say_where_their_seats_are(files: Path, command: Command) -> None:
    result = run(command, files)
    assert json.loads(result.out) == {"checkpoint": str(files / "addressed")}
    config = read_config(files / "addressed" / "config.json")
    assert len(config.address_neurons) == N_WORDS
    assert config.opening_words == CONFIG.opening_words
    old, new = (load_file(files / n / "model.safetensors") for n in ("seats", "addressed"))
    assert new.keys() - old.keys() == {"shared.detect", "shared.directions"}
    assert all(torch.equal(new[name], tensor) for name, tensor in old.items())
    lengths = new["shared.directions"].float().norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((N_WORDS,), 100.0), rtol=1e-3, atol=0)
    given = ("--base", files / "base", "--checkpoint", files / "addressed", "--json")
    plan = json.loads(
        command("compile", files / "a.txt", "-o", files / "no.lora", "--dry-run", *given).out
    )
    compiled = command("compile", files / "a.txt", "-o", files / "a.lora", *given)
    assert compiled.code == 0, compiled.err
    names = load_file(files / "a.lora" / "adapter_model.safetensors")
    written = {name.split(".layers.")[1] for name in names if ".mlp." in name}
    modules = ("down_proj", "gate_proj")
    assert written == {f"0.mlp.{module}.lora_{f}.weight" for module in modules for f in "AB"}
    assert plan["adapter_bytes"] == sum(t.numel() * t.element_size() for t in names.values())
    named = json.loads((files / "a.lora" / "adapter_config.json").read_text())["target_modules"]
    assert "model.layers.0.mlp.gate_proj" in named
    assert "model.layers.1.mlp.gate_proj" not in named


def test_it_trains_on_and_exports_with_its_addresses(files: Path, command: Command) -> None:
    run(command, files)
    again = run(command, files, out="again")
    assert again.code == 0
    for name in ("config.json", "model.safetensors"):
        one, two = ((files / folder / name).read_bytes() for folder in ("addressed", "again"))
        assert one == two
    loaded = load_seats(files / "addressed", tiny.make_causal("llama").model)
    assert isinstance(loaded.network.shared, Addresses)
    assert not list(loaded.network.shared.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--data", "a.jsonl"],
            "pieces of the base's vocabulary are left over, and the opening would",
        ),
        (["--data", "none.jsonl"], "none.jsonl"),
        (["--seats", CONFIG.max_seats + 1], "but the opening has words for"),
        (["--data", "a.jsonl", "--seats", 2], "but this network can have"),
    ],
)
def test_what_cannot_be_is_one_line(
    options: list[object], message: str, files: Path, command: Command
) -> None:
    (files / "a.jsonl").write_text(json.dumps({"doc": tiny.DOCUMENT}), "utf-8")
    found = [files / str(one) if str(one).endswith(".jsonl") else one for one in options]
    result = run(command, files, *found)
    assert result.code == 1
    assert message in result.err
    assert not (files / "addressed").exists()


def test_addresses_are_replaced(files: Path, command: Command) -> None:
    run(command, files)
    again = command(
        "checkpoints", "address", files / "addressed", "-o", files / "twice",
        "--base", files / "base",
    )  # fmt: skip
    assert again.code == 0, again.err
    for name in ("config.json", "model.safetensors"):
        one, two = ((files / folder / name).read_bytes() for folder in ("addressed", "twice"))
        assert one == two


def test_more_seats_get_words_and_addresses(
    files: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(command, files)
    vocabulary = json.loads((files / "base" / "tokenizer.json").read_text())["model"]["vocab"]
    words = [number for piece, number in vocabulary.items() if piece[:1] == "Ġ" and len(piece) > 3]
    monkeypatch.setattr(address, "list_leftovers", lambda *_: words)
    (files / "a.jsonl").write_text(json.dumps({"doc": tiny.DOCUMENT}), "utf-8")
    result = command(
        "checkpoints", "address", files / "addressed", "-o", files / "wide",
        "--base", files / "base", "--data", files / "a.jsonl", "--seats", CONFIG.max_seats + 3,
    )  # fmt: skip
    assert result.code == 0, result.err
    config = read_config(files / "wide" / "config.json")
    assert config.max_seats == CONFIG.max_seats + 3
    assert len(set(config.address_neurons)) == len(config.opening_words) == N_WORDS + 3
    assert set(config.opening_words) <= set(words)
    detect = load_file(files / "wide" / "model.safetensors")["shared.detect"]
    assert len(detect) == N_WORDS + 3


def test_what_has_addresses_is_widened_and_narrowed_with_care(
    files: Path, command: Command
) -> None:
    run(command, files)
    wider = command(
        "checkpoints", "widen", files / "addressed", "-o", files / "wide",
        "--seats", CONFIG.max_seats + 1, "--data", files / "a.jsonl", "--base", files / "base",
    )  # fmt: skip
    assert wider.code == 1
    assert "more seats would have none" in wider.err
    narrow = ("checkpoints", "narrow", files / "addressed", "--base", files / "base")
    higher = command(*narrow, "-o", files / "narrow", "--layers", CONFIG.layers - 1)
    assert higher.code == 1
    assert "that must stay the first with memory" in higher.err
    assert command(*narrow, "-o", files / "narrow", "--layers", CONFIG.first_layer).code == 0


def test_memory_in_the_lowest_layer_leaves_no_place_for_them(files: Path, command: Command) -> None:
    path = files / "seats" / "config.json"
    values = json.loads(path.read_text("utf-8")) | {"first_layer": 0, "adapted_layers": [0, 1]}
    path.write_text(json.dumps(values | {"version": 1}), "utf-8")
    result = run(command, files)
    assert result.code == 1
    assert "the network has memory in layer 0" in result.err


def make_seats(config: SeatsConfig | None = None) -> Seats:
    config = config or make_config()
    return Seats(config, make_network(config), make_statistics(config), make_base())


def test_directions_let_less_of_a_memory_leak_than_the_words_own_states() -> None:
    seats = make_seats()
    config, generator = seats.config, torch.Generator().manual_seed(6)
    memories = [Memory(*torch.randn(2, 2, 6, 16, generator=generator)) for _ in range(4)]
    directions = choose_directions(seats, memories)
    assert torch.equal(directions, choose_directions(seats, memories))
    n_words = config.max_seats - config.min_seats
    assert directions.shape == (n_words, config.hidden)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(n_words))
    memory = Memory(*torch.randn(2, 2, config.max_seats, 16, generator=generator))
    own = record_inputs(
        memory,
        seats.base_model,
        opening=config.opening(config.max_seats),
        layers=config.memory_layers,
    )
    changed = own.clone()
    changed[:, 1 + config.min_seats :] = directions.double() * config.hidden**0.5
    assert leak(seats, changed, memory) < 0.6 * leak(seats, own, memory)


def leak(seats: Seats, inputs: torch.Tensor, memory: Memory) -> float:
    """What ordinary text gets of a memory: tr(Lᵀ (H C⁻¹ Hᵀ)⁻¹ L), over layers, keys and values."""
    total = 0.0
    for place, layer in enumerate(seats.config.memory_layers):
        moment = seats.statistics.second_moment(layer).double()
        h = inputs[place]
        answers = torch.linalg.inv(h @ torch.linalg.solve(moment, h.T))[1:, 1:]
        attention: Any = seats.base_model.layers[layer].self_attn  # type: ignore[index,union-attr]
        for module, wanted in (
            (attention.k_proj, memory.keys),
            (attention.v_proj, memory.values),
        ):
            lacking = wanted[place].double() - h[1:] @ module.weight.double().T
            total += float((lacking.T @ answers @ lacking).trace())
    return total
