"""Files of tasks: what is read of a row, what is wrong with one, and which tasks are held out."""

import hashlib
import json
from pathlib import Path

import pytest

from d2l.datasets.tasks import Example
from d2l.errors import TaskError
from d2l_lab.task_files import read_cases, read_tasks, split_tasks
from tests import tiny_tasks


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def test_a_row_is_a_task_with_its_examples(tmp_path: Path) -> None:
    row = tiny_tasks.make_row(
        "ore", examples=[{"input": " a ", "output": "b", "outputs": ["b", "c"]}]
    )
    (task,) = read_tasks(write(tmp_path / "tasks.jsonl", json.dumps(row)))
    assert task.name == "ore"
    assert task.descriptions[0] == "Say the ore of the word."
    assert len(task.descriptions) == 4
    assert task.examples == (Example("a", ("b", "c")),)
    assert task.shots == (Example("meadow", ("copper",)),)
    assert task.license_clear


def test_rows_of_input_and_output_alone_are_one_task(tmp_path: Path) -> None:
    rows = ({"input": "a", "output": "b"}, {"input": "c", "outputs": ["d", "e"]})
    (task,) = read_tasks(write(tmp_path / "mine.jsonl", *map(json.dumps, rows)))
    assert (task.name, task.descriptions) == ("mine", ())
    assert task.examples == (Example("a", ("b",)), Example("c", ("d", "e")))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"input": "a"}', "'output' is missing"),
        ('{"input": "", "output": "b"}', "expected text, got ''"),
        ('{"task": "a", "examples": []}', "'definition' is missing"),
        ('{"task": "a", "definition": "b", "examples": []}', "there are no examples"),
        ('{"task": "a", "definition": "b", "examples": 1}', "examples is not a list"),
        (
            '{"task": "a", "definition": "b", "examples": [1]}',
            "an example is 1, expected an object",
        ),
        (
            '{"task": "a", "definition": "b", "examples": [{}], "license_clear": 1}',
            "license_clear is neither true nor false",
        ),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, line: str, reason: str) -> None:
    path = write(tmp_path / "t.jsonl", '{"input": "a", "output": "b"}', line)
    with pytest.raises(TaskError) as found:
        read_tasks(path)
    assert found.value.message == f"{path}, line 2: not a row of tasks ({reason})"


def test_bad_files_are_one_line(tmp_path: Path) -> None:
    twice = json.dumps(tiny_tasks.make_row("ore"))
    write(tmp_path / "twice.jsonl", twice, twice)
    write(tmp_path / "blank.jsonl", "")
    for name, reason in (
        ("twice.jsonl", "has two tasks of the name 'ore'"),
        ("blank.jsonl", "holds no task"),
    ):
        with pytest.raises(TaskError) as found:
            read_tasks(tmp_path / name)
        assert reason in found.value.message


def test_the_tasks_of_smallest_digest_are_held_out_whatever_their_order(tmp_path: Path) -> None:
    names = [f"task{n}" for n in range(12)]
    rows = [tiny_tasks.make_row(name, license_clear=name != "task3") for name in names]
    found = [(task, 1.0) for task in read_tasks(tiny_tasks.write_tasks(tmp_path / "t", rows))]
    fit = [name for name in names if name not in ("task3", "task5")]
    by_digest = sorted(fit, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    for some in (found, found[::-1]):
        split = split_tasks(some, excluded=["task5"], n_held_out=4)
        assert [task.name for task in split.held_out] == by_digest[:4]
        assert sorted(task.name for task, _ in split.training) == sorted(by_digest[4:])


def test_tasks_for_training_only_are_never_held_out(tmp_path: Path) -> None:
    rows = [tiny_tasks.make_row(f"task{n}") for n in range(6)]
    found = [(task, 1.0) for task in read_tasks(tiny_tasks.write_tasks(tmp_path / "t", rows))]
    (first,) = split_tasks(found, excluded=(), n_held_out=1).held_out
    split = split_tasks(found, excluded=(), n_held_out=1, only_training=[first.name])
    assert split.held_out != (first,)
    assert first in [task for task, _ in split.training]
    others = [task.name for task, _ in found[1:]]
    with pytest.raises(TaskError, match="2 tasks are to be held out of the 1 that have a clear"):
        split_tasks(found, excluded=(), n_held_out=2, only_training=others)


def test_a_table_is_one_task_to_measure(tmp_path: Path) -> None:
    path = tmp_path / "mail.csv"
    path.write_text("text,label\nWhere is my parcel?,shipping\n")
    (task,) = read_cases(path)
    assert (task.name, task.descriptions) == ("mail", ())
    assert task.examples == (Example("Where is my parcel?", ("shipping",)),)
    rows = tmp_path / "mail.jsonl"
    rows.write_text('{"input": "Where?", "output": "shipping"}\n')
    assert read_cases(rows)[0].examples == (Example("Where?", ("shipping",)),)
