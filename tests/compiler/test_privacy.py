import json
from dataclasses import replace
from pathlib import Path

import pytest

from d2l.adapters.info import read_info
from d2l.adapters.provenance import Provenance
from d2l.api import functions
from d2l.api.compiler import Compiler
from d2l.compiler.originals import read_originals
from d2l.compiler.privacy import name_documents, redact, redact_provenance
from d2l.documents.document import Document
from d2l.documents.intake import ReadOptions, read_inputs
from d2l.hypernets.options import CompileOptions
from d2l.readers.parsing import Section
from tests import tiny
from tests.compiled import write_files
from tests.records import MINIMAL


def make_document(name: str, shared: str) -> Document:
    return Document(name, "text", (Section("x"),), "0" * 64, 1, shared=shared)


def test_documents_of_one_name_are_told_apart() -> None:
    names = name_documents(
        [
            make_document("/home/me/a/x.txt", "x.txt"),
            make_document("/home/me/b/x.txt", "x.txt"),
            make_document("c/x.txt", "x.txt"),
            make_document("-", ""),
        ],
        ["/home/me/bad.pdf"],
    )
    assert list(names.values()) == ["x.txt", "x (2).txt", "x (3).txt", "-", "bad.pdf"]


def test_a_word_that_is_a_name_stays_what_else_it_is() -> None:
    documents = [make_document("docs/text", "text"), make_document("text", "text")]
    names = name_documents([*documents, Document.from_text("x"), Document.from_text("y")])
    assert names == {"docs/text": "text (2)", "text": "text"}
    assert redact("docs/text is text", names) == "text (2) is text"
    made = Document.from_text("x", name="http://host//a")
    assert name_documents([made]) == {"http://host//a": "http://host//a"}


@pytest.mark.parametrize(
    ("names", "text", "shown"),
    [
        # What was put in is not replaced again, and the longest name goes first.
        ({"a/b/c.txt": "b/c.txt", "b/c.txt": "c.txt"}, "a/b/c.txt, b/c.txt", "b/c.txt, c.txt"),
        ({"/a": "a", "/a/b.txt": "b.txt"}, "/a/b.txt: none; --base /a", "b.txt: none; --base a"),
    ],
)
def test_names_are_replaced_once(names: dict[str, str], text: str, shown: str) -> None:
    assert redact(text, names) == shown


def test_every_text_of_a_provenance_is_looked_at() -> None:
    made = Provenance.from_json(
        MINIMAL
        | {
            "skipped": [{"name": "/h/a.pdf", "reason": "/h/a.pdf: no text"}],
            "warnings": ["compile it: d2l compile --base /h/base"],
        },
        source="test",
    )
    shared = redact_provenance(made, {"/h/a.pdf": "a.pdf", "/h/base": "base"})
    assert "/h" not in json.dumps(shared.to_json())
    assert shared.skipped[0].reason == "a.pdf: no text"
    assert redact_provenance(made, {}) is made


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of documents whose path is nobody's business."""
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "secret" / "papers"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text(tiny.DOCUMENT, "utf-8")
    (folder / "sub" / "b.txt").write_text("The tower has 96 steps.", "utf-8")
    return folder


def compile_papers(secret: Path, out: Path, **changes: bool) -> Path:
    base, checkpoint = write_files(secret.parent, "seats")
    options = CompileOptions(
        checkpoint=str(checkpoint), base=str(base), device="cpu", offline=True, **changes
    )
    intake = read_inputs([str(secret)], ReadOptions())
    skipped = ((str(secret / "c.pdf"), f"{secret / 'c.pdf'}: no text"),)
    compiler = Compiler(options)
    return compiler(replace(intake, skipped=skipped)).save_pretrained(out)


def test_no_file_of_an_adapter_names_its_authors_folder(secret: Path, tmp_path: Path) -> None:
    adapter = compile_papers(secret, tmp_path / "a.lora")
    for path in adapter.iterdir():
        assert b"secret" not in path.read_bytes(), path.name
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    made = read_info(adapter).provenance
    assert made is not None
    assert [entry.name for entry in made.inputs] == ["a.txt", "sub/b.txt"]
    assert {chunk.document for chunk in made.chunks} == {"a.txt", "sub/b.txt"}
    assert made.checkpoint.name == "checkpoint"


def test_paths_stay_where_they_are_asked_for(secret: Path, tmp_path: Path) -> None:
    made = read_info(compile_papers(secret, tmp_path / "a.lora", keep_paths=True)).provenance
    assert made is not None
    assert [e.name for e in made.inputs] == [str(secret / "a.txt"), str(secret / "sub" / "b.txt")]


def test_on_this_machine_documents_and_checkpoint_are_found_all_the_same(
    secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = compile_papers(secret, tmp_path / "a.lora")
    monkeypatch.chdir("/")
    read = read_originals(read_info(adapter))
    assert [document.name for document in read.documents] == ["a.txt", "sub/b.txt"]
    base = str(secret.parent / tiny.base_name("llama"))
    merged = functions.merge([adapter], base=base, device="cpu", local_files_only=True)
    assert merged.provenance is not None
    assert merged.provenance.checkpoint.name == "checkpoint"
