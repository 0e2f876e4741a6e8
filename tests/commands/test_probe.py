import json
from pathlib import Path

import pytest

from d2l.documents.document import Source
from d2l.documents.read import read_document
from tests import tiny
from tests.command import Command
from tests.compiled import Compiled, compile_tiny

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = [
    {"doc": tiny.DOCUMENT, "question": "How often is the filter rinsed?", "answers": ["14 days"]},
    {"doc": tiny.DOCUMENT, "question": "Where is the pump?", "answers": ["the harbor"]},
]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """An adapter whose document and questions lie beside it."""
    root = tmp_path_factory.mktemp("command")
    path = root / "handbook.txt"
    path.write_text(tiny.DOCUMENT, "utf-8")
    write_questions(root, ROWS)
    return compile_tiny(root, "seats", read_document(Source(str(path), path)))


def write_questions(folder: Path, rows: list[dict[str, object]]) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def list_options(done: Compiled) -> list[object]:
    return ["--base", done.base, "--device", "cpu"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "missing argument 'adapter'"),
        (["."], "missing option '--qa'"),
        ([".", "--qa", "q", "--at-least", "50"], "Input should be less than or equal to 1"),
    ],
)
def test_wrong_usage_is_exit_2_and_says_which_option(
    arguments: list[str], reason: str, command: Command
) -> None:
    outcome = command("probe", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert reason in " ".join(outcome.err.replace("│", " ").split())


def test_json_holds_rows_of_all_arms(done: Compiled, command: Command) -> None:
    questions = done.root / "questions.jsonl"
    outcome = command("probe", done.adapter, "--qa", questions, "--json", *list_options(done))
    assert (outcome.code, outcome.err) == (0, "")
    found = json.loads(outcome.out)
    assert list(found) == ["document", "tokens", "rows", "questions", "left_out"]
    assert found["document"] == str(done.root / "handbook.txt")
    for row, arm in zip(found["rows"], ("adapter", "prompt", "base"), strict=True):
        assert (row["arm"], row["n"]) == (arm, 2)
        assert {"contained", "em", "f1"} == set(row["stderr"]) < set(row)


def test_too_few_right_answers_are_exit_1_behind_the_report(
    done: Compiled, command: Command
) -> None:
    questions = done.root / "questions.jsonl"
    asked = ("probe", done.adapter, "--qa", questions, "--json", *list_options(done))
    outcome = command(*asked, "--at-least", "0.01")
    assert (outcome.code, json.loads(outcome.out)["rows"][0]["contained"]) == (1, 0)
    assert outcome.err == (
        f"error: {done.root / 'handbook.txt'}: 0 of 2 (0.00 ± 0.00) right, less than 0.01\n"
        "hint: the wrong answers stand above; --at-least sets the share\n"
    )
    assert command(*asked, "--at-least", "0").code == 0


def test_questions_stand_before_the_means_each_with_what_was_said(
    done: Compiled, command: Command, tmp_path: Path
) -> None:
    rows = [*ROWS, {"question": "What does it cost?", "answers": ["9 dollars"]}]
    questions = write_questions(tmp_path, rows)
    outcome = command("probe", done.adapter, "--qa", questions, *list_options(done))
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[:3] == [
        "0 of 2 right",
        f"  ? {ROWS[0]['question']}",
        "         wanted  14 days",
    ]
    assert lines[3].startswith("         said    ")
    assert lines[7:10] == [
        "left out: What does it cost? (its answer is not in the document: 9 dollars)",
        "",
        f"{done.root / 'handbook.txt'}, {len(tiny.encode(tiny.DOCUMENT))} tokens",
    ]
    assert lines[10].split() == ["arm", "right", "exact", "match", "F1"]
    assert lines[12].split()[:4] == ["adapter", "0", "of", "2"]


def test_false_answers_stand_beside_false_silences(
    done: Compiled, command: Command, tmp_path: Path
) -> None:
    rows = [*ROWS, {"question": "What does it weigh?", "answers": []}]
    questions = write_questions(tmp_path, rows)
    outcome = command("probe", done.adapter, "--qa", questions, *list_options(done))
    assert (outcome.code, outcome.err) == (0, "")
    assert "  ? What does it weigh?\n         wanted  (no answer)\n" in outcome.out
    *_, head, _, _, _, last = outcome.out.splitlines()
    assert head.split()[-4:] == ["false", "answers", "false", "silences"]
    # Random weights never refuse.
    assert last.endswith("1 of 1 (1.00)   0 of 2 (0.00 ± 0.00)")
