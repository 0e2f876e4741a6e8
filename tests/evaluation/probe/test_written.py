"""Questions of a writer: where their answers stand, how they are kept, and what is said of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from d2l.datasets.questions import read_questions
from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.evaluation.probe import written as asking
from d2l.evaluation.probe.written import PageAnswer, PageQuestion
from d2l.questions.marks import AboutText
from d2l.questions.writer import explain_silence
from tests import tiny
from tests.command import Command
from tests.compiled import LAST_PAGE, Compiled, compile_tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def make_question(page: int | None = 2, answer: str = "96 steps") -> PageQuestion:
    return PageQuestion("manual.pdf", page, f"p. {page}", "How many steps has it?", answer)


def test_questions_are_rows_that_qa_reads(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps(make_question().to_json()), "utf-8")
    (found,) = read_questions(path)
    assert (found.text, found.references) == ("How many steps has it?", ("96 steps",))


def test_an_answer_is_placed_by_its_page_or_else_its_heading() -> None:
    heading = PageQuestion("manual.md", None, "§ Filters", "How many?", "96")
    assert PageAnswer(make_question(1), "said").place == "manual.pdf, p. 1"
    assert PageAnswer(heading, "said").place == "manual.md, § Filters"


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiled:
    """A tiny adapter whose base has a writer that asks one question about the tower."""
    path = tmp_path / "handbook.md"
    path.write_text(f"{tiny.DOCUMENT}\n\n# Tower\n\n{LAST_PAGE}\n", "utf-8")
    document = read_document(Source(str(path), path))

    def write_about(*given: Any, **_: Any) -> tuple[list[AboutText], int]:
        causal, texts = given[0], given[3]
        assert causal.get_submodule("model.layers.1.self_attn.v_proj")
        start = texts[0].index("96 steps")
        return [AboutText(0, start, start + 8, "How many steps has it?", "96 steps")], 3

    monkeypatch.setattr(asking, "write_about", write_about)
    return compile_tiny(tmp_path, "seats", document)


def test_ask_prints_what_one_could_ask(done: Compiled, command: Command) -> None:
    options = ["--questions", done.root / "handbook.md", "--base", done.base, "--device", "cpu"]
    outcome = command("ask", done.adapter, *options)
    assert outcome.code == 0
    assert "How many steps has it?  96 steps" in outcome.out
    lines = command("ask", done.adapter, *options, "--jsonl")
    assert json.loads(lines.out)["answers"] == ["96 steps"]
    refused = command("ask", done.adapter, "What?", *options)
    assert refused.code == 1
    assert "--questions prints questions and asks none" in refused.err


def test_a_base_without_a_writer_is_told_from_a_document_without_a_question(
    done: Compiled, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "write_about", lambda *_, **__: ([], 0))
    words = ["ask", done.adapter, "--questions", done.root / "handbook.md", "--base", done.base]
    words += ["--device", "cpu"]
    none = f"there is no question writer for the base {tiny.base_name('llama')}"
    way = "compile the document with --checkpoint qwen2.5-coder-0.5b, whose base has one"
    outcome = command(*words)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.startswith(f"warning: no question: {none} ({way}")
    told = json.loads(command(*words, "--json").out)
    assert (told["questions"], told["reason"]) == ([], none)
    assert told["hint"].startswith(way)

    reason, hint = explain_silence("Qwen/Qwen2.5-Coder-0.5B-Instruct")
    assert reason.startswith("the base could not answer any question of the writer")
    assert "--checkpoint" not in hint


def test_the_self_test_asks_them(done: Compiled, command: Command) -> None:
    options = ["--base", done.base, "--device", "cpu"]
    outcome = command("probe", done.adapter, *options, "--json")
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(outcome.out)["questions"]
    assert (row["question"], row["answers"]) == ("How many steps has it?", ["96 steps"])
    assert row["contained"] is False
    text = command("probe", done.adapter, *options)
    counts = "(of 3 that were written, 1 are answerable from their passage)"
    assert f"questions  0 of 1 right {counts}" in text.out
    assert "? How many steps has it?" in text.out
