import json
from pathlib import Path

import pytest

from tests import tiny
from tests.command import Command

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = ("--checkpoint", "seats", "--offline", "--device", "cpu", "--max-tokens", 4)


@pytest.fixture
def place(working_folder: Path) -> Path:
    """A working folder with a tiny network, and a set of one text."""
    tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(working_folder / "seats", repeats=3)
    row = {"doc": tiny.DOCUMENT, "question": "Where is the pump?", "answers": ["the harbor"]}
    (working_folder / "set.jsonl").write_text(json.dumps(row) + "\n")
    return working_folder


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    "arguments",
    [
        ("niah", "--fewest", 32, "--most", 256, "--depths", 1, "--arm", "adapter"),
        ("squad", "set.jsonl"),
        ("phonebook", "--entries", 2, "--limit", 1),
    ],
)
def test_a_benchmark_prints_a_table_and_writes_json_and_a_picture(
    arguments: tuple[object, ...], command: Command
) -> None:
    pytest.importorskip("matplotlib")
    written = ("--rows", "rows.jsonl", "-o", "report.json", "--plot", "report.svg")
    done = command("bench", *arguments, *OPTIONS, *written)
    assert done.code == 0, done.err
    report = json.loads(Path("report.json").read_text("utf-8"))
    assert f"network   {report['network']}" in done.out
    assert done.out.count("\nadapter") + done.out.count("  adapter") == len(
        {row["tokens"] for row in report["rows"]}
    )
    assert Path("report.svg").stat().st_size > 1_000
    again = command("bench", *arguments, *OPTIONS, "--rows", "rows.jsonl", "--json")
    assert json.loads(again.out) == report


@pytest.mark.usefixtures("place")
def test_harm_and_check_name_what_they_measured(command: Command) -> None:
    Path("note.txt").write_text("The valve is copper.")
    done = command("bench", "harm", "note.txt", "--limit", 1, *OPTIONS)
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()[-2:]] == ["note.txt", "note.txt"]
    options = ("--offline", "--device", "cpu", "--max-tokens", 4, "--arm", "base")
    done = command("bench", "check", "seats", *options, "-o", "check.json")
    assert done.code == 0, done.err
    (row,) = json.loads(Path("check.json").read_text("utf-8"))["rows"]
    assert (row["arm"], row["n"]) == ("base", 10)
    done = command("bench", "check", "seats", *options, "-o", "note.txt")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: note.txt exists and is no report of d2l bench\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("niah", "--most", 100), "--most"),
        (("niah", "--depths", 11), "--depths"),
        (("squad",), "'questions'"),
        (("check",), "'checkpoint'"),
    ],
)
def test_wrong_usage_names_the_option(
    arguments: tuple[object, ...], reason: str, command: Command
) -> None:
    done = command("bench", *arguments)
    assert (done.code, done.out) == (2, "")
    assert reason in done.err
