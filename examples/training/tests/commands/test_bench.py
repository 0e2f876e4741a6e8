import json
from pathlib import Path

import pytest

from d2l_lab.commands.bench import LENGTHS, NEEDLE_LENGTHS
from examples.training.tests.toy import Lab
from tests import tiny

pytestmark = pytest.mark.usefixtures("one_thread")
NETWORK = ("--checkpoint", "seats", "--offline", "--device", "cpu", "--max-tokens", 4)
FILLER = "The copper valve is older than the tower, and the filter is rinsed every day. "


@pytest.fixture
def place(working_folder: Path) -> Path:
    """A working folder with a tiny network, a set of one text, and a manual beside questions."""
    tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(working_folder / "seats", repeats=2, chunk_tokens=64)
    text = f"{tiny.DOCUMENT} {FILLER * 6}"  # more than one memory holds
    (working_folder / "manual.md").write_text(f"# Lantern\n\n{text}\n")
    row = {"question": "Where is the pump?", "answers": ["the harbor"]}
    for name, document in (("set", text), ("questions", "manual.md")):
        path = working_folder / f"{name}.jsonl"
        path.write_text(json.dumps(row | {"doc": document}) + "\n")
    with (working_folder / "questions.jsonl").open("a") as file:
        file.write(json.dumps({"doc": "manual.md", "question": "How old?", "answers": []}) + "\n")
    return working_folder


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("arguments", "arms"),
    [
        (
            ("sets", "set.jsonl", "--length", 240),
            "chosen parts, adapter, document in prompt, base alone",
        ),
        (("needles", "--length", 128), "chosen parts, adapter, document in prompt"),
        (
            ("manuals", "questions.jsonl"),
            "chosen parts, right part, best part in prompt, best four in prompt",
        ),
    ],
)
def test_a_benchmark_prints_its_arms_keeps_rows_and_writes_json(
    arguments: tuple[object, ...], arms: str, lab: Lab
) -> None:
    done = lab("bench", *arguments, *NETWORK, "--rows", "rows.jsonl", "-o", "report.json")
    assert done.code == 0, done.err
    report = json.loads(Path("report.json").read_text("utf-8"))
    assert report["bench"] == arguments[0]
    assert f"network   {report['network']}" in done.out
    for arm in arms.split(", "):
        assert done.out.count(f"  {arm}  ") == 2  # scores and costs
    again = lab("bench", *arguments, *NETWORK, "--rows", "rows.jsonl", "--json")
    assert json.loads(again.out) == report
    assert ("right part first" in done.out) == ("routing" in report)


@pytest.mark.usefixtures("place")
def test_false_answers_to_questions_without_an_answer_are_shown(lab: Lab) -> None:
    done = lab("bench", "manuals", "questions.jsonl", *NETWORK, "--json")
    by_arm = {row["arm"]: row for row in json.loads(done.out)["rows"]}
    assert by_arm["rag"]["false_answers"] == {"n": 1, "count": 1, "share": 1.0, "stderr": None}
    assert by_arm["rag"]["n"] == by_arm["parts"]["n"] == 1


@pytest.mark.usefixtures("place")
def test_check_asks_ten_questions_and_replaces_reports_alone(lab: Lab) -> None:
    options = ("--offline", "--device", "cpu", "--max-tokens", 4)
    done = lab("bench", "check", "seats", *options, "-o", "check.json")
    assert done.code == 0, done.err
    rows = json.loads(Path("check.json").read_text("utf-8"))["rows"]
    assert {row["n"] for row in rows} == {10}
    assert [line.split()[:2] for line in done.out.splitlines()[-1:]] == [["a", "page"]]
    Path("note.txt").write_text("mine")
    done = lab("bench", "check", "seats", *options, "-o", "note.txt")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: note.txt exists and is no report of a bench\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("needles", "--length", 20), "--length"),
        (("needles", "--count", 0), "--count"),
        (("sets",), "'files'"),
        (("check",), "'checkpoint'"),
        (("manuals",), "'files'"),
    ],
)
def test_wrong_usage_names_the_option(arguments: tuple[object, ...], reason: str, lab: Lab) -> None:
    done = lab("bench", *arguments)
    assert (done.code, done.out) == (2, "")
    assert reason in done.err


@pytest.mark.parametrize(("name", "lengths"), [("sets", LENGTHS), ("needles", NEEDLE_LENGTHS)])
def test_lengths_in_help_are_those_of_the_command(
    name: str, lengths: tuple[int, ...], lab: Lab
) -> None:
    told = " ".join(lab("bench", name, "--help").out.split())
    assert f"default: {', '.join(map(str, lengths))}." in told
