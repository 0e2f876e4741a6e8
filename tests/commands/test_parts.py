"""Commands with an adapter that keeps parts: chosen, cited, listed, compared, checked."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.commands import console
from d2l.datasets.silence import NOT_FOUND
from d2l.files.printable import printable
from tests.asking import N_TOKENS, QUESTIONS, ask, judge
from tests.command import Command, Terminal
from tests.compiled import Compile, Compiled, compile_tiny

pytestmark = pytest.mark.usefixtures("one_thread")

VALUES = "parts.safetensors"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """A seats adapter with parts, which is not to be changed."""
    return compile_tiny(tmp_path_factory.mktemp("kept"), "seats", parts=True)


@pytest.fixture
def copy(kept: Compiled, tmp_path: Path) -> Compiled:
    """The same, which may be damaged."""
    return replace(kept, adapter=shutil.copytree(kept.adapter, tmp_path / "copy.lora"))


def test_an_answer_stands_alone_on_stdout_and_its_place_on_stderr(
    command: Command, kept: Compiled
) -> None:
    outcome = ask(command, kept, QUESTIONS[0])
    options = AskOptions(str(kept.base), "cpu", N_TOKENS, offline=True)
    turns = [{"role": "user", "content": QUESTIONS[0]}]
    answer = AdaptedModel.load(kept.adapter, options).answer(turns)
    assert outcome.out.strip() == printable(answer.text)
    assert outcome.code == 0
    assert outcome.err.endswith(f"({answer.place})\n")
    assert " ".join(printable(answer.passage or "?").split()) in " ".join(outcome.err.split())
    assert ask(command, kept, QUESTIONS[0], "-q").err == ""
    (row,) = json.loads(ask(command, kept, QUESTIONS[0], "--json").out)["answers"]
    assert row["parts"] == [cited.to_json() for cited in answer.citations]
    given = {"question": QUESTIONS[0], "adapter": answer.text, "parts": row["parts"]}
    more = {"passage": answer.passage, "supported": answer.supported, "finish": answer.finish}
    assert row == given | more | answer.citations[0].to_json()
    compared = ask(command, kept, QUESTIONS[0], "--compare", "--json").out
    assert json.loads(compared)["answers"][0]["place"] == row["place"]


def test_on_a_terminal_the_passage_stands_below_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", screen := Terminal())
    monkeypatch.setenv("COLUMNS", "60")
    console.end_answer("", "“Day | Work\n12 | filter” (p. 17, Care\x1b > Filter)")
    console.end_answer("… (cut at 3 tokens: --max-tokens)", "long " * 20)
    console.end_answer()
    monkeypatch.setattr(console._Settings, "level", console.Level.QUIET)
    console.end_answer("…", "“Day | Work”")
    assert [re.sub("\x1b.[02]?m", "|", line) for line in screen.getvalue().splitlines()] == [
        "",
        "|  “Day | Work|",
        "|  12 | filter” (p. 17, Care\\x1b > Filter)|",
        " |… (cut at 3 tokens: --max-tokens)|",
        "|  " + "long " * 10 + "long|",
        "|  " + "long " * 8 + "long|",
        "",
        "",
    ]


def test_parts_are_chosen_by_hand(command: Command, kept: Compiled) -> None:
    words = (QUESTIONS[0], "--json", "--page")
    (row,) = json.loads(ask(command, kept, *words, "p. 1").out)["answers"]
    assert [part["page"] for part in row["parts"]] == [1, 1, 1, 1]
    (row,) = json.loads(ask(command, kept, *words, "p. 1", "--parts", "1").out)["answers"]
    assert [part["page"] for part in row["parts"]] == [1]
    (row,) = json.loads(ask(command, kept, *words, "#1").out)["answers"]
    assert [part["part"] for part in row["parts"]] == [1]
    missing = ask(command, kept, *words, "p. 999")
    assert (missing.code, missing.out) == (1, "")
    assert missing.err.startswith(
        "error: p. 999: no such page or heading\nhint: the adapter holds "
    )


def test_a_question_without_words_is_not_answered_and_cites_nothing(
    command: Command, kept: Compiled
) -> None:
    outcome = ask(command, kept, "???")
    assert (outcome.out, outcome.err) == (f"{NOT_FOUND}\n", "")
    (row,) = json.loads(ask(command, kept, "???", "--json").out)["answers"]
    assert (row["part"], row["parts"]) == (None, [])


def test_silence_names_the_place_that_came_closest(
    command: Command, kept: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = json.loads(ask(command, kept, QUESTIONS[0], "--json").out)["answers"]
    judge(monkeypatch, most_silent=0.0, least_overlap=2.0)
    silent = ask(command, kept, QUESTIONS[0])
    assert silent.out == f"{NOT_FOUND}\n"
    closest, passage = silent.err.splitlines()
    assert closest == f"Closest: {row['place']}"
    (told,) = json.loads(ask(command, kept, QUESTIONS[0], "--json").out)["answers"]
    assert (told["part"], told["parts"][0]) == (None, row["parts"][0])
    assert passage == f"  “{told['passage']}”"
    assert told["supported"] is None
    assert ask(command, kept, QUESTIONS[0], "-q").err == ""


@pytest.mark.parametrize("words", [("--parts", "2"), ("--page", "p. 1")])
def test_an_adapter_without_parts_refuses_a_choice_before_its_base_is_looked_for(
    words: tuple[str, ...], command: Command, compiled: Compile
) -> None:
    adapter = compiled("llama").adapter
    refused = command("ask", adapter, "How?", *words, "--base", "no/such-base", "--offline")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.splitlines() == [
        f"error: {adapter}: has no parts",
        "hint: compile the document with --parts, or ask the whole adapter",
    ]
    both = command("ask", adapter, "How?", *words, "--whole")
    assert both.err.startswith("error: --whole asks no part\n")


def test_without_its_parts_an_adapter_answers_as_a_whole(command: Command, copy: Compiled) -> None:
    whole = ask(command, copy, QUESTIONS[0], "--whole")
    (copy.adapter / "parts.json").unlink()
    outcome = ask(command, copy, QUESTIONS[0])
    assert (outcome.code, outcome.out) == (0, whole.out)
    assert "its parts are gone" in outcome.err
    checked = command("check", copy.adapter, "--runtime", "peft", "--base", copy.base, "--offline")
    assert checked.code == 0
    assert "note: its parts were deleted" in checked.out
    assert "parts      none any more" in command("inspect", copy.adapter).out


def test_damaged_parts_are_refused_by_ask_and_check_and_the_rest_still_answers(
    command: Command, copy: Compiled
) -> None:
    values = copy.adapter / VALUES
    tensors = load_file(values)
    check = ("check", copy.adapter, "--runtime", "peft", "--base", copy.base, "--offline")
    assert command(*check).code == 0

    def expect_fault(fault: str) -> None:
        checked = command(*check)
        assert (checked.code, fault in checked.out) == (1, True), checked.out
        assert ask(command, copy, QUESTIONS[0], "--whole").code == 0

    save_file(tensors | {"0.keys_scales": tensors["0.keys_scales"] * 2}, values)
    expect_fault(f"wrong: {values}: part 0 was changed, or belongs to another adapter")
    short = {n: t if n.endswith("scales") else t[:, :1].contiguous() for n, t in tensors.items()}
    save_file(short, values)
    expect_fault(f"wrong: {values}: 0.keys is I8 of [2, 1, 16], expected I8 of [2, ")
    values.write_bytes(values.read_bytes()[:-1])
    expect_fault(f"wrong: {values}: cut short")
    assert ask(command, copy, QUESTIONS[0]).err.startswith(f"error: {values}: cut short")
    values.unlink()
    expect_fault(f"wrong: {values}: is missing")


def test_parts_are_counted(command: Command, kept: Compiled, tmp_path: Path) -> None:
    n_parts = len(kept.plan.chunks)
    files = [kept.adapter / "parts.json", kept.adapter / VALUES]
    size = sum(path.stat().st_size for path in files)
    values = json.loads(command("inspect", kept.adapter, "--json").out)
    assert (values["n_parts"], values["parts_bytes"]) == (n_parts, size)
    row = f"parts      {n_parts}, {size / 1e6:.2f} MB\n"
    assert row in command("inspect", kept.adapter).out
    names, _, cells = (
        re.split(" {2,}", line) for line in command("ls", kept.adapter).out.splitlines()
    )
    assert dict(zip(names, cells, strict=True))["parts"] == str(n_parts)
    left = tmp_path / "left.lora"
    network = ("--checkpoint", kept.checkpoint, "--base", kept.base, "--offline")
    edited = command("edit", kept.adapter, "--drop", "p. 2", "-o", left, *network, "--json")
    dropped = json.loads(edited.out)["n_left_out"]
    assert json.loads(command("inspect", left, "--json").out)["n_parts"] == n_parts - dropped


def test_a_compilation_says_what_parts_it_keeps(
    command: Command, kept: Compiled, tmp_path: Path
) -> None:
    text = "The pump stands in the harbor. " * 12
    (tmp_path / "long.txt").write_text(text)
    fixed = ("--checkpoint", kept.checkpoint, "--base", kept.base, "--offline", "--device", "cpu")
    words = ("compile", tmp_path / "long.txt", "-o", tmp_path / "long.lora", *fixed)
    planned = command(*words, "--dry-run")
    assert planned.err == ""  # no word of a document that is too long
    values = json.loads(command(*words, "--dry-run", "--json").out)
    made = command(*words)
    n_bytes = sum(tensor.nbytes for tensor in load_file(tmp_path / "long.lora" / VALUES).values())
    assert (values["n_parts"], values["parts_bytes"]) == (values["n_chunks"], n_bytes)
    held = kept.plan.cut.held_by_one
    tokens = f"{values['n_tokens']} in {values['n_parts']} parts; one memory of all holds about"
    assert (
        f"tokens      {tokens} {held}\nuse         d2l ask and d2l serve choose parts" in made.out
    )
    assert f"parts {n_bytes / 1e3:.1f} kB\n" in planned.out
    assert " kB, parts " in made.out
    card = (tmp_path / "long.lora" / "README.md").read_text("utf-8")
    assert "`d2l export --to parts` gives the parts to other engines" in card
    whole = command(*words, "--no-parts", "--dry-run", "--json")
    assert json.loads(whole.out)["n_parts"] == 0
    assert "expect few of its facts to come back" in whole.err
    llama = compile_tiny(tmp_path, "llama", parts=True)
    assert llama.plan.parts_bytes == 0  # parts are ranks of the weights
    assert "parts" in command("ls", llama.adapter).out
