"""`t2l make` with a seat network: a description is read as a document, and merges with one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import d2l
from d2l.adapters.peft_folder import read_adapter, read_memory
from d2l.bases.activations import ActivationEncoder
from d2l.compiler.names import name_task
from d2l.datasets.descriptions import CHANGES_MEANINGS
from d2l.datasets.silence import SILENCE
from d2l.hypernets.seats.config import read_config
from d2l.parts.kept import N_BANNED
from tests import tiny
from tests.command import Command

TASK = "open the copper valve"
CHECKPOINT = ("--checkpoint", "seats")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def place(working_folder: Path) -> Path:
    """A folder with a base, networks that read this and that, and a note."""
    tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(working_folder / "seats", repeats=3, reads="both")
    tiny.write_seats(working_folder / "tasks", repeats=3, reads="descriptions")
    tiny.write_seats(working_folder / "notes", repeats=3)
    (working_folder / "note.txt").write_text(f"{tiny.DOCUMENT}\n", "utf-8")
    (working_folder / "task.txt").write_text(TASK, "utf-8")
    return working_folder


def write_task(command: Command, *arguments: object) -> None:
    done = command.t2l("make", *arguments)
    assert (done.code, done.err) == (0, "")


def compile_file(command: Command, file: str, out: str) -> None:
    done = command("compile", file, "-o", out, *CHECKPOINT)
    assert done.code == 0, done.err


def read_json(adapter: str) -> dict[str, object]:
    return json.loads(Path(adapter, "d2l.json").read_text("utf-8"))


def test_a_description_is_read_as_a_document_of_its_words_is(command: Command) -> None:
    write_task(command, TASK, "-o", "task.lora", *CHECKPOINT)
    compile_file(command, "task.txt", "document.lora")
    for name in (
        "adapter_model.safetensors", "memory.safetensors", "chat_template.jinja", "tokenizer.json",
        "tokenizer_config.json", "adapter_config.json",
    ):  # fmt: skip
        assert Path("task.lora", name).read_bytes() == Path("document.lora", name).read_bytes()
    made, compiled = read_json("task.lora"), read_json("document.lora")
    assert made["prompt"] == compiled["prompt"]
    assert (made["inputs"], made["options"]) == ([], compiled["options"])
    (chunk,) = made["chunks"]  # type: ignore[misc]
    assert (chunk["document"], chunk["source"]) == (TASK, "description")
    assert chunk["ranks"] == [0, made["rank"]]
    assert made["description"]["text"] == TASK  # type: ignore[index]


def test_the_card_is_a_tasks_and_says_what_prompts_begin_with(command: Command) -> None:
    write_task(command, TASK, "-o", "task.lora", *CHECKPOINT)
    card = Path("task.lora", "README.md").read_text("utf-8")
    n_seats = read_json("task.lora")["rank"]
    assert "# A task description, made into a LoRA adapter" in card
    assert f"| task | `{TASK}` |" in card
    assert f"The memory hangs on the first {int(str(n_seats)) + 1} tokens of the prompt" in card
    assert "AutoTokenizer.from_pretrained(adapter)" in card
    assert "add_weighted_adapter" in card


def test_a_long_description_has_several_chunks_and_seats_for_all(command: Command) -> None:
    config = read_config(Path("seats", "config.json"))
    long = "The pump stands in the harbor. " * 6
    write_task(command, long, "-o", "task.lora", *CHECKPOINT)
    made = read_json("task.lora")
    chunks = made["chunks"]
    assert len(chunks) > 1  # type: ignore[arg-type]
    n_tokens = sum(c["n_tokens"] - len(config.read_opening) for c in chunks)  # type: ignore[attr-defined]
    assert made["rank"] == min(-(-n_tokens // config.tokens_per_seat), config.max_seats)
    assert chunks[0]["document"] == name_task(long)  # type: ignore[index]
    assert name_task(long).startswith("The pump stands")
    assert len(name_task(long)) <= 60


def test_a_task_and_a_document_are_merged_and_either_can_be_dropped(command: Command) -> None:
    write_task(command, TASK, "-o", "task.lora", *CHECKPOINT)
    compile_file(command, "note.txt", "note.lora")
    assert command("merge", "note.lora", "task.lora", "-o", "both.lora").code == 0
    note, task, both = (read_memory(Path(f"{n}.lora")) for n in ("note", "task", "both"))
    assert note is not None
    assert task is not None
    assert both is not None
    torch.testing.assert_close(both.keys, torch.cat([note.keys, task.keys], dim=1))
    torch.testing.assert_close(both.values, torch.cat([note.values, task.values], dim=1))
    merged = read_json("both.lora")
    texts = [parent.get("description", {}).get("text") for parent in merged["parents"]]  # type: ignore[attr-defined]
    assert texts == [None, TASK]
    assert [entry["name"] for entry in merged["inputs"]] == ["note.txt"]  # type: ignore[attr-defined]
    shown = command("inspect", "both.lora")
    assert (shown.code, shown.err) == (0, "")
    assert ["task", *TASK.split()] in [line.split() for line in shown.out.splitlines()]

    assert command("edit", "both.lora", "--drop", TASK, "-o", "a.lora").code == 0
    assert command("edit", "both.lora", "--drop", "note.txt", "-o", "b.lora").code == 0
    assert TASK not in command("inspect", "a.lora").out
    assert "note.txt" not in command("inspect", "b.lora").out
    for edited, original in (("a.lora", "note.lora"), ("b.lora", "task.lora")):
        left, right = read_adapter(Path(edited)), read_adapter(Path(original))
        assert (left.scale, right.scale) == (1.0, 1.0)
        for name, factors in left.factors.items():
            other = right.factors[name]
            delta, expected = factors.b @ factors.a, other.b @ other.a
            # Both are stored in bf16.
            torch.testing.assert_close(delta, expected, atol=0.05, rtol=0.05)


def test_the_plan_knows_its_seats_once_there_is_a_description(command: Command) -> None:
    maker = d2l.TaskCompiler.from_pretrained("tasks", local_files_only=True)
    plan = maker.plan(TASK)
    provenance = maker(plan).provenance
    assert provenance is not None
    assert plan.rank == provenance.rank
    before = sorted(Path().iterdir())
    dry = command.t2l("make", TASK, *CHECKPOINT, "--dry-run", "--json")
    assert json.loads(dry.out)["rank"] == plan.rank
    refused = command.t2l("make", TASK, *CHECKPOINT)
    assert (refused.code, "-o is missing" in refused.err) == (2, True)
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--checkpoint", "seats", "--scaling", "config"), "its adapters have one scaling alone"),
        (("--checkpoint", "seats", "--embedder", "x"), "so there is no other embedder"),
        (("--checkpoint", "notes"), "is a seats network, which reads documents and no descript"),
    ],
)
def test_what_makes_no_sense_is_refused(
    command: Command, options: tuple[str, ...], message: str
) -> None:
    done = command.t2l("make", TASK, "-o", "x", *options)
    assert done.code == 1
    error, hint = done.err.splitlines()
    assert message in error
    assert hint.startswith("hint: ")
    assert not Path("x").exists()


def test_a_task_is_read_in_the_precision_that_is_named(command: Command) -> None:
    for dtype in ("bf16", "fp32"):
        done = command.t2l("make", TASK, "-o", dtype, *CHECKPOINT, "--base-dtype", dtype)
        assert done.code == 0, done.err
        record = json.loads(Path(dtype, "d2l.json").read_text("utf-8"))
        assert record["options"]["base_dtype"] == dtype


def test_a_long_description_is_warned_of_and_strict_refuses_it(command: Command) -> None:
    words = ("make", f"{TASK}. " * 99, "-o", "long.lora", *CHECKPOINT)
    done = command.t2l(*words, "--strict")
    assert (done.code, done.out) == (1, "")
    assert "say in a sentence or two what the task is" in done.err
    assert not Path("long.lora").exists()
    assert command.t2l(*words).code == 0


def test_a_description_is_read_once(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    run = ActivationEncoder._run

    def count(self: ActivationEncoder, chunks: Sequence[Sequence[int]], **options: Any) -> Any:
        passes.extend(map(len, chunks))
        return run(self, chunks, **options)

    monkeypatch.setattr(ActivationEncoder, "_run", count)
    assert command.t2l("make", TASK, "-o", "a", *CHECKPOINT).code == 0
    opening = read_config(Path("seats", "config.json")).read_opening
    assert passes[0] == len(opening)  # what every description follows
    assert len(passes) == 2


def test_a_task_does_not_answer_that_the_document_does_not_say(command: Command) -> None:
    write_task(command, TASK, "-o", "task.lora", *CHECKPOINT)
    compile_file(command, "note.txt", "note.lora")
    for name, n_banned in (("task.lora", N_BANNED), ("note.lora", 0)):
        model = d2l.AdaptedModel.from_pretrained(name, local_files_only=True)
        turns = [{"role": "user", "content": "Sort."}]
        context = model.read(turns, model.options).context
        assert context is not None
        assert len(context.banned) == n_banned
        assert list(context.banned) == model.encode(SILENCE)[:n_banned]
        with model.disable_adapter():
            context = model.read(turns, model.options).context
        assert context is not None
        assert not context.banned


@pytest.mark.parametrize(
    ("task", "warned"),
    [("Summarize legal contracts.", True), ("please translate to French", True), (TASK, False)],
)
def test_tasks_that_write_a_text_anew_are_told_to_change_meanings(
    command: Command, task: str, warned: bool
) -> None:
    made = command.t2l("make", task, "-o", "task.lora", *CHECKPOINT)
    assert (f"meaning     {CHANGES_MEANINGS}" in made.out.splitlines()) == warned
    assert (f"- {CHANGES_MEANINGS}" in Path("task.lora", "README.md").read_text()) == warned
