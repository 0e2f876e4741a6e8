"""One adapter for each document: what they are called, and what happens to bad ones."""

from pathlib import Path

import pytest

from d2l.api.compiler import Compiler
from d2l.batch.each import prepare_each
from d2l.compiler.names import name_adapters
from d2l.documents.document import Document
from d2l.documents.intake import Intake, ReadOptions
from d2l.errors import DocumentError
from d2l.readers.parsing import Section
from tests.compiled import write_files

pytestmark = pytest.mark.usefixtures("one_thread")


def make(name: str, text: str = "The pump stands in the harbor.") -> Document:
    return Document(name, "text", (Section(text),), "0" * 64, len(text))


@pytest.mark.parametrize(
    ("documents", "adapters"),
    [
        (["docs/manual.pdf", "faq.md", "-"], ["manual", "faq", "stdin"]),
        (["manual.pdf", "manual.md", "faq.md"], ["manual.pdf", "manual.md", "faq"]),
        (["a/manual.pdf", "b/manual.pdf"], ["a-manual.pdf", "b-manual.pdf"]),
        (["x/a/m.pdf", "y/a/m.pdf", "m.md"], ["x-a-m.pdf", "y-a-m.pdf", "m.md"]),
        (["Manual.pdf", "manual.pdf"], ["Manual.pdf", "manual.pdf-2"]),  # one on some file systems
        (["caf\u00e9.txt", "cafe\u0301.txt"], ["caf\u00e9.txt", "caf\u00e9.txt-2"]),
        (["../m.pdf", "/x/m.pdf"], ["m.pdf", "x-m.pdf"]),
        (["a b.txt", "tab\there.txt", "x:y?.txt"], ["a b", "tab_here", "x_y_"]),
        (["-o.txt", "--.txt", " .txt"], ["o", "document", "document-2"]),
        (["stdin.txt", "-"], ["stdin.txt", "stdin"]),
        (["a.pdf", "a.pdf-2.md", "A.pdf"], ["a.pdf", "a.pdf-2", "A.pdf-3"]),
        (["\u65e5\u672c.txt"], ["\u65e5\u672c"]),
        ([], []),
    ],
)
def test_names_come_from_the_documents_and_none_stands_twice(
    documents: list[str], adapters: list[str]
) -> None:
    found = name_adapters(documents)
    assert found == [f"{name}.lora" for name in adapters]
    assert len({name.casefold() for name in found}) == len(found)


def test_a_long_name_is_cut_to_its_end() -> None:
    (name,) = name_adapters(["x" * 300 + "y.txt"])
    assert name == "x" * 99 + "y.lora"


def test_a_document_that_cannot_be_compiled_fails_the_run_or_is_left_out(tmp_path: Path) -> None:
    base, checkpoint = write_files(tmp_path, "seats")
    compiler = Compiler.from_pretrained(
        str(checkpoint), base=str(base), device="cpu", local_files_only=True
    )
    documents = (make("a.txt"), make("nothing.txt", ""))
    with pytest.raises(DocumentError, match=r"nothing\.txt: "):
        prepare_each(Intake(documents), tmp_path / "all", compiler)
    skipping = ReadOptions(skip_bad=True)
    planned, skipped = prepare_each(Intake(documents, reading=skipping), tmp_path / "all", compiler)
    assert [out for _, out in planned] == [tmp_path / "all" / "a.lora"]
    assert [name for name, _ in skipped] == ["nothing.txt"]
    with pytest.raises(DocumentError, match="none of 1 documents can be compiled"):
        prepare_each(Intake(documents[1:], reading=skipping), tmp_path / "all", compiler)
