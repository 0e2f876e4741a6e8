import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from d2l.commands.ask import find_document, read_questions
from d2l.errors import D2LError
from d2l.files.printable import printable
from tests import tiny
from tests.asking import QUESTIONS, ask, expect, one_line
from tests.command import Command, Terminal
from tests.compiled import Compile, Compiled
from tests.refusals import refuse

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- questions ----------------------------------------------------------------------------------


def test_a_question_given_is_the_only_one_and_stdin_is_not_read() -> None:
    stdin = io.StringIO("another\n")
    assert list(read_questions("  How often?\nAnd why? ", stdin)) == ["How often?\nAnd why?"]
    assert stdin.read() == "another\n"


def test_every_line_of_stdin_that_is_not_empty_is_a_question() -> None:
    stdin = io.StringIO("  one? \n\n\ttwo?\r\n   \nthree?")
    assert list(read_questions(None, stdin)) == ["one?", "two?", "three?"]


EXAMPLE = 'd2l ask ADAPTER "A question?"'


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "no question on standard input\nhint: write one question a line\n"),
        ((" ",), f"the question is empty\nhint: {EXAMPLE}\n"),
    ],
)
def test_an_empty_question_is_refused_before_the_base_is_looked_for(
    words: tuple[str, ...],
    error: str,
    command: Command,
    compiled: Compile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n \n"))
    outcome = command("ask", compiled("llama").adapter, *words, "--base", "no/base", "--offline")
    assert (outcome.code, outcome.out, outcome.err) == (1, "", f"error: {error}")


LATIN = "Größe?".encode("latin-1")
#: The system hands bytes that are not UTF-8 over as half characters.
HALVES = LATIN.decode("utf-8", "surrogateescape")
CODING, CONVERT = "the question is not UTF-8 text", "convert it to UTF-8"


def open_stdin(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(LATIN), "utf-8", errors)


@pytest.mark.parametrize(
    ("question", "stdin", "message", "hint"),
    [
        ("", io.StringIO("one?"), "the question is empty", EXAMPLE),
        ("  \n", io.StringIO("one?"), "the question is empty", EXAMPLE),
        (None, Terminal("one?"), "no question", f"{EXAMPLE}, or pipe questions in"),
        (None, None, "no question", f"{EXAMPLE}, or pipe questions in"),  # a closed stdin
        (None, open_stdin("strict"), CODING, CONVERT),
        (None, open_stdin("surrogateescape"), CODING, CONVERT),
        (HALVES, None, CODING, CONVERT),
    ],
)
def test_what_is_no_question_is_refused(
    question: str | None, stdin: Any, message: str, hint: str
) -> None:
    assert refuse(D2LError, lambda: list(read_questions(question, stdin))) == (message, hint)


# ---- the document -------------------------------------------------------------------------------


def write_inputs(done: Compiled, folder: Path, *inputs: Path) -> Path:
    """A copy of an adapter whose record names these files as its inputs, as they are now."""
    adapter = shutil.copytree(done.adapter, folder / "copy.lora")
    record = json.loads((adapter / "d2l.json").read_text("utf-8"))
    record["inputs"] = [
        {
            "name": str(path),
            "format": "text",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size_bytes": path.stat().st_size,
        }
        for path in inputs
    ]
    (adapter / "d2l.json").write_text(json.dumps(record), "utf-8")
    return adapter


def test_the_adapters_own_inputs_are_found_while_unchanged(
    compiled: Compile, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.md"
    first.write_text("The first.")
    second.write_text("# The second")
    adapter = write_inputs(compiled("llama"), tmp_path, first, second)
    text = find_document(adapter, None)
    assert text is not None
    assert text.startswith("The first.\n\n")
    assert "The second" in text
    second.write_text("# The second, changed")
    assert find_document(adapter, None) is None
    second.unlink()
    assert find_document(adapter, None) is None


def test_inputs_are_read_again_as_they_were_compiled(compiled: Compile, tmp_path: Path) -> None:
    """Named .html and compiled with --format text, the document is its source, marks and all."""
    page = tmp_path / "page.html"
    page.write_text("<p>The <b>tower</b> has 96 steps.</p>")
    adapter = write_inputs(compiled("llama"), tmp_path, page, page)  # a file may be given twice
    assert find_document(adapter, None) == page.read_text()


def test_the_document_given_wins_over_the_adapters_own(compiled: Compile, tmp_path: Path) -> None:
    own, given = tmp_path / "own.txt", tmp_path / "given.txt"
    own.write_text("own")
    given.write_text("given")
    adapter = write_inputs(compiled("llama"), tmp_path, own)
    assert find_document(adapter, str(given)) == "given"


# ---- asking on the command line -----------------------------------------------------------------


def test_one_question_prints_its_answer_alone(command: Command, compiled: Compile) -> None:
    done = compiled("seats")
    outcome = ask(command, done, QUESTIONS[0])
    assert outcome.out.strip() == expect("seats", done, QUESTIONS[0])["adapter"]
    assert outcome.code == 0
    assert outcome.out.endswith("\n")
    cut, passage = outcome.err.splitlines()
    assert cut == "… (cut at 6 tokens: --max-tokens)"
    assert passage.startswith("  not in these words in the text; nearest: “")
    assert passage.endswith("” (p. 1)")
    assert ask(command, done, QUESTIONS[0], "-q").err == ""


def test_several_questions_are_repeated_on_stderr_and_stdout_has_answers_alone(
    command: Command, compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = compiled("llama")
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(QUESTIONS)))
    outcome = ask(command, done)
    first, second = (expect("llama", done, question)["adapter"] for question in QUESTIONS)
    assert outcome.code == 0
    asked = [line for line in outcome.err.splitlines() if line.startswith("? ")]
    assert asked == [f"? {question}" for question in QUESTIONS]
    answers = [line.strip() for line in outcome.out.splitlines()]
    assert answers == [printable(first), printable(second)]


def test_answers_as_json_are_one_object(
    command: Command, compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = compiled("llama")
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(QUESTIONS)))
    outcome = ask(command, done, "--json")
    found = json.loads(outcome.out)
    assert found["adapter"] == str(done.adapter)
    for question, row in zip(QUESTIONS, found["answers"], strict=True):
        wanted = (question, expect("llama", done, question)["adapter"], "length", False)
        assert (row["question"], row["adapter"], row["finish"], row["supported"]) == wanted
        assert row["passage"] in " ".join(tiny.DOCUMENT.split())
        assert (row["document"], row["page"], row["score"]) == ("handbook.txt", 1, None)


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_compare_shows_the_three_arms_below_each_other(
    kind: str, command: Command, compiled: Compile, tmp_path: Path
) -> None:
    done = compiled(kind)
    (tmp_path / "document.txt").write_text(tiny.DOCUMENT)
    arguments = (QUESTIONS[0], "--document", tmp_path / "document.txt")
    wanted = expect(kind, done, QUESTIONS[0])
    assert len(set(wanted.values())) == 3
    outcome = ask(command, done, *arguments, "--compare")
    assert outcome.out.splitlines() == [
        f"adapter             {one_line(wanted['adapter'])}",
        f"base alone          {one_line(wanted['base'])}",
        f"document in prompt  {one_line(wanted['prompt'])}",
    ]
    assert outcome.code == 0
    assert outcome.err.count("… (cut at 6 tokens: --max-tokens)\n") == 3
    # Naming a document is asking for the comparison.
    answers = json.loads(ask(command, done, *arguments, "--json").out)["answers"]
    arms = {"question": QUESTIONS[0], **wanted, "prompt_tokens_left_out": 0}
    arms |= {"finish": "length", "base_finish": "length", "prompt_finish": "length"}
    assert arms.items() <= answers[0].items()


