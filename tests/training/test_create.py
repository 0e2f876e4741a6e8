"""`d2l checkpoints new seats`: what training starts from, made for a base."""

import json
from pathlib import Path

import pytest

from d2l.bases.tokenizers import BaseTokenizer
from d2l.hypernets.seats.config import SeatsConfig, read_config
from d2l.training.learners.seats.start import read_own_statistics
from tests import tiny
from tests.command import Command, Outcome
from tests.recipes import write_data, write_recipe


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with biases on its keys and values."""
    return tiny.write_base(tmp_path_factory.mktemp("bases") / "qwen2-tiny", "qwen2")


def new(command: Command, base: Path, out: Path, *more: object) -> Outcome:
    wanted = ("--base", base, "--seats", 15, "--width", 16, "-o", out)
    result = command("checkpoints", "new", "seats", *wanted, *more)
    assert result.code == 0, result.err
    return result


def test_config_follows_from_the_base_and_its_template(
    base: Path, tmp_path: Path, command: Command
) -> None:
    result = new(command, base, tmp_path / "net", "--json")
    assert json.loads(result.out) == {"checkpoint": str(tmp_path / "net")}
    config = read_config(tmp_path / "net" / "config.json")
    tokenizer = BaseTokenizer(base)
    assert (config.hidden, config.layers, config.kv_heads, config.head_dim) == (32, 3, 2, 8)
    assert (config.min_seats, config.max_seats) == (len(config.opening_head) - 1, 15)
    assert config.opening_head_text == f"<|im_start|>system\n{tiny.SYSTEM}"
    opening = config.opening(config.max_seats)
    assert tokenizer.encode_control(config.opening_head_text + config.opening_words_text) == list(
        opening
    )
    asked = [*config.opening_head, *config.after_opening, *tiny.encode("Why?")]
    rendered = tokenizer.render_chat([{"role": "user", "content": "Why?"}], taking="a question")
    assert tokenizer.decode([*asked, *config.before_answer]) == rendered
    statistics = read_own_statistics(tmp_path / "net" / "statistics.safetensors", config)
    assert statistics.cholesky.shape == (config.n_adapted_layers, 32, 32)


def test_what_it_makes_can_be_trained_fresh(base: Path, tmp_path: Path, command: Command) -> None:
    new(command, base, tmp_path / "net")
    write_data(tmp_path)
    paths = {"checkpoint": str(tmp_path / "net"), "data": str(tmp_path)}
    recipe = write_recipe(tmp_path / "a.toml", fresh=True, **paths)
    assert command("train", recipe, "--out", tmp_path / "run").code == 0
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_same_seed_gives_the_same_bytes(base: Path, tmp_path: Path, command: Command) -> None:
    for name in ("one", "two"):
        new(command, base, tmp_path / name)
    for file in ("config.json", "statistics.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("seats", ["3", "2000"])
def test_impossible_numbers_of_seats_are_refused(
    base: Path, tmp_path: Path, command: Command, seats: str
) -> None:
    result = command(
        "checkpoints", "new", "seats", "--base", base, "--seats", seats, "-o", tmp_path / "x"
    )
    assert result.code == 1
    assert f"{seats} seats" in result.err
    assert not (tmp_path / "x").exists()


def test_base_without_a_system_text_needs_one(tmp_path: Path, command: Command) -> None:
    base = tiny.write_base(tmp_path / "plain", "qwen2")
    settings = json.loads((base / "tokenizer_config.json").read_text("utf-8"))
    settings["chat_template"] = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (base / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    refused = command(
        "checkpoints", "new", "seats", "--base", base, "--seats", 30, "-o", tmp_path / "x"
    )
    assert refused.code == 1
    assert "--system" in refused.err
    new(command, base, tmp_path / "net", "--system", "You are so kind")
    config: SeatsConfig = read_config(tmp_path / "net" / "config.json")
    assert config.opening_head_text.endswith("You are so kind")
