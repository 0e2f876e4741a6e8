import json
from dataclasses import replace
from pathlib import Path

import pytest

from d2l.commands.probe import show_selftest
from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.evaluation.harm import Harm
from d2l.evaluation.probe.passages import HalvedSentence, Place
from d2l.evaluation.probe.selftest import Gain, PlaceGain, Recited, SelfReport, SelfTest
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
        ([".", "--at-least", "0.5"], "--at-least cannot be given without --qa"),
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
        assert {"contained", "em", "f1", "nll"} == set(row["stderr"]) < set(row)


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
    assert lines[10].split() == ["arm", "right", "exact", "match", "F1", "NLL"]
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


def test_an_adapter_alone_is_tested_with_its_own_sentences(
    done: Compiled, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two prompts of our own instead of 24: the time, not the measure, is the point here.
    monkeypatch.setattr(
        "d2l.evaluation.harm.read_harm_prompts", lambda: ["Why?", "Count to three."]
    )
    outcome = command("probe", done.adapter, "--json", *list_options(done))
    assert (outcome.code, outcome.err) == (0, "")
    found = json.loads(outcome.out)
    assert found["selftest"]["n"] > 0
    assert found["harm"]["n"] == 2
    shown = command("probe", done.adapter, *list_options(done))
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith(f"adapter    {done.adapter} on tiny-org/llama-tiny\n")
    assert "\nharm       KL " in shown.out


# ---- the self-test as text ----------------------------------------------------------------------


def make_report() -> SelfReport:
    """A report made by hand."""
    pages = (
        PlaceGain(Place("a.pdf", "p. 1", page=1), Gain(2, 5.0, 3.0, 2.0, 0.5)),
        PlaceGain(Place("a.pdf", "p. 2", page=2), Gain(1, 5.0, 6.0, -1.0)),
        PlaceGain(Place("b.pdf", "p. 1", page=1), Gain(0)),
    )
    worst = (Recited(HalvedSentence("a.pdf", 0, 2, "given", "wanted"), 5.0, 6.0, "said"),)
    test = SelfTest(Gain(3, 5.0, 3.5, 1.5, 0.25), 9, pages, worst)
    harm = Harm(18, 200, 0.48, 0.75, {"kl": 0.02, "unchanged": 0.01})
    return SelfReport("a.lora", "org/base", test, harm)


def test_totals_pages_and_worst_passages_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show_selftest(make_report())
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip("─ ")]
    assert [" ".join(words) for words in lines] == [
        "adapter a.lora on org/base",
        "self-test second halves of 3 of 9 sentences",
        "gain 1.50 ± 0.25 nats a token over the base alone",
        "nll 3.50 with the adapter, 5.00 without",
        "document place gain sentences",
        "a.pdf p. 1 +2.00 2",
        "a.pdf p. 2 -1.00 1",
        "b.pdf p. 1 – 0",
        "worst passages",
        "-1.00 a.pdf, p. 2: given …",
        "wanted wanted",
        "said said",
        "harm KL 0.48 ± 0.02 nats a token, 75.0% of most likely tokens unchanged "
        "(200 general prompts, 18 seats)",
    ]


def test_the_worst_are_few_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report = make_report()
    test = replace(report.selftest, worst=report.selftest.worst * 10)
    show_selftest(replace(report, selftest=test))
    assert capsys.readouterr().out.count("wanted  wanted") == 3