def test_compare_without_a_document_at_hand_shows_two_arms(
    command: Command, compiled: Compile
) -> None:
    done = compiled("llama")
    wanted = expect("llama", done, QUESTIONS[0])
    outcome = ask(command, done, QUESTIONS[0], "--compare")
    assert outcome.out.splitlines() == [
        f"adapter     {one_line(wanted['adapter'])}",
        f"base alone  {one_line(wanted['base'])}",
    ]


def test_compare_says_what_of_a_long_document_was_left_out(
    command: Command, compiled: Compile, tmp_path: Path
) -> None:
    done = compiled("llama")
    (tmp_path / "long.txt").write_text(tiny.DOCUMENT * 20)
    arguments = (QUESTIONS[0], "--compare", "--document", tmp_path / "long.txt")
    outcome = ask(command, done, *arguments)
    left_out = json.loads(ask(command, done, *arguments, "--json").out)["answers"][0][
        "prompt_tokens_left_out"
    ]
    assert left_out > 500
    cut = f"warning: the prompt holds the document without its last {left_out:,} tokens\n"
    assert outcome.err.endswith(cut)


def test_answers_as_json_lines_come_one_by_one(
    command: Command, compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second question is only there once the first one's answer has been flushed."""
    done = compiled("llama")
    flushed: list[str] = []
    written: list[str] = []

    class Slow(io.StringIO):
        def __iter__(self) -> Any:
            yield QUESTIONS[0] + "\n\n"
            assert [json.loads(line)["question"] for line in flushed] == [QUESTIONS[0]]
            yield QUESTIONS[1]

    def flush() -> None:
        flushed.extend(written)

    monkeypatch.setattr("sys.stdin", Slow())
    monkeypatch.setattr("d2l.commands.console.flush", flush)
    monkeypatch.setattr(
        "d2l.commands.console.result_json", lambda row: written.append(json.dumps(row))
    )
    assert ask(command, done, "--jsonl").code == 0
    rows = [json.loads(line) for line in written]
    assert [(row["question"], row["adapter"]) for row in rows] == [
        (question, expect("llama", done, question)["adapter"]) for question in QUESTIONS
    ]
    refused = ask(command, done, QUESTIONS[0], "--jsonl", "--json")
    assert (refused.code, refused.out) == (1, "")
