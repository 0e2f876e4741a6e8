"""The built-in text network of the small base: its adapters help, and it says what it knows."""

import json
from pathlib import Path

import pytest

from d2l.bases.models import BaseFiles
from d2l.hypernets.registry import find_checkpoint
from tests.command import Command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread", "smollm2_files"),
    pytest.mark.filterwarnings("ignore"),  # what transformers and PEFT renamed
]
NETWORK = "smollm2-135m-t2l"
TASK, NONE = "Translate the sentence into French.", "xqzv hplomt uuidre"
NAMED = ("--checkpoint", NETWORK)
#: Four tasks, their descriptions and examples written for this test.
OWN = Path(__file__).parents[2] / "data" / "tasks" / "own.jsonl"


def test_a_description_makes_the_same_adapter_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command.t2l("make", TASK, "-o", "a", *NAMED, "--json")
    assert (done.code, done.err) == (0, "")
    values = json.loads(done.out)
    assert values["checkpoint"] == NETWORK
    assert (values["rank"], values["base"]) == (8, "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert values["familiarity"] > 0.5
    again = command.t2l("make", TASK, "-o", "b", *NAMED, "--json")
    assert again.code == 0
    first, second = (Path(f"{name}/adapter_model.safetensors").read_bytes() for name in "ab")
    assert first == second
    assert command("ask", "a", "The house is red.").code == 0


def test_what_names_no_task_is_warned_of_and_strict_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command.t2l("make", NONE, "-o", "a", *NAMED)
    assert done.code == 0
    assert done.err.startswith(f"warning: the description is unlike those that {NETWORK} was")
    done = command.t2l("make", NONE, "-o", "b", *NAMED, "--strict")
    assert done.code == 1
    assert not Path("b").exists()


def test_answers_are_likelier_than_with_the_description_in_the_prompt(
    smollm2_files: BaseFiles, command: Command
) -> None:
    """And likelier than with another task's adapter, or weights that say nothing would do."""
    assert smollm2_files
    done = command.t2l("eval", OWN, *NAMED, "--shuffled", "--max-tokens", "8", "--json")
    assert done.code == 0, done.err
    means = {row["arm"]: row["nll"] for row in json.loads(done.out)["means"]}
    assert means["adapter"] < means["prompt"]
    assert means["adapter"] < means["shuffled"]
    assert means["adapter"] < means["base"] - 1  # nats a token


def test_it_is_small() -> None:
    folder = find_checkpoint(NETWORK).path
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6_000_000
