"""The tasks that examples/own_tasks makes are a file that text networks can be trained with."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from d2l.datasets.tasks import Task, read_tasks

FOLDER = Path(__file__).parents[1] / "examples" / "own_tasks"
FILES = ("newwiki", "quoref", "nq", "covidqa", "factbook", "synthetic")
ROMAN = {"IV": "4", "IX": "9", "XIV": "14", "XIX": "19", "XXVIII": "28", "XXXIX": "39"}
ASKED = (
    *("squad_articles", "qed_nq", "fairytaleqa", "medquad_first_sentence"),
    *("conditionalqa_govuk", "wikitablequestions", "tldr_commands", "vital_definitions"),
)
ARTICLE = (
    "Basalt is a dark rock that comes out of volcanoes. It cools quickly in air or in water. "
    "Its crystals are so small that nobody sees them without a lens. People build roads and "
    "walls with it in many countries. Old columns of it stand at the coast."
)
COMMANDS = "sift: Search in files.\nFind a word in a folder:\nsift word folder"
TABLE = "Rivers\nName | Length\nArno | 241\nTiber | 405\nPo | 652"
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
    special = {
        "tldr_commands": (COMMANDS, "sift (common)", "sift word folder"),
        "wikitablequestions": (TABLE, "Rivers", "241"),
        "vital_definitions": (ARTICLE, "Basalt", "a dark rock"),
    }
    for name, (text, title, answer) in special.items():
        row = {"doc": text, "title": title, "question": "What is it?", "answers": [answer]}
        write(folder / f"qa_train_{name}.jsonl.gz", [row])
    for name in ("docs_encyclopedic", "docs_manuals"):
        write(folder / f"{name}.jsonl.gz", [{"doc": ARTICLE, "title": "Basalt"}])
    asked = [name for name in (*FILES, *ASKED) if name not in special]
    for name in (*(f"qa_train_{name}" for name in asked), "docs_plain"):
        write(folder / f"{name}.jsonl.gz", [row | {"title": "Old_mill"} for row in rows])


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("own")
    write_data(place / "data")
    return place


def make(place: Path, name: str, script: str = "make.py") -> Path:
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), "data", name],
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


@pytest.fixture(scope="module")
def more(place: Path) -> dict[str, Task]:
    return {task.name: task for task in read_tasks(make(place, "further.jsonl", "more.py"))}


@pytest.mark.slow
def test_every_task_can_be_read_and_has_descriptions_and_examples(
    tasks: dict[str, Task], more: dict[str, Task]
) -> None:
    assert len(tasks) > 400
    assert len(more) > 400
    assert not set(tasks) & set(more)
    for task in tasks.values():
        assert len(set(task.descriptions)) >= 4, task.name
        assert len(task.examples) + len(task.shots) >= 3, task.name
        assert all("{" not in text for text in task.descriptions), task.name


@pytest.mark.slow
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


def test_every_further_task_is_described_in_several_voices(more: dict[str, Task]) -> None:
    for task in more.values():
        assert len(set(task.descriptions)) >= 4, task.name
        assert task.examples, task.name
    all_of_them = [text for task in more.values() for text in task.descriptions]
    short = [text for text in all_of_them if text[0].islower() and not text.endswith(".")]
    assert len(short) > len(all_of_them) / 6  # as people write in a hurry


def test_answers_of_further_tasks_are_right(more: dict[str, Task]) -> None:
    def examples(name: str) -> list[tuple[str, str]]:
        return [(one.input, one.outputs[0]) for one in more[f"own_{name}"].examples]

    for given, answer in examples("code_value"):
        assert str(eval(given)) == answer or repr(eval(given)) == answer
    names = {"x": 5, "s": "a pea in a pod", "l": [3, 60, 7]}
    for wish, python in examples("code_python"):
        compile(python, wish, "eval")
        assert eval(python, {**names}) is not None
    for _, answer in examples("tool_json"):
        assert set(json.loads(answer)) == {"tool", "arguments"}
    for given, answer in examples("call_set_timer_json"):
        minutes = json.loads(answer)["arguments"]["minutes"]
        assert str(minutes) in given
    jsons = [name for name in more if name.startswith("own_notation_json_")]
    assert jsons
    for name in jsons:
        for one in more[name].examples:
            record = json.loads(one.input)
            assert all(value in one.outputs[0] for value in record.values()), name
    for given, answer in examples("domain_0_json"):
        assert json.loads(answer)["tenant"] in given
    assert {answer for _, answer in examples("shell_write")} == {"sift word folder"}
    assert {answer for _, answer in examples("table_count")} == {"3"}
    assert {answer for _, answer in examples("define_phrase")} == {"a dark rock"}
    assert {answer for _, answer in examples("article_title")} == {"Basalt"}
    assert {answer for _, answer in examples("read_short_tale")} == {"1820"}
    for given, answer in examples("label_4_plain"):
        assert (answer == "German") == any(word in given for word in (" ist ", "Ich ", "Es regnet"))
