"""`d2l checkpoints widen`: a checkpoint with more seats, through the command line."""

import json
from pathlib import Path

import pytest

from d2l.hypernets.seats.config import read_config
from tests import tiny
from tests.command import Command

CONFIG = tiny.make_seats_config()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A network without its last two words, its base, and texts."""
    folder = tiny.write_seats(tmp_path / "seats")
    values = json.loads((folder / "config.json").read_text("utf-8"))
    values["opening_words"] = CONFIG.opening_words[:-2]
    values["opening_words_text"] = "".join(f" {word}" for word in tiny.WORDS[:-2])
    values["max_seats"] -= 2
    (folder / "config.json").write_text(json.dumps(values), "utf-8")
    tiny.write_base(tmp_path / "base", "llama")
    rows = "".join(json.dumps({"doc": f"{tiny.DOCUMENT} {n}"}) + "\n" for n in range(3))
    (tmp_path / "docs.jsonl").write_text(rows, "utf-8")
    return tmp_path


def arguments(files: Path, out: str, **changes: object) -> list[str]:
    options = {
        "--out": files / out,
        "--seats": CONFIG.max_seats,
        "--data": files / "docs.jsonl",
        "--base": files / "base",
    }
    options |= {f"--{name}": value for name, value in changes.items()}
    flat = [str(part) for pair in options.items() for part in pair]
    return ["checkpoints", "widen", str(files / "seats"), *flat]


def test_the_opening_gets_words_of_the_vocabulary_and_the_weights_stay(
    files: Path, command: Command
) -> None:
    result = command(*arguments(files, "wide"), "--json")
    assert json.loads(result.out) == {"checkpoint": str(files / "wide")}
    wide, narrow = (read_config(files / name / "config.json") for name in ("wide", "seats"))
    assert wide.max_seats == narrow.max_seats + 2
    assert wide.opening_words[:-2] == narrow.opening_words
    opening = wide.opening(wide.max_seats)
    assert tiny.encode(wide.opening_head_text + wide.opening_words_text) == list(opening)
    for name in ("model.safetensors", "statistics.safetensors"):
        assert (files / "wide" / name).read_bytes() == (files / "seats" / name).read_bytes()
    document = files / "long.txt"
    document.write_text(" ".join([tiny.DOCUMENT] * 4), "utf-8")
    compiled = command(
        "compile", document, "-o", files / "a.lora", "--checkpoint", files / "wide",
        "--base", files / "base", "--json",
    )  # fmt: skip
    assert sum(chunk["rank"] for chunk in json.loads(compiled.out)["chunks"]) == wide.max_seats


def test_the_same_seed_chooses_the_same_words(files: Path, command: Command) -> None:
    for name in ("one", "two"):
        assert command(*arguments(files, name, seed=3)).code == 0
    configs = [(files / name / "config.json").read_bytes() for name in ("one", "two")]
    assert configs[0] == configs[1]


def test_what_cannot_be_is_one_line(files: Path, command: Command) -> None:
    cases = {
        f"{CONFIG.max_seats - 2} seats, and the network has": {"seats": CONFIG.max_seats - 2},
        "cannot tell so many apart": {"seats": CONFIG.hidden},
        "docs.gz": {"data": files / "docs.gz"},
    }
    for message, changes in cases.items():
        result = command(*arguments(files, "wide", **changes))
        assert result.code == 1, message
        assert message in result.err
        assert not (files / "wide").exists()
