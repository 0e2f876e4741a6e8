"""`d2l-lab eval`: adapters and networks on tasks, from the command line; scores counted by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from d2l.bases.load_errors import quiet_transformers
from d2l.datasets.tasks import Example
from d2l_lab.task_files import read_tasks
from d2l_lab.tasks.arms import AskedTask, TaskMark
from d2l_lab.tasks.report import AnsweredTask, make_report
from d2l_lab.training import loop as pipeline
from d2l_lab.training.learners.tasks import choose_descriptions
from d2l_lab.training.recipe_files import read_recipe
from examples.training.tests.toy import Lab
from tests import tiny, tiny_tasks
from tests.command import Command

pytestmark = pytest.mark.usefixtures("one_thread")

TASKS = [tiny_tasks.make_row(name) for name in ("ore", "place")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place whose `run` has learned two tasks; not to be changed."""
    folder = tiny_tasks.write_place(tmp_path_factory.mktemp("tasks"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("D2L_CACHE_DIR", str(folder / "cache"))
        pipeline.train(replace(read_recipe(Path("a.toml")), steps=40), Path("run"))
    tiny_tasks.write_tasks(folder / "tasks.jsonl", TASKS)
    return folder


@pytest.fixture(autouse=True)
def place(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    monkeypatch.setenv("D2L_CACHE_DIR", str(trained / "cache"))
    return trained


def find(values: list[dict[str, Any]], **keys: Any) -> dict[str, Any]:
    (row,) = [one for one in values if all(one[key] == value for key, value in keys.items())]
    return row


def test_a_network_is_asked_task_by_task(lab: Lab) -> None:
    """It has learned both, and the base knows neither."""
    done = lab("eval", "tasks.jsonl", "--checkpoint", "run", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    arms = {"adapter", "base", "prompt"}
    assert {(row["task"], row["arm"]) for row in found["rows"]} == {
        (task, arm) for task in ("ore", "place") for arm in arms
    }
    assert {row["n"] for row in found["rows"]} == {len(tiny_tasks.WORDS)}
    assert {row["metric"] for row in found["rows"]} == {"em"}
    assert find(found["means"], arm="adapter")["score"] == 1
    assert find(found["means"], arm="prompt")["score"] == 0
    lost = find(found["differences"], adapter_minus="prompt")
    assert lost["score"] == 1
    assert lost["stderr"]["score"] == 0
    assert lost["nll"] < -1


def test_likelihood_in_the_prompt_is_the_bases_own(place: Path, lab: Lab) -> None:
    """Counted again with transformers alone, prompt by prompt."""
    done = lab("eval", "tasks.jsonl", "--checkpoint", "run", "--json")
    rows = json.loads(done.out)["rows"]
    with quiet_transformers():
        tokenizer = transformers.AutoTokenizer.from_pretrained(place / "tiny-org" / "llama-tiny")
    model = tiny.make_causal("llama")
    task = TASKS[0]
    texts = [task["definition"], *task["descriptions"]]
    answer = [*tiny.encode("copper"), tiny.encode("<|im_end|>")[0]]

    def measure(turns: list[dict[str, str]]) -> float:
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
        picked = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])
        return -float(picked.mean())

    alone = [measure([{"role": "user", "content": word}]) for word in tiny_tasks.WORDS]
    expected = sum(alone) / len(alone)
    assert find(rows, task="ore", arm="base")["nll"] == pytest.approx(expected, abs=1e-4)
    # Three descriptions, each for two of six words; which ones is drawn by the task's name.
    chosen = choose_descriptions(read_tasks(Path("tasks.jsonl"))[0], 3)
    assert set(chosen) <= set(texts)
    prompted = []
    for number, word in enumerate(tiny_tasks.WORDS):
        text = chosen[number // 2]
        prompted.append(measure([{"role": "user", "content": f"{text}\n\n{word}"}]))
    got = find(rows, task="ore", arm="prompt")["nll"]
    assert got == pytest.approx(sum(prompted) / len(prompted), abs=1e-4)


def test_an_adapter_is_asked_a_file(command: Command, lab: Lab, tmp_path: Path) -> None:
    adapter = tmp_path / "ore.lora"
    assert (
        command.t2l("make", TASKS[0]["definition"], "-o", adapter, "--checkpoint", "run").code == 0
    )
    done = lab("eval", adapter, "tasks.jsonl")
    assert (done.code, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines()]
    assert ["ore", "adapter", "6", "exact", "match", "1.000", "±", "0.000"] in [
        x[:8] for x in lines
    ]
    assert ["place", "adapter", "6", "exact", "match", "0.000", "±", "0.000"] in [
        x[:8] for x in lines
    ]
    assert "adapter minus" in done.out
    bare = tmp_path / "bare.jsonl"
    bare.write_text("".join(json.dumps(one) + "\n" for one in TASKS[0]["examples"]), "utf-8")
    found = json.loads(lab("eval", adapter, bare, "--limit", 4, "--json").out)
    assert find(found["rows"], arm="adapter")["score"] == 1
    assert find(found["rows"], arm="prompt")["n"] == 4  # by the adapter's own description


def test_held_out_tasks_are_those_of_the_recipe(lab: Lab) -> None:
    asked = ("eval", "--checkpoint", "run", "--held-out", "a.toml", "--json")
    found = json.loads(lab(*asked).out)
    assert {row["task"] for row in found["rows"]} == {"echo"}


def test_a_seat_network_is_asked_with_the_openings_of_its_adapters(
    lab: Lab, tmp_path: Path
) -> None:
    """The base's own arms have no opening, so they are those beside any other network."""
    seats = tiny.write_seats(tmp_path / "seats", repeats=3, reads="descriptions")
    options = ("--limit", 2, "--json")
    done = lab("eval", "tasks.jsonl", "--checkpoint", seats, *options)
    assert (done.code, done.err) == (0, "")
    other = lab("eval", "tasks.jsonl", "--checkpoint", "run", *options)
    rows, others = json.loads(done.out)["rows"], json.loads(other.out)["rows"]
    for task in ("ore", "place"):
        for arm in ("base", "prompt"):
            found, expected = (find(some, task=task, arm=arm) for some in (rows, others))
            assert found == expected
        own, alone = (find(rows, task=task, arm=arm) for arm in ("adapter", "base"))
        assert own["nll"] != alone["nll"]


def test_examples_that_are_too_long_are_counted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("eval", "tasks.jsonl", "--checkpoint", "run", "--json")
    monkeypatch.setattr("d2l_lab.tasks.arms.MAX_INPUT", 2)
    done = lab(*asked)
    assert done.code == 1
    assert "none of its 6 examples has at most 2 tokens" in done.err
    sizes = [len(tiny.encode(f"{word}\ncopper")) for word in tiny_tasks.WORDS]
    most = sorted(sizes)[3]
    monkeypatch.setattr("d2l_lab.tasks.arms.MAX_INPUT", most)
    rows = json.loads(lab(*asked).out)
    kept = sum(size <= most for size in sizes)
    assert 0 < kept < 6
    assert find(rows["rows"], task="ore", arm="adapter")["n"] == kept
    assert "examples that are too long" in rows["remarks"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.lora"], "name an adapter and a file of tasks, or a --checkpoint"),
        (["a.lora", "b.jsonl", "--embedder", "e"], "--held-out and --embedder go with"),
        (["a", "b", "--checkpoint", "x"], "with --checkpoint, name one file of tasks"),
        (["a", "--checkpoint", "x", "--held-out", "b"], "with --checkpoint, name one file of"),
    ],
)
def test_wrong_usage_is_said(lab: Lab, arguments: list[str], message: str) -> None:
    done = lab("eval", *arguments)
    assert done.code == 2
    assert message in done.err


def test_differences_are_paired_and_tasks_count_once() -> None:
    def answered(name: str, adapter: list[float], prompt: list[float]) -> AnsweredTask:
        examples = tuple(Example(str(n), ("x",)) for n in range(len(adapter)))
        marks = {
            arm: [TaskMark(value, 2 * value) for value in values]
            for arm, values in (("adapter", adapter), ("prompt", prompt))
        }
        return AskedTask(name, ("d",), examples, "em", 0), marks

    first = answered("one", [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0])
    second = answered("two", [1.0, 1.0], [0.0, 1.0])
    third = answered("three", [1.0], [0.0])
    report = make_report([first, second, third])
    # By task: 0.5, 1, 1 against 0, 0.5, 0; differences 0.5, 0.5, 1.
    (mean,) = [row for row in report.means if row["arm"] == "adapter"]
    assert (mean["tasks"], mean["n"]) == (3, 7)
    assert mean["score"] == pytest.approx(2.5 / 3)
    (difference,) = report.differences
    assert difference["score"] == pytest.approx(2 / 3)
    # Sample deviation of 0.5, 0.5, 1 is 0.2887; over √3 that is 1/6.
    assert difference["stderr"]["score"] == pytest.approx(1 / 6)
    assert difference["nll"] == pytest.approx(4 / 3)
    (alone,) = make_report([first]).differences
    assert alone["score"] == pytest.approx(0.5)
    # Over questions: 1, 1, 0, 0 has a deviation of 0.5774; over √4 that is 0.2887.
    assert alone["stderr"]["score"] == pytest.approx(0.28868, abs=1e-5)


def test_labels_are_chosen_by_likelihood_and_examples_have_arms(
    working_folder: Path, command: Command, lab: Lab
) -> None:
    """Counted again with transformers alone: the likeliest label, its end token included."""
    tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(working_folder / "seats", repeats=16, reads="both")
    shots = [("pump", "copper"), ("valve", "meadow")]
    asked = [("filter", "copper"), ("harbor", "meadow"), ("lantern", "copper"), ("x", "meadow")]
    task = {
        "task": "metals",
        "definition": "Say which.",
        "positive_examples": [{"input": one, "output": other} for one, other in shots],
        "examples": [{"input": one, "output": other} for one, other in asked],
    }
    tiny_tasks.write_tasks(working_folder / "tasks.jsonl", [task])
    done = lab("eval", "tasks.jsonl", "--checkpoint", "seats", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    rows = {row["arm"]: row for row in found["rows"]}
    assert set(rows) == {"adapter", "both", "base", "prompt", "examples"}
    assert {row["metric"] for row in rows.values()} == {"choice"}
    assert {next(iter(row)) for row in found["differences"]} == {"adapter_minus", "both_minus"}
    with quiet_transformers():
        tokenizer = transformers.AutoTokenizer.from_pretrained(Path("tiny-org", "llama-tiny"))
    model, right, nll = tiny.make_causal("llama"), [], []
    turns: list[dict[str, str]] = []
    for one, other in shots:
        turns += [{"role": "user", "content": one}, {"role": "assistant", "content": other}]
    turns[0]["content"] = f"Say which.\n\n{turns[0]['content']}"
    for word, answer in asked:
        prompt = tokenizer.apply_chat_template(
            [*turns, {"role": "user", "content": word}],
            add_generation_prompt=True,
            return_dict=False,
        )
        sums = {}
        for label in ("copper", "meadow"):
            ids = [*tiny.encode(label), tiny.encode("<|im_end|>")[0]]
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *ids]])).logits[0].log_softmax(-1)
            picked = logits[len(prompt) - 1 : -1].gather(1, torch.tensor(ids)[:, None])
            sums[label] = float(picked.sum())
            if label == answer:
                nll.append(-float(picked.mean()))
        right.append(max(sums, key=lambda label: sums[label]) == answer)
    assert rows["examples"]["score"] == sum(right) / len(right)
    assert abs(rows["examples"]["nll"] - sum(nll) / len(nll)) < 1e-4

    Path("rows.csv").write_text("text,label\npump,copper\nvalve,meadow\n", "utf-8")
    made = ("--examples", "rows.csv", "--checkpoint", "seats", "-o", "task.lora")
    assert command.t2l("make", "Say which.", *made).code == 0
    done = lab("eval", "task.lora", "tasks.jsonl", "--json")
    assert "name the adapter's examples with --examples" in done.err
    done = lab("eval", "task.lora", "tasks.jsonl", "--json", "--examples", "rows.csv")
    rows = {row["arm"]: row for row in json.loads(done.out)["rows"]}
    assert rows["examples"]["score"] == sum(right) / len(right)
    Path("other.csv").write_text("text,label\npump,copper\n", "utf-8")
    done = lab("eval", "task.lora", "tasks.jsonl", "--examples", "other.csv")
    assert "is not the file of examples" in done.err


def test_choices_of_a_task_must_hold_its_outputs(place: Path, lab: Lab) -> None:
    row = tiny_tasks.make_row("ore", choices=["copper", "gold"])
    tiny_tasks.write_tasks(place / "choices.jsonl", [row])
    done = lab("eval", "choices.jsonl", "--checkpoint", "run", "--json")
    assert {one["metric"] for one in json.loads(done.out)["rows"]} == {"choice"}
    tiny_tasks.write_tasks(place / "choices.jsonl", [row | {"choices": ["gold", "lead"]}])
    done = lab("eval", "choices.jsonl", "--checkpoint", "run")
    assert "'copper' is none of its choices" in done.err
