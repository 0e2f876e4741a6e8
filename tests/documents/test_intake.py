import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from d2l.documents.intake import Intake, ReadOptions, read_inputs, take_inputs
from d2l.documents.sandbox import ReadLimits
from d2l.errors import DocumentError
from tests.compiled import make_document
from tests.documents.samples import make_pdf, pdf_page

SKIP = ReadOptions(skip_bad=True)


def write(folder: Path, **texts: str | bytes) -> None:
    for name, text in texts.items():
        suffix = "pdf" if name.startswith("bad") else "txt"
        data = text if isinstance(text, bytes) else text.encode()
        (folder / f"{name}.{suffix}").write_bytes(data)


def names(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


def test_inputs_are_read_in_the_order_given_and_folders_by_path(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path, z="last letter first")
    write(tmp_path / "folder", b="two", a="one")
    (tmp_path / "folder" / "photo.png").write_bytes(b"\x89PNG")
    intake = read_inputs(names([tmp_path / "z.txt", tmp_path / "folder"]), ReadOptions())
    assert [document.text for document in intake.documents] == ["last letter first", "one", "two"]
    assert [document.name for document in intake.documents] == names(
        [tmp_path / "z.txt", tmp_path / "folder" / "a.txt", tmp_path / "folder" / "b.txt"]
    )
    assert intake.documents[0].digest == hashlib.sha256(b"last letter first").hexdigest()
    assert (intake.skipped, intake.ignored) == ((), (str(tmp_path / "folder" / "photo.png"),))


def test_one_bad_input_fails_the_run(tmp_path: Path) -> None:
    write(tmp_path, a="one", bad=b"%PDF-1.4 nothing else")
    with pytest.raises(DocumentError, match=r"bad\.pdf: ") as caught:
        read_inputs([str(tmp_path)], ReadOptions())
    assert caught.value.hint


def test_bad_inputs_are_skipped_and_listed_with_their_reasons(tmp_path: Path) -> None:
    write(tmp_path, a="one", empty="", blank=" \n\t", z="two", bad=b"%PDF-1.4 nothing else")
    intake = read_inputs([str(tmp_path)], SKIP)
    assert [document.text for document in intake.documents] == ["one", "two"]
    listed = dict(intake.skipped)
    assert list(listed) == names([tmp_path / f for f in ("bad.pdf", "blank.txt", "empty.txt")])
    for name in ("blank.txt", "empty.txt"):
        reason = "empty but for white space" if name == "blank.txt" else "empty"
        assert listed[str(tmp_path / name)] == f"{tmp_path / name}: the file is {reason}"
    assert listed[str(tmp_path / "bad.pdf")].startswith(f"{tmp_path / 'bad.pdf'}: ")
    assert "\n" not in "".join(listed.values())


def test_if_all_inputs_are_bad_the_first_reason_is_told(tmp_path: Path) -> None:
    write(tmp_path, a="", b="", c="")
    with pytest.raises(DocumentError) as caught:
        read_inputs([str(tmp_path)], SKIP)
    reason = f"{tmp_path / 'a.txt'}: the file is empty"
    assert caught.value.message == (f"none of 3 inputs could be read, the first because: {reason}")
    assert caught.value.hint == "run without --skip-bad to see what to do about the first"


def test_no_input_at_all_is_refused() -> None:
    for options in (ReadOptions(), SKIP):
        with pytest.raises(DocumentError) as caught:
            read_inputs([], options)
        assert caught.value.message == "no input was named"
        assert caught.value.hint == "name files, folders, or - for stdin"


@pytest.mark.parametrize("inputs", [b"bytes", 3, None, [b"bytes"], ["a.txt", 3]])
def test_what_is_no_input_is_a_type_error_that_says_what_is(inputs: Any) -> None:
    with pytest.raises(TypeError, match="cannot be compiled: give a path, a Document, or several"):
        take_inputs(inputs, ReadOptions())


def test_limits_and_encoding_reach_the_readers(tmp_path: Path) -> None:
    write(tmp_path, a="café".encode("latin-1"), long="x" * 101)
    options = ReadOptions(encoding="latin-1")
    (document,) = read_inputs([str(tmp_path / "a.txt")], options).documents
    assert document.text == "café"
    options = ReadOptions(skip_bad=True, limits=ReadLimits(max_bytes=100))
    intake = read_inputs([str(tmp_path)], options)
    assert intake.skipped == (
        (str(tmp_path / "long.txt"), f"{tmp_path / 'long.txt'}: larger than 100 bytes"),
    )


def test_format_reaches_the_readers(tmp_path: Path) -> None:
    write(tmp_path, a="# Title\n\ntext")
    (document,) = read_inputs([str(tmp_path / "a.txt")], ReadOptions(format="markdown")).documents
    assert document.format == "markdown"


def test_an_interrupt_is_not_taken_for_a_bad_input(tmp_path: Path) -> None:
    """Progress that raises stands in for Ctrl-C while a parser works."""

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt(done, total)

    (tmp_path / "a.pdf").write_bytes(make_pdf([pdf_page(["text"])] * 3))
    with pytest.raises(KeyboardInterrupt):
        read_inputs([str(tmp_path)], SKIP, interrupt)


def test_a_limit_of_nothing_is_refused_by_its_option() -> None:
    with pytest.raises(DocumentError) as caught:
        ReadLimits(max_chars=0)
    assert caught.value.message == "--max-chars 0: not above 0"


def test_what_was_read_tells_notes_skipped_and_ignored_inputs_in_this_order() -> None:
    noted = replace(make_document("a.pdf"), notes=("2 of 3 pages have no text", "one more"))
    noted = replace(noted, remarks=("is a DOCX document",))
    skipped = (("b.pdf", "b.pdf: the file is empty"), ("c.pdf", "no permission"))
    intake = Intake((noted, make_document("d.pdf")), skipped, ("e.png", "f.exe"))
    assert intake.warnings == [
        "a.pdf: 2 of 3 pages have no text",
        "a.pdf: one more",
        "skipped b.pdf: the file is empty",
        "skipped c.pdf: no permission",
    ]
    assert intake.remarks == [
        "a.pdf: is a DOCX document",
        "passed over 2 files of other kinds: e.png, f.exe",
    ]


def test_many_ignored_files_are_counted_and_three_are_named() -> None:
    intake = Intake((make_document(),), (), ("a.x", "b.x", "c.x", "d.x"))
    assert intake.remarks == ["passed over 4 files of other kinds: a.x, b.x, c.x, …"]
    assert Intake((make_document(),)).remarks == []
