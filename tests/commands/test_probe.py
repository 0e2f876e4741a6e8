import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from d2l.commands.probe import LENGTHS, show_selftest
from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.errors import D2LError
from tests import tiny
from tests.command import Command
from tests.compiled import Compiled, compile_tiny
from tests.evaluation.selftest.reports import make_report

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
    questions = "".join(json.dumps(row) + "\n" for row in ROWS)
    (root / "questions.jsonl").write_text(questions, "utf-8")
    return compile_tiny(root, "seats", read_document(Source(str(path), path)))


def list_options(done: Compiled) -> list[object]:
    return ["--base", done.base, "--device", "cpu", "--no-harm"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name an adapter, or sets of questions with --set"),
        ([".", "--set", "s.jsonl"], "ADAPTER cannot be given with --set"),
        (["--set", "s", "--qa", "q", "--document", "d"], "--qa, --document cannot be given with"),
        ([".", "--length", "64"], "--length cannot be given without --set"),
        ([".", "--checkpoint", "c"], "--checkpoint cannot be given without --set"),
        ([".", "--qa", "q", "--html", "h"], "--html cannot be given with --qa, --set or"),
        (["--set", "s", "--html", "h"], "--html cannot be given with --qa, --set or"),
        ([".", "--at-least", "0.5"], "--at-least cannot be given without --qa"),
        ([".", "--qa", "q", "--at-least", "50"], "Input should be less than or equal to 1"),
        (["--set", "s", "--arm", "rag"], "--arm cannot be given without --set"),
        ([".", "--published"], "--published cannot be given without --qa or --set"),
        ([".", "--unanswerable", "neighbors"], "neighbors needs --qa or --set to"),
        (["--set", "s", "--length", "x"], "'--length': Input should be a valid integer"),
        (["--set", "s", "--length", "0"], "'--length': Input should be greater than or equal to 1"),
        ([".", "--qa", "q", "--limit", "0"], "--limit"),
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
    assert list(found) == ["rows", "questions"]  # harm was left out
    for row, arm in zip(found["rows"], ("adapter", "prompt", "base"), strict=True):
        assert (row["arm"], row["n"], row["set"]) == (arm, 2, str(done.root / "handbook.txt"))
        scores = {"contained", "em", "f1", "nll", "nll_without_end"}
        assert scores == set(row["stderr"]) < set(row)


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
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    outcome = command("probe", done.adapter, "--qa", questions, *list_options(done))
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[:3] == [
        "0 of 2 right",
        f"  ? {ROWS[0]['question']}",
        f"         wanted  {ROWS[0]['answers'][0]}",
    ]
    assert lines[3].startswith("         said    ")
    assert lines[7:10] == [
        "left out: What does it cost? (its answer is not in the document: 9 dollars)",
        "",
        f"{done.root / 'handbook.txt'}, {len(tiny.encode(tiny.DOCUMENT))} tokens",
    ]
    assert lines[10].split() == ["arm", "right", "exact", "match", "F1", "NLL"]
    assert lines[12].split()[:4] == ["adapter", "0", "of", "2"]


def test_the_table_names_set_length_and_arms(done: Compiled, command: Command) -> None:
    outcome = command(
        "probe", "--set", done.root / "questions.jsonl", "--length", 120, "--length", 60,
        "--checkpoint", done.checkpoint, *list_options(done),
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    lines = [line.split() for line in outcome.out.splitlines()]
    arms = [line[:3] for line in lines if line[:1] == ["questions"]]
    assert arms == [
        ["questions", length, arm]
        for length in ("120", "60")
        for arm in ("adapter", "document", "base")
    ]


def test_whole_documents_are_asked_in_the_arms_that_are_named(
    done: Compiled, command: Command
) -> None:
    outcome = command(
        "probe", "--set", done.root / "questions.jsonl", "--whole", "--arm", "routed",
        "--arm", "base", "--checkpoint", done.checkpoint, *list_options(done),
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert re.fullmatch("[01] of 2 right", lines[0])
    assert sum("chosen parts" in line for line in lines) == 2  # scores and first token
    assert sum("base alone" in line for line in lines) == 2
    assert "right part first" in outcome.out


def test_an_adapter_alone_is_tested_with_its_own_sentences(
    done: Compiled, command: Command, tmp_path: Path
) -> None:
    html = tmp_path / "report.html"
    options = ["--base", done.base, "--device", "cpu", "--no-harm", "--html", html]
    outcome = command("probe", done.adapter, "--json", *options)
    assert outcome.code == 0
    found = json.loads(outcome.out)
    assert found["rows"] == []
    assert found["selftest"]["n"] > 0
    assert "handbook" in html.read_text("utf-8")
    shown = command("probe", done.adapter, *options)
    assert (shown.code, shown.err) == (0, "")
    assert "gain" in shown.out


def test_the_self_test_is_printed_before_harm_is_measured(
    done: Compiled, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm takes minutes; what is known before does not wait for it."""

    def fail(*_: object, **__: object) -> None:
        raise D2LError("harm is measured now")

    monkeypatch.setattr("d2l.evaluation.selftest.selftest.answer_general", fail)
    outcome = command("probe", done.adapter, "--base", done.base, "--device", "cpu")
    assert (outcome.code, outcome.err) == (1, "error: harm is measured now\n")
    assert "worst passages" in outcome.out


def test_lengths_in_help_are_those_of_the_command(command: Command) -> None:
    assert ", ".join(map(str, LENGTHS)) in " ".join(command("probe", "--help-all").out.split())


# ---- the self-test as text ----------------------------------------------------------------------


def test_totals_pages_and_worst_passages_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    report = make_report("a.pdf")
    show_selftest(replace(report, harm=None))
    show_selftest(report)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip("─ ")]
    assert [" ".join(words) for words in lines] == [
        "adapter a.pdf on org/base",
        "self-test second halves of 3 of 9 sentences",
        "gain 1.50 ± 0.25 nats a token over the base alone",
        "nll 3.50 with the adapter, 5.00 without",
        "document page gain sentences",
        "a.pdf p. 1 +2.00 2",
        "a.pdf p. 2 -1.00 1",
        "b.pdf p. 1 – 0",
        "worst passages",
        "-1.00 a.pdf, p. 2: given a.pdf …",
        "wanted wanted a.pdf",
        "said a.pdf",
        "harm KL 0.48 ± 0.02 nats a token, 75.0% of most likely tokens unchanged "
        "(200 general prompts, 18 seats)",
    ]


def test_the_worst_are_few_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report = make_report()
    test = replace(report.selftest, worst=report.selftest.worst * 10)
    show_selftest(replace(report, selftest=test, harm=None))
    assert capsys.readouterr().out.count("wanted words") == 3


# ---- what the document does not answer ----------------------------------------------------------


def test_false_answers_stand_beside_false_silences_as_text_and_json(
    done: Compiled, command: Command, tmp_path: Path
) -> None:
    unanswerable = tmp_path / "unanswerable.jsonl"
    rows = [{"question": "Who is the keeper's daughter?"}, {"question": "What does it weigh?"}]
    unanswerable.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    options = ["--unanswerable", unanswerable, *list_options(done)]
    questions = done.root / "questions.jsonl"
    outcome = command("probe", done.adapter, "--qa", questions, "--json", *options)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert [row["arm"] for row in found["unanswerable"]] == ["adapter", "prompt", "base"]
    for row, scored in zip(found["unanswerable"], found["rows"], strict=True):
        # Random weights never refuse.
        assert row["false_answers"] == {"n": 2, "count": 2, "share": 1.0, "stderr": 0.0}
        assert row["false_silences"]["n"] == scored["n"]
        assert row["false_silences"]["count"] == 0
    shown = command("probe", done.adapter, *options)
    (head, *lines) = [line.split() for line in shown.out.splitlines() if line.strip("─ ")]
    assert head == ["set", "tokens", "arm", "false", "answers", "false", "silences"]
    assert len(lines) == 3
    assert all(line[-7:] == ["2", "of", "2", "(1.00", "±", "0.00)", "–"] for line in lines)
