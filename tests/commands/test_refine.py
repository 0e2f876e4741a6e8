"""`d2l refine` and `d2l compile --refine` as they are typed."""

import json
from pathlib import Path

import pytest

from d2l.documents.document import Source
from d2l.documents.read import read_document
from tests import tiny
from tests.command import Command
from tests.compiled import Compiled, compile_tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def done(working_folder: Path) -> Compiled:
    path = working_folder / "handbook.txt"
    path.write_text(tiny.DOCUMENT, "utf-8")
    return compile_tiny(working_folder, "seats", read_document(Source(str(path), path)))


def test_an_adapter_is_refined_on_its_document(done: Compiled, command: Command) -> None:
    where = ["--base", done.base, "--checkpoint", done.checkpoint, "--device", "cpu", "--offline"]
    given = [*where, "--document", done.root / "handbook.txt", "--refine-steps", 4]
    outcome = command("refine", done.adapter, "-o", "better.lora", *given)
    assert outcome.code == 0, outcome.err
    line = outcome.out.strip().splitlines()[-1]
    assert line.startswith("refined     4 steps; answers held out ")
    assert " nats, general prompts " in line
    as_json = command("refine", done.adapter, "-o", "two.lora", *given, "--json")
    assert json.loads(as_json.out)["refinement"]["steps"] == 4
    again = command("refine", done.adapter, "-o", "better.lora", *given)
    assert again.code == 1  # what stands there is not replaced


def test_a_plan_says_how_long_and_loads_nothing(done: Compiled, command: Command) -> None:
    document = done.root / "handbook.txt"
    outcome = command("refine", done.adapter, "-o", "x", "--document", document, "--dry-run")
    assert (outcome.code, outcome.out) == (0, "refining    2 m\n")
    where = ["--base", done.base, "--checkpoint", done.checkpoint, "--device", "cpu", "--offline"]
    where += ["--refine", "90s", "--no-parts"]
    plan = command("compile", document, "-o", "x", *where, "--dry-run")
    assert plan.out.splitlines()[-1] == "refining    1 m 30 s more, loading included"
    assert not Path("x").exists()


def test_what_is_no_time_is_one_line(done: Compiled, command: Command) -> None:
    outcome = command("refine", done.adapter, "-o", "x", "--refine", "soon")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.splitlines()[0] == "error: 'soon' is not a time"


def test_what_changes_nothing_is_said_at_once_and_not_written(
    done: Compiled, command: Command
) -> None:
    where = ["--base", done.base, "--checkpoint", done.checkpoint, "--device", "cpu", "--offline"]
    document = done.root / "handbook.txt"
    refined = command(
        "refine", done.adapter, "-o", "x", *where, "--document", document, "--refine", "0.001s"
    )
    error = f"Nothing changed: 0 s were too short for {len(tiny.DOCUMENT)} characters. "
    assert (refined.code, refined.out) == (1, "")
    assert refined.err.startswith(f"error: {error}Try --refine 1m")
    assert not Path("x").exists()
    where += ["--refine", "0.001s", "--no-parts"]
    compiled = command("compile", document, "-o", "y", *where, "-q")
    assert compiled.code == 0
    assert compiled.err.splitlines()[-1].startswith(f"warning: {error}")
    assert Path("y", "d2l.json").is_file()


def test_an_adapter_with_parts_is_refused_before_anything_is_read(
    done: Compiled, command: Command
) -> None:
    where = ["--base", done.base, "--checkpoint", done.checkpoint, "--device", "cpu", "--offline"]
    document = done.root / "handbook.txt"
    assert command("compile", document, "-o", "parts", *where, "--parts").code == 0
    for last in ((), ("--dry-run",)):
        refused = command("refine", "parts", "-o", "x", "--document", "none.txt", *last)
        assert refused.code == 1
        assert "parts: is asked by parts, and refining changes only the memory" in refused.err
    refused = command("compile", document, "-o", "x", *where, "--parts", "--refine", "1m")
    assert refused.code == 1
    assert not Path("x").exists()
