import json
from pathlib import Path

import pytest

from d2l.commands.probe import BOUNDED, LENGTHS
from d2l.documents.document import Source
from d2l.documents.readers import read_document
from d2l.errors import D2LError
from d2l.evaluation.recall.report import BOUNDED as BOUNDED_SCORES
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
    questions = "".join(json.dumps(row) + "\n" for row in ROWS)
    (root / "questions.jsonl").write_text(questions, "utf-8")
    return compile_tiny(root, "seats", read_document(Source(str(path), path)))


def list_options(done: Compiled) -> list[object]:
    return ["--base", done.base, "--device", "cpu", "--max-tokens", 4, "--no-harm"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name an adapter, or sets of questions with --set"),
        (["a.lora", "--set", "s.jsonl"], "ADAPTER cannot be given with --set"),
        (["--set", "s", "--qa", "q", "--document", "d"], "--qa, --document cannot be given with"),
        (["a.lora", "--length", "64"], "--length cannot be given without --set"),
        (["a.lora", "--checkpoint", "c", "--dtype", "fp32"], "--checkpoint, --dtype cannot be"),
        (["a.lora", "--qa", "q", "--refine", "2m"], "--refine cannot be given without --set"),
        (["a.lora", "--refine-steps", "2"], "--refine-steps cannot be given without --set"),
        (["a.lora", "--tokens-per-seat", "4", "--qa", "q"], "--tokens-per-seat cannot be given"),
        (["a.lora", "--fail-under", "em=1"], "--fail-under cannot be given without --qa or --set"),
        (["a.lora", "--wording", "plain"], "--wording cannot be given without --qa, --set or"),
        (["a.lora", "--adapter-only"], "--adapter-only cannot be given without --qa, --set or"),
        (["a.lora", "--unanswerable", "neighbors"], "neighbors needs --qa or --set to"),
        (
            ["a.lora", "--unanswerable", "u", "--fail-under", "em=1"],
            "--fail-under cannot be given without --qa or --set",
        ),
        (
            ["--set", "s", "--adapter-only", "--wording", "plain"],
            "--wording cannot be given with --adapter-only",
        ),
        (["--set", "s", "--length", "64", "--length", "x"], "'x': expected a number of tokens"),
        (["--set", "s", "--length", "0"], "'0': expected a number of tokens"),
        (["--set", "s", "--length", ""], "--length': the name is empty"),
        (["--set", "s", "--fail-under", "nll=1"], "'nll=1': expected one of contained, em, f1"),
        (["--set", "s", "--fail-under", "em=1.5"], "'em=1.5': expected one of contained, em, f1"),
        (["--set", "s", "--fail-under", "em"], "'em': expected one of contained, em, f1"),
        (["a.lora", "--qa", "q", "--limit", "0"], "--limit"),
        (["a.lora", "--qa", "q", "--wording", "rude"], "--wording"),
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
    assert list(found) == ["rows"]  # harm was left out
    for row, arm in zip(found["rows"], ("adapter", "prompt", "base"), strict=True):
        assert (row["arm"], row["n"], row["set"]) == (arm, 2, str(done.root / "handbook.txt"))
        scores = {"contained", "em", "f1", "nll", "nll_without_end"}
        assert scores == set(row["stderr"]) < set(row)


def test_the_table_names_set_length_and_arms(done: Compiled, command: Command) -> None:
    outcome = command(
        "probe", "--set", done.root / "questions.jsonl", "--length", 120, "--length", 60,
        "--checkpoint", done.checkpoint, "--wording", "plain", *list_options(done),
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    lines = [line.split() for line in outcome.out.splitlines()]
    arms = [line[:2] + line[3:4] for line in lines if line[:1] == ["questions"]]
    assert arms == [
        ["questions", length, arm]
        for length in ("120", "60")
        for arm in ("adapter", "prompt", "base")
    ]
    assert "prompt (plain)" in outcome.out


def test_what_refining_does_is_asked_before_and_after(done: Compiled, command: Command) -> None:
    outcome = command(
        "probe", "--set", done.root / "questions.jsonl", "--length", 120, "--adapter-only",
        "--checkpoint", done.checkpoint, "--refine-steps", 3, *list_options(done),
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    before = [line.split() for line in outcome.out.splitlines() if "not refined" in line]
    assert [words[0] for words in before] == ["questions"]
    assert "questions, 120 tokens: refining changed" in outcome.out


@pytest.mark.parametrize("way", ["--qa", "--set"])
def test_only_the_adapter_is_asked_where_nothing_is_compared(
    done: Compiled, command: Command, way: str
) -> None:
    network = ["--checkpoint", done.checkpoint, "--length", 120]
    about = ["--set", done.root / "questions.jsonl", *network]
    if way == "--qa":
        about = [done.adapter, "--qa", done.root / "questions.jsonl"]
    rows = {}
    for only in ([], ["--adapter-only"]):
        outcome = command("probe", *about, *only, "--json", *list_options(done))
        assert (outcome.code, outcome.err) == (0, "")
        rows[len(only)] = json.loads(outcome.out)["rows"]
    assert [row["arm"] for row in rows[1]] == ["adapter"]
    assert rows[1] == rows[0][:1]


def test_a_figure_that_is_not_reached_is_exit_1_after_the_result(
    done: Compiled, command: Command
) -> None:
    arguments = ["probe", done.adapter, "--qa", done.root / "questions.jsonl", "--json"]
    bounds = ["--fail-under", "contained=0.9", "--fail-under", "f1=0"]
    outcome = command(*arguments, *bounds, *list_options(done))
    assert outcome.code == 1
    assert len(json.loads(outcome.out)["rows"]) == 3
    n_tokens = len(tiny.encode(tiny.DOCUMENT))
    assert outcome.err == (
        f"error: {done.root / 'handbook.txt'}, {n_tokens} tokens: contained is 0.000, under 0.9\n"
    )


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


def test_bounds_and_lengths_in_help_are_those_of_the_pipelines(command: Command) -> None:
    assert BOUNDED == BOUNDED_SCORES
    assert ",".join(map(str, LENGTHS)) in command("probe", "--help").out


# ---- what the document does not answer ----------------------------------------------------------


def test_false_answers_stand_beside_false_silences_as_text_json_and_html(
    done: Compiled, command: Command, tmp_path: Path
) -> None:
    unanswerable, html = tmp_path / "unanswerable.jsonl", tmp_path / "report.html"
    rows = [{"question": "Who is the keeper's daughter?"}, {"question": "What does it weigh?"}]
    unanswerable.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    options = ["--unanswerable", unanswerable, *list_options(done)]
    questions = done.root / "questions.jsonl"
    outcome = command("probe", done.adapter, "--qa", questions, "--json", "--html", html, *options)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert [row["arm"] for row in found["unanswerable"]] == ["adapter", "prompt", "base"]
    for row, scored in zip(found["unanswerable"], found["rows"], strict=True):
        # Random weights never refuse.
        assert row["false_answers"] == {"n": 2, "count": 2, "share": 1.0, "stderr": 0.0}
        assert row["false_silences"]["n"] == scored["n"]
        assert row["false_silences"]["count"] == 0
    page = html.read_text("utf-8")
    assert "2 of 2 (1.00 ± 0.00)" in page
    assert "Questions that the document answers" in page
    shown = command("probe", done.adapter, *options)
    (head, *lines) = [line.split() for line in shown.out.splitlines() if line.strip("─ ")]
    assert head == ["set", "length", "arm", "false", "answers", "false", "silences"]
    assert len(lines) == 3
    assert all(line[-7:] == ["2", "of", "2", "(1.00", "±", "0.00)", "–"] for line in lines)


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_asked(
    done: Compiled, command: Command, tmp_path: Path
) -> None:
    other = tmp_path / "notes.html"
    other.write_text("mine")
    missing = tmp_path / "none.jsonl"
    outcome = command("probe", done.adapter, "--qa", missing, "--html", other, *list_options(done))
    assert outcome.code == 1
    assert "exists and is no report of d2l" in outcome.err
