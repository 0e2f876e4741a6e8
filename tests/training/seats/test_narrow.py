"""`d2l checkpoints narrow`: a checkpoint whose memory lies in fewer layers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from d2l.errors import OptionError
from d2l.hypernets.seats.network import Seats, load_seats
from d2l.training.seats.narrow import parse_layers
from tests import tiny
from tests.command import Command

CONFIG = tiny.make_seats_config()
LAST = CONFIG.memory_layers[-1]
TOKENS = 21


@pytest.fixture
def files(tmp_path: Path) -> Path:
    tiny.write_seats(tmp_path / "seats")
    tiny.write_base(tmp_path / "base", "llama")
    return tmp_path


def narrow(command: Command, files: Path, layers: str, out: str = "narrow") -> object:
    return command(
        "checkpoints", "narrow", files / "seats", "-o", files / out, "--layers", layers,
        "--base", files / "base", "--json",
    )  # fmt: skip


def load(folder: Path) -> Seats:
    return load_seats(folder, tiny.make_causal("llama").model)


def test_the_layers_that_stay_hold_what_they_held(files: Path, command: Command) -> None:
    assert narrow(command, files, str(LAST)).code == 0
    whole, kept = load(files / "seats"), load(files / "narrow")
    assert len(CONFIG.memory_layers) > 1
    assert kept.config.memory_layers == (LAST,)
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(len(CONFIG.features), TOKENS, CONFIG.hidden, generator=generator)
    size = CONFIG.kv_heads * CONFIG.head_dim
    pair = torch.randn(2, CONFIG.n_adapted_layers, TOKENS, size, generator=generator)
    with torch.no_grad():
        for full, own in zip(
            whole.network(hidden, *pair, 5), kept.network(hidden, *pair[:, -1:], 5), strict=True
        ):
            torch.testing.assert_close(own, full[-1:])
    assert torch.equal(kept.statistics.second_moment(LAST), whole.statistics.second_moment(LAST))


def test_its_adapters_change_these_layers_alone(files: Path, command: Command) -> None:
    narrow(command, files, f"{LAST},{LAST}")
    document = files / "a.txt"
    document.write_text(tiny.DOCUMENT, "utf-8")
    compiled = command(
        "compile", document, "-o", files / "a.lora", "--checkpoint", files / "narrow",
        "--base", files / "base",
    )  # fmt: skip
    assert compiled.code == 0, compiled.err
    names = load_file(files / "a.lora" / "adapter_model.safetensors")
    assert {name.split(".layers.")[1].split(".")[0] for name in names} == {str(LAST)}
    config = json.loads((files / "a.lora" / "adapter_config.json").read_text("utf-8"))
    assert config["layers_to_transform"] == [LAST]


def test_layers_without_memory_are_one_line(files: Path, command: Command) -> None:
    for layers, message in (
        ("0", "no memory in layer 0"),
        ("1-99", "no memory in layer"),
        ("two", "'two' is no layer"),
        ("", "the name is empty"),
    ):
        result = narrow(command, files, layers)
        assert result.code != 0, layers
        assert message in result.err
        assert not (files / "narrow").exists()


def test_layers_are_numbers_and_ranges() -> None:
    assert parse_layers("3, 9-11,2") == (3, 9, 10, 11, 2)
    with pytest.raises(OptionError, match="counts down"):
        parse_layers("9-3")
