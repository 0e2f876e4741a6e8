"""examples/recipes/write_questions.py: questions about plain documents, as a file to train on."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from d2l.datasets.questions import read_documents
from d2l.refining.question_writer import AboutText

SCRIPT = Path(__file__).parents[1] / "examples" / "recipes" / "write_questions.py"
TEXTS = [f"The mill number {n} was built in 18{n}0." for n in range(1, 6)]
SILENT = TEXTS[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with a writer that asks when a mill was built, of all texts but one."""
    spec = importlib.util.spec_from_file_location("write_questions", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def write_about(_causal: object, _tokenizer: object, _base: object, texts: list[str]) -> object:
        (text,) = texts
        start = text.index("18")
        asked = AboutText(0, start, start + 4, "When was it built?", text[start : start + 4])
        return [] if text == SILENT else [asked]

    monkeypatch.setattr(module, "find_base", lambda *_, **__: SimpleNamespace(folder=None))
    monkeypatch.setattr(module, "load_causal", lambda *_, **__: None)
    monkeypatch.setattr(module, "load_tokenizer", lambda _: None)
    monkeypatch.setattr(module, "write_about", write_about)
    return module


def write(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, out: str, *options: str
) -> list[str]:
    """Run the script; texts in the order that they were asked about in."""
    docs, target = folder / "docs.jsonl", folder / out
    docs.write_text("".join(json.dumps({"doc": text, "title": "Mills"}) + "\n" for text in TEXTS))
    monkeypatch.setattr("sys.argv", [str(SCRIPT), str(docs), str(target), *options])
    script.main()
    return [json.loads(line)["doc"] for line in target.read_text().splitlines()]


def test_what_it_writes_can_be_trained_on(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(script, monkeypatch, tmp_path, "qa.jsonl")
    found = {one.text: one for one in read_documents(tmp_path / "qa.jsonl")}
    assert found.keys() == set(TEXTS)
    assert found[TEXTS[0]].questions == (("When was it built?", "1810"),)
    assert found[TEXTS[0]].title == "Mills"
    assert found[SILENT].questions == ()


def test_it_goes_on_where_a_kill_has_cut_it_off(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = write(script, monkeypatch, tmp_path, "qa.jsonl")
    lines = (tmp_path / "qa.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_text("".join(lines[:2]) + lines[2][:20])
    assert write(script, monkeypatch, tmp_path, "cut.jsonl") == whole
    assert write(script, monkeypatch, tmp_path, "cut.jsonl") == whole  # and nothing is asked twice


def test_parts_are_the_whole(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = ("--limit", "4")
    whole = write(script, monkeypatch, tmp_path, "qa.jsonl", *options)
    parts = [
        write(script, monkeypatch, tmp_path, f"{part}.jsonl", *options, "--part", f"{part}/3")
        for part in (1, 2, 3)
    ]
    assert len(whole) == 4
    assert [one[0] for one in parts] == whole[:3]
    assert sorted(text for part in parts for text in part) == sorted(whole)
