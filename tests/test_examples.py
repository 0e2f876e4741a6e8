"""Every file in examples/ is a short script that runs, or data that a script reads."""

import json
from pathlib import Path

import pytest
from pypdf import PdfReader

from d2l.bases.models import BaseFiles
from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.evaluation.metrics import contains_answer
from tests.processes import run_python
from tests.tools.make_manual import write_manual

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def run_script(name: str, *arguments: str, folder: Path) -> str:
    """What a script prints on standard output; it must succeed."""
    done = run_python(EXAMPLES / name, *arguments, "--tiny", folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_demo_asks_with_and_without_and_counts(tmp_path: Path, qwen_files: BaseFiles) -> None:
    assert qwen_files  # only asks for the base
    printed = run_script("demo.py", folder=tmp_path)
    rows = [json.loads(line) for line in read_lines("handbook_questions.jsonl")][:2]
    for row in rows:
        assert row["answers"][0] in printed
    right = printed.splitlines()[-1].split()
    assert right[0] == "right:"
    assert right[2:4] == ["of", "2"]
    marked = printed.count("✓")
    assert int(right[1]) + int(right[7]) == marked
    assert (tmp_path / "demo" / "handbook.lora" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_the_api_session_runs_as_it_stands(tmp_path: Path, smollm2_files: BaseFiles) -> None:
    assert smollm2_files  # only asks for the base
    lines = run_script("api.py", folder=tmp_path).splitlines()
    assert lines[0].endswith("MB")
    assert lines[1].startswith("PeftModelForCausalLM default Adapter('note.lora', base='Hugging")
    assert lines[2].startswith("asked: ")
    assert "1921" in lines[2]
    assert lines[3].startswith("llama-server ")
    assert any(line.startswith("merged: Adapter('merged.lora', ") for line in lines)
    assert any(line.startswith("vllm (") for line in lines)
    assert any(line.startswith("adapter: ") and "1921" in line for line in lines)
    written = {path.name for path in (tmp_path / "api").iterdir()}
    assert written == {"manual.gguf", "manual.lora", "note.lora", "ticket.lora"}


def test_handbook_is_what_its_script_makes(tmp_path: Path) -> None:
    """Compared as text: another version of the PDF library may write other bytes."""
    run_script("make_handbook.py", str(tmp_path / "first_page.pdf"), folder=tmp_path)
    first = read_document(Source("first", tmp_path / "first_page.pdf"))
    committed = read_document(Source("handbook", EXAMPLES / "handbook.pdf"))
    content = json.loads((EXAMPLES / "handbook.json").read_text("utf-8"))
    assert len(first.sections) == 1
    assert len(committed.sections) == 2
    # On a single page nothing tells the footer from the text.
    paragraphs = [p for p in first.text.split("\n\n") if content["footer"] not in p]
    assert committed.sections[0].text.startswith("\n\n".join(paragraphs))
    for section in content["sections"]:
        for text in (section["heading"], *section.get("text", ())):
            assert " ".join(text.split()) in " ".join(committed.text.split())
        heads, *rows = section.get("table", [[]])
        assert " | ".join(heads) in committed.text
        for row in rows:
            named = (f"{head}: {cell}" for head, cell in zip(heads, row, strict=True))
            assert " | ".join(named) in committed.text
    assert content["footer"] not in committed.text  # it repeats on every page


def test_every_answer_stands_in_the_handbook() -> None:
    text = read_document(Source("handbook", EXAMPLES / "handbook.pdf")).text
    rows = [json.loads(line) for line in read_lines("handbook_questions.jsonl")]
    assert len(rows) == 10
    for row in rows:
        assert any(answer.removeprefix("the ") in text for answer in row["answers"]), row


def test_manual_is_what_its_source_makes(tmp_path: Path) -> None:
    """Compared as text: another version of the PDF library may write other bytes."""
    write_manual(tmp_path / "manual.pdf")
    places = (tmp_path, EXAMPLES)
    made, committed = (read_document(Source("manual", place / "manual.pdf")) for place in places)
    assert committed.sections == made.sections
    assert {finding.kind for finding in committed.findings} == {"furniture"}


def test_manual_has_a_bookmark_for_every_heading() -> None:
    """Chapters on the first level, sections below theirs."""
    bookmarks: list[str] = []
    for entry in PdfReader(EXAMPLES / "manual.pdf").outline:
        if isinstance(entry, list):
            bookmarks += [f"### {section.title}" for section in entry]
        else:
            bookmarks.append(f"## {entry.title}")
    assert bookmarks == [line for line in read_lines("manual.txt") if line.startswith("##")]


def test_every_answer_stands_on_its_page_of_the_manual() -> None:
    pages = read_document(Source("manual", EXAMPLES / "manual.pdf")).sections
    rows = [json.loads(line) for line in read_lines("manual_questions.jsonl")]
    assert len(rows) == 10
    for row in rows:
        text = " ".join(section.text for section in pages if section.page == row["page"])
        assert contains_answer(text, row["answers"][:1]), row


def read_lines(name: str) -> list[str]:
    return (EXAMPLES / name).read_text("utf-8").splitlines()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_short_and_can_run_small(script: Path) -> None:
    text = script.read_text("utf-8")
    assert len(text.splitlines()) <= 41
    assert "--tiny" in text


def test_all_scripts_are_run_by_a_test_above() -> None:
    assert [path.name for path in SCRIPTS] == ["api.py", "demo.py", "make_handbook.py"]
