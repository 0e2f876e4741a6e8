"""The tasks that examples/own_tasks makes are a file that text networks can be trained with."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from d2l.datasets.tasks import Task, read_tasks

SCRIPT = Path(__file__).parents[1] / "examples" / "own_tasks" / "make.py"
FILES = ("newwiki", "quoref", "nq", "covidqa", "factbook", "synthetic")
ROMAN = {"IV": "4", "IX": "9", "XIV": "14", "XIX": "19", "XXVIII": "28", "XXXIX": "39"}
QUESTIONS = (
    "Who built the old mill near the river",
    "When did the mill open its doors",
    "Where does the mill stand today",
    "What was ground in the old mill",
    "How many people worked in the mill",
)


def write_data(folder: Path) -> None:
    """Files of the recipes' data with a few rows each."""
    folder.mkdir()
    doc = "built by Anna Keller in 1820. It stands by the river in the town of Ghent."
    rows = [
        {
            "doc": f"The mill with {n} wheels was {doc}",
            "question": f"{question} {n}?",
            "answers": ["1820"],
        }
        for n in range(3)
        for question in QUESTIONS
    ]
    for name in (*(f"qa_train_{name}" for name in FILES), "docs_plain"):
        text = "".join(json.dumps(row | {"title": "Old_mill"}) + "\n" for row in rows)
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("own")
    write_data(place / "data")
    return place


def make(place: Path, name: str) -> Path:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "data", name],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return place / name


@pytest.fixture(scope="module")
def tasks(place: Path) -> dict[str, Task]:
    return {task.name: task for task in read_tasks(make(place, "own.jsonl"))}


def test_every_task_can_be_read_and_has_descriptions_and_examples(tasks: dict[str, Task]) -> None:
    assert len(tasks) > 400
    for task in tasks.values():
        assert len(set(task.descriptions)) >= 4, task.name
        assert len(task.examples) + len(task.shots) >= 3, task.name
        assert all("{" not in text for text in task.descriptions), task.name


def test_the_same_file_comes_out_again(place: Path) -> None:
    assert make(place, "again.jsonl").read_bytes() == make(place, "more.jsonl").read_bytes()


def test_answers_are_right(tasks: dict[str, Task]) -> None:
    def examples(name: str) -> list[tuple[str, str]]:
        return [(one.input, one.outputs[0]) for one in tasks[f"own_{name}"].examples]

    for given, answer in examples("sort"):
        assert answer.split(", ") == sorted(given.split(", "))
    for given, answer in examples("backwards"):
        assert answer == "".join(reversed(given))
    for given, answer in examples("two_difference"):
        first, second = map(int, given.split())
        assert int(answer) == first - second
    roman = dict(examples("roman_to_number"))
    assert all(roman[numeral] == number for numeral, number in ROMAN.items() if numeral in roman)
    assert any(numeral in roman for numeral in ROMAN)
    for given, answer in examples("form_json"):
        person, town = given.split(", ")
        assert json.loads(answer) == {"name": person, "town": town}
    assert {answer for _, answer in examples("passage_answer_encyclopedia")} == {"1820"}
