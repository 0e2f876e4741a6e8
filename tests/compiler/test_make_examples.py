"""`t2l make --examples`: turns of a chat become the memory, and which are read."""

import json
from pathlib import Path

import pytest
import torch

from d2l.adapters.peft_folder import read_memory
from d2l.api.compiler import TaskCompiler
from d2l.bases.activations import Activations
from d2l.datasets.examples import take_examples
from d2l.errors import CheckpointError, TaskError
from d2l.hypernets.options import TaskCompileOptions
from tests import tiny
from tests.command import Command

TASK = "say the copper of it"
PAIRS = [("pump", "harbor"), ("valve", "meadow"), ("filter", "harbor"), ("lantern", "meadow")]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def place(working_folder: Path) -> Path:
    tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(
        working_folder / "seats",
        repeats=12,
        reads="both",
        after_opening=tiny.encode("<|im_end|>\n<|im_start|>user\n"),
        before_answer=tiny.encode("<|im_end|>\n<|im_start|>assistant\n"),
    )
    rows = "".join(f"{source},{target}\n" for source, target in PAIRS)
    (working_folder / "rows.csv").write_text(f"text,label\n{rows}", "utf-8")
    return working_folder


@pytest.fixture
def maker() -> TaskCompiler:
    return TaskCompiler(TaskCompileOptions("seats", device="cpu", offline=True, dtype="fp32"))


def test_the_memory_is_the_turns_own_keys_and_values(maker: TaskCompiler) -> None:
    plan = maker.plan(TASK, examples=PAIRS[:2])
    config, text = maker.network.config, ""
    for n, (asked, answer) in enumerate(PAIRS[:2]):
        said = f"{TASK}\n\n{asked}" if n == 0 else asked
        text += f"<|im_start|>user\n{said}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
    whole = f"<|im_start|>system\n{tiny.SYSTEM}<|im_end|>\n{text}"
    ids = tiny.encode(whole)
    (chunk,) = plan.chunks
    assert list(chunk.token_ids) == ids[: len(chunk.token_ids)]
    assert tiny.load_tokenizer().decode(ids[len(chunk.token_ids) :]).strip() == ""  # <|im_end|>
    adapter = maker(plan).save_pretrained("task.lora")
    memory = read_memory(adapter)
    assert memory is not None
    assert memory.n_seats == chunk.rank == len(chunk.token_ids) - len(config.read_opening)
    model, kept = tiny.make_causal("llama"), dict[str, torch.Tensor]()
    for name in ("k_proj", "v_proj"):
        module = model.model.layers[config.memory_layers[-1]].self_attn.get_submodule(name)
        module.register_forward_hook(lambda _m, _i, out, name=name: kept.update({name: out[0]}))
    with torch.no_grad():
        model(torch.tensor([list(chunk.token_ids)]))
    for name, own in (("k_proj", memory.keys), ("v_proj", memory.values)):
        wanted = kept[name][len(config.read_opening) :]
        torch.testing.assert_close(own[-1], wanted, atol=1e-5, rtol=1e-5)


def test_labels_take_turns_and_those_without_room_are_warned_of(maker: TaskCompiler) -> None:
    long = " ".join(["pump"] * 200)
    given = [("pump", "a"), ("pump pump", "a"), *[(long, "b")] * 2, ("valve", "c"), ("x", "c")]
    plan = maker.plan(TASK, examples=given)
    assert plan.examples is not None
    assert plan.examples.rows[:2] == (1, 5)
    assert not {3, 4} & set(plan.examples.rows)
    assert plan.warnings[-1] == "no example of 'b' fits: the adapter sees none"
    with pytest.raises(TaskError, match="all 1 examples are too long"):
        maker.plan(TASK, examples=[(long, "b")])
    maker.load(plan)
    states = torch.arange(3.0).view(1, 3, 1)
    memory = maker._loaded.hypernet.copy(Activations(states, states, states), 5)
    assert memory.keys.flatten().tolist() == [0, 0, 1, 1, 2]  # fewer tokens than the least seats


def test_the_shorter_ones_are_chosen_from(maker: TaskCompiler) -> None:
    """They cost fewer seats; of three rows all are read."""
    given = [(" ".join(["pump"] * (4 - n)), f"answer {n}") for n in range(4)]
    plan = maker.plan(TASK, examples=given)
    assert plan.examples is not None
    assert plan.examples.rows[0] == 2
    assert sorted(plan.examples.rows) == [2, 3, 4]
    few = maker.plan(TASK, examples=given[:3]).examples
    assert few is not None
    assert sorted(few.rows) == [1, 2, 3]


def test_the_record_names_the_file_and_its_rows(place: Path, command: Command) -> None:
    made = ("--examples", "rows.csv", "--checkpoint", "seats")
    done = command.t2l("make", TASK, *made, "-o", "task.lora")
    assert done.code == 0, done.err
    assert "examples    rows 1, 2, 3 of 4 (text → label)" in done.out
    said = json.loads((place / "task.lora" / "d2l.json").read_text("utf-8"))["description"]
    assert "harbor" not in json.dumps(said)
    card = (place / "task.lora" / "README.md").read_text("utf-8")
    assert "harbor" not in card
    assert "one description of a task and 3 solved examples" in " ".join(card.split())
    shown = " ".join(command("inspect", "task.lora").out.split())
    assert "examples rows 1, 2, 3 of 4" in shown
    alone = command.t2l("make", TASK, "--checkpoint", "seats", "-o", "alone.lora")
    assert "examples    none: three (--examples FILE) " in alone.out
    bare = json.loads((place / "alone.lora" / "d2l.json").read_text("utf-8"))
    assert "examples" not in bare["description"]
    dry = command.t2l("make", TASK, *made, "-o", "x.lora", "--dry-run", "--json")
    assert json.loads(dry.out)["examples"]["rows"] == [1, 2, 3]


def test_it_merges_with_a_document_and_is_asked(place: Path, command: Command) -> None:
    (place / "note.txt").write_text("The pump.\n", "utf-8")
    seats = ("--checkpoint", "seats")
    for line in (
        ("compile", "note.txt", "-o", "note.lora", *seats),
        ("merge", "note.lora", "task.lora", "-o", "both.lora", *seats),
        ("ask", "both.lora", "pump", "--max-tokens", "3"),
        ("export", "task.lora", "--to", "uniform", "-o", "uniform"),
    ):
        if line[0] == "compile":
            done = command.t2l("make", TASK, "--examples", "rows.csv", *seats, "-o", "task.lora")
            assert done.code == 0, done.err
        done = command(*line)
        assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--input-column", "text"], "go with --examples"),
        (["--examples", "rows.csv", "--input-column", "none"], "has no column 'none'"),
    ],
)
def test_wrong_usage_is_told(options: list[str], said: str, command: Command) -> None:
    done = command.t2l("make", TASK, "-o", "x.lora", "--checkpoint", "seats", *options)
    assert done.code in (1, 2)
    assert said in " ".join(done.err.split())


def test_networks_of_descriptions_alone_read_no_examples(place: Path) -> None:
    encoder = tiny.write_encoder(place / "encoder")
    tiny.write_text_to_lora(place / "by-words", "llama", str(encoder))
    maker = TaskCompiler(TaskCompileOptions("by-words", device="cpu", offline=True))
    with pytest.raises(CheckpointError, match="reads descriptions, and no examples"):
        maker.plan(TASK, examples=take_examples(PAIRS))
