import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from d2l.adapters.info import AdapterInfo, read_info
from d2l.compiler.originals import read_originals
from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.errors import AdapterError, D2LError
from d2l.files.known_paths import remember
from tests import tiny
from tests.compiled import Compiled, compile_tiny
from tests.documents.samples import make_pdf, pdf_page

pytestmark = pytest.mark.usefixtures("one_thread", "cache")

FIRST, SECOND = "The filter is rinsed every 14 days.", "The pump stands in the harbor."


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Compiled from two files, a PDF of two pages and a text, that lie beside the adapter."""
    root = tmp_path_factory.mktemp("originals")
    (root / "a.pdf").write_bytes(make_pdf([pdf_page([FIRST]), pdf_page([SECOND])]))
    (root / "b.txt").write_text(tiny.DOCUMENT, "utf-8")
    paths = [root / "a.pdf", root / "b.txt"]
    documents = [read_document(Source(str(path), path)) for path in paths]
    return compile_tiny(root, "seats", *documents, keep_paths=True)


@pytest.fixture
def info(done: Compiled, tmp_path: Path) -> AdapterInfo:
    """A copy of the adapter whose provenance names copies of its documents."""
    adapter = shutil.copytree(done.adapter, tmp_path / "copy.lora")
    record = (adapter / "d2l.json").read_text("utf-8")
    (adapter / "d2l.json").write_text(record.replace(str(done.root), str(tmp_path)), "utf-8")
    for name in ("a.pdf", "b.txt"):
        shutil.copy(done.root / name, tmp_path / name)
    return read_info(adapter)


def change_record(info: AdapterInfo, change: Callable[[dict], None]) -> AdapterInfo:
    path = info.folder / "d2l.json"
    record = json.loads(path.read_text("utf-8"))
    change(record)
    path.write_text(json.dumps(record), "utf-8")
    return read_info(info.folder)


def refuse(info: AdapterInfo, given: str | None = None) -> D2LError:
    with pytest.raises(D2LError) as caught:
        read_originals(info, given)
    return caught.value


def test_documents_come_back(info: AdapterInfo, tmp_path: Path) -> None:
    found = read_originals(info)
    assert [one.name for one in found.documents] == [f"{tmp_path}/a.pdf", f"{tmp_path}/b.txt"]
    assert found.remarks == ()
    assert " ".join(found.text.split()) == f"{FIRST} {SECOND} {tiny.DOCUMENT}"


def test_a_document_that_is_gone_is_one_clear_line(info: AdapterInfo, tmp_path: Path) -> None:
    (tmp_path / "b.txt").unlink()
    error = refuse(info)
    said = f"its document cannot be read again ({tmp_path}/b.txt: no such file or folder)"
    assert error.message == f"{info.folder}: {said}"
    assert error.hint == "name the document, or a copy of it, with --document FILE"


def test_the_same_text_elsewhere_may_have_changed(info: AdapterInfo, tmp_path: Path) -> None:
    twin = tmp_path / "twin.txt"
    shutil.copy(tmp_path / "b.txt", twin)
    remember({hashlib.sha256(twin.read_bytes()).hexdigest(): twin})
    twin.write_text("Another text.", "utf-8")
    found = read_originals(info)
    assert [one.name for one in found.documents] == [f"{tmp_path}/a.pdf", f"{tmp_path}/b.txt"]


def test_a_document_that_changed_is_one_clear_line(info: AdapterInfo, tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text(tiny.DOCUMENT + " ", "utf-8")
    error = refuse(info)
    path = tmp_path / "b.txt"
    assert error.message == f"{path}: has changed since {info.folder} was compiled from it"
    assert error.hint is not None
    assert "--document FILE" in error.hint


def test_a_pipe_in_the_documents_place_is_not_opened(info: AdapterInfo) -> None:
    """It would be waited for, without end."""
    assert info.provenance is not None
    path = Path(info.provenance.inputs[0].name)
    path.unlink()
    os.mkfifo(path)
    assert "has changed since" in refuse(info).message


def test_what_came_from_standard_input_is_not_kept(info: AdapterInfo) -> None:
    changed = change_record(info, lambda record: record["inputs"][0].update(name="-"))
    assert refuse(changed).message.endswith(": was compiled from standard input, which is not kept")


def test_an_adapter_of_another_tool_does_not_know_its_document(
    info: AdapterInfo, tmp_path: Path
) -> None:
    without = change_record(info, lambda record: record.update(inputs=[]))
    (info.folder / "d2l.json").unlink()
    foreign = read_info(info.folder)
    for unknown in (without, foreign):
        error = refuse(unknown)
        assert isinstance(error, AdapterError)
        assert error.message == f"{info.folder}: does not say what it was compiled from"
    assert read_originals(foreign, f"{tmp_path}/b.txt").text == tiny.DOCUMENT


def test_a_copy_of_a_document_is_known_by_its_bytes(info: AdapterInfo, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.txt"
    (tmp_path / "b.txt").rename(moved)
    found = read_originals(info, str(moved))
    assert [one.name for one in found.documents] == [f"{tmp_path}/b.txt"]
    assert found.remarks == ()


def test_another_document_is_taken_with_a_remark(info: AdapterInfo, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("Something else.", "utf-8")
    found = read_originals(info, f"{tmp_path}/c.txt")
    assert found.remarks == (
        f"{tmp_path}/c.txt is not byte for byte what {info.folder} was compiled from: what "
        "differs counts as forgotten",
    )
    assert found.text == "Something else."


def test_a_file_that_was_given_twice_is_one_document(info: AdapterInfo) -> None:
    changed = change_record(info, lambda record: record["inputs"].append(record["inputs"][0]))
    assert len(read_originals(changed).documents) == 2


def test_hidden_text_that_was_compiled_is_read_again(info: AdapterInfo, tmp_path: Path) -> None:
    hidden = f"1 g BT /F1 10 Tf 72 300 Td ({SECOND}) Tj ET"
    data = make_pdf([f"{pdf_page([FIRST])} {hidden}"])
    (tmp_path / "a.pdf").write_bytes(data)

    def change(record: dict) -> None:
        record["inputs"] = record["inputs"][:1]
        digest = hashlib.sha256(data).hexdigest()
        known = {"sha256": digest, "size_bytes": len(data), "include_hidden": True}
        record["inputs"][0] |= known

    changed = change_record(info, change)
    for given in (None, f"{tmp_path}/a.pdf"):
        (document,) = read_originals(changed, given).documents
        assert SECOND in document.text


@pytest.mark.parametrize("name", ["x" * 5000, "\ud800"])
def test_a_name_no_file_can_have_is_not_there(info: AdapterInfo, tmp_path: Path, name: str) -> None:
    def rename(record: dict) -> None:
        record["inputs"][1]["name"] = name

    odd = change_record(info, rename)
    assert odd.provenance is not None
    remember({str(odd.provenance.inputs[1].sha256): tmp_path / "b.txt"})
    assert read_originals(odd, None).documents[1].text == tiny.DOCUMENT
    (tmp_path / "b.txt").unlink()
    with pytest.raises(D2LError):
        read_originals(odd, None)
