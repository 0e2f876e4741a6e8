import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from d2l.documents.sandbox import ReadLimits, explain
from d2l.errors import D2LError, DocumentError
from d2l.files.child import explain_death
from d2l.readers.parsing import ParseRequest
from tests.documents.samples import (
    make_bomb_page,
    make_docx,
    make_epub,
    make_pdf,
    make_zip,
    pdf_page,
    read_bytes,
)
from tests.processes import list_imported, run_python

PDF = make_pdf([pdf_page(["A line."])] * 3)
SLOW = make_pdf([pdf_page([f"Line {n} of a page." for n in range(50)])] * 400)


def children() -> set[str]:
    """Process ids below this one, zombies included."""
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return set(listed.read_text().split()) if listed.exists() else set()


def test_parser_that_takes_too_long_is_killed() -> None:
    before, start = children(), time.monotonic()
    with pytest.raises(DocumentError) as caught:
        read_bytes(SLOW, "slow.pdf", limits=ReadLimits(parse_seconds=0.6))
    assert caught.value.message == "slow.pdf: parser took more than 0.6 seconds"
    assert caught.value.hint == "raise the limit with --parse-seconds if you trust the file"
    assert time.monotonic() - start < 5
    assert children() == before


def test_interrupt_leaves_no_child_behind() -> None:
    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    before = children()
    with pytest.raises(KeyboardInterrupt):
        read_bytes(SLOW, "slow.pdf", on_progress=interrupt)
    assert children() == before


def test_parser_that_uses_too_much_memory_is_refused() -> None:
    with pytest.raises(DocumentError) as caught:
        read_bytes(SLOW, "a.pdf", limits=ReadLimits(parse_memory=1))
    assert caught.value.message == "a.pdf: parser used more than 1 MB of memory"
    assert caught.value.hint == "raise the limit with --parse-memory if you trust the file"


def test_pdf_stream_that_unpacks_to_gigabytes_is_refused() -> None:
    bomb = make_pdf([make_bomb_page(300_000_000)])
    with pytest.raises(DocumentError, match=r"^bomb\.pdf: .*(memory|limit|Limit)"):
        read_bytes(bomb, "bomb.pdf", limits=ReadLimits(parse_seconds=30))


@pytest.mark.parametrize(
    ("name", "member"), [("a.docx", "word/document.xml"), ("a.epub", "META-INF/container.xml")]
)
def test_archive_that_unpacks_to_too_much_is_refused(name: str, member: str) -> None:
    bomb = make_zip({member: b" " * 50_000_000})
    with pytest.raises(DocumentError) as caught:
        read_bytes(bomb, name, limits=ReadLimits(parse_memory=60))
    assert caught.value.message == f"{name}: unpacks to 50,000,000 bytes, more than 30,000,000"


def test_xml_entities_are_not_expanded() -> None:
    opf = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
        f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>" for n in range(9)
    )
    opf += "]><package><manifest>&j;</manifest></package>"
    with pytest.raises(DocumentError, match=r"^a\.epub: (no text|damaged)"):
        read_bytes(
            make_epub({"OEBPS/book.opf": opf}), "a.epub", limits=ReadLimits(parse_seconds=20)
        )


def test_crash_of_the_parser_is_told_with_its_signal() -> None:
    request, limits = ParseRequest("a.pdf", b""), ReadLimits()
    error = explain(explain_death(-11, b"d2l worker ready\n"), request, limits)
    assert error.message == ("a.pdf: damaged or not a valid document (the parser crashed: SIGSEGV)")


def test_worker_that_cannot_start_is_a_bug_and_not_the_documents_fault() -> None:
    with pytest.raises(RuntimeError, match="did not start: no module"):
        explain_death(1, b"no module")


def test_progress_counts_pages() -> None:
    seen: list[tuple[int, int]] = []
    read_bytes(PDF, "a.pdf", on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_reading_works_from_any_folder_and_never_imports_from_it(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the working folder')")
    (tmp_path / "a.docx").write_bytes(make_docx())
    code = (
        "import sys; from d2l.documents.inputs import expand_inputs as e;"
        "from d2l.documents.read import read_document as r;"
        "print(r(e(['a.docx']).sources[0]).format, 'torch' in sys.modules)"
    )
    assert run_python("-P", "-c", code, folder=tmp_path).stdout == "docx False\n"


@pytest.mark.parametrize("name", ["a.md", "a.txt"])
def test_long_texts_are_parsed_within_the_limits_too(name: str) -> None:
    text = ("# A heading\n\nA sentence under it.\n\n" * 100_000).encode()
    with pytest.raises(DocumentError) as caught:
        read_bytes(text, name, limits=ReadLimits(parse_seconds=0.05))
    assert caught.value.message == f"{name}: parser took more than 0.05 seconds"


def test_a_note_starts_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr("d2l.documents.read.run_in_child", refuse)
    assert read_bytes(b"Ten words.", "a.txt").text == "Ten words."


def test_a_note_loads_no_libraries_for_markup() -> None:
    code = (
        "from d2l.documents.document import Source\n"
        "from d2l.documents.read import read_document\n"
        "read_document(Source('a', data=b'The pump weighs 21 kg, and its key is brass.'))"
    )
    assert not list_imported(code, "requests", "lxml", "tinycss2")


def test_no_folder_for_temporary_files_is_needed_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    if sys.platform == "linux":
        assert "A line." in read_bytes(PDF, "a.pdf").text


@pytest.mark.parametrize("where", ["/nowhere/at/all", "/dev/full"])
def test_temporary_files_that_cannot_be_written_are_one_line(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another system's name stands for it: there, such files lie in a folder."""
    monkeypatch.setattr("d2l.files.child.sys.platform", "darwin")
    if where == "/dev/full":
        monkeypatch.setattr("tempfile.TemporaryFile", lambda: open(where, "wb"))  # noqa: SIM115
        reason = "No space left on device"
    else:
        monkeypatch.setattr("tempfile.tempdir", where)
        reason = "No such file or directory"
    with pytest.raises(D2LError) as caught:
        read_bytes(PDF, "a.pdf")
    assert caught.value.message == f"temporary files cannot be written ({reason})"
    assert caught.value.hint == "free some space, or name another folder for them in TMPDIR"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_parser_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """The work says nothing: what speaks would end of itself, where nobody listens."""
    (tmp_path / "quiet.py").write_text(
        "import time\nfrom d2l.files.child_side import serve\n"
        "def main(): serve(lambda *_: time.sleep(300) or {})\n"
    )
    code = (
        "from d2l.files.child import Limits, ask_child; "
        "ask_child('quiet', {}, Limits(300, 10**10, 1000))"
    )
    places = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": places})
    listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    deadline = time.monotonic() + 60
    while not (started := listed.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.02)
    (child,) = map(int, started)
    ready = Path(f"/proc/{child}/fd/2")
    while b"ready" not in ready.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)  # the line is said just before
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            break  # dead, and the reaper of this machine is slow
        time.sleep(0.02)
    else:
        assert not Path(f"/proc/{child}").exists()
    assert time.monotonic() < deadline


def test_standard_input_that_is_closed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from d2l.documents.document import Source
    from d2l.documents.read import read_document

    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DocumentError, match=r"^-: standard input is closed$"):
        read_document(Source("-"))
