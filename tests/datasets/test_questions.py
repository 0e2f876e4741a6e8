import gzip
import json
import re
from pathlib import Path

import pytest

from d2l.datasets.questions import Question, read_documents, read_questions
from d2l.errors import ProbeError, RecipeError
from tests.recipes import ROWS, write_data

GOOD = {"question": "Where is the pump?", "answers": ["the harbor", "harbor"]}
HINT = "a row is a JSON object with question and answers, a list of texts ([]: no answer)"


@pytest.mark.parametrize("name", ["qa.jsonl", "qa.jsonl.gz"])
def test_rows_are_read_plain_or_gzip_and_other_keys_passed_over(name: str, tmp_path: Path) -> None:
    rows = [GOOD | {"id": 7}, {"question": " Why? ", "answers": [" rust "], "doc": "The text."}]
    text = "\ufeff" + "\n\n".join(map(json.dumps, rows)) + "\n"
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert read_questions(path) == [
        Question("Where is the pump?", ("the harbor", "harbor")),
        Question("Why?", ("rust",), "The text."),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("[1]", "expected an object, got list"),
        ('{"answers": ["x"]}', "'question' is missing"),
        ('{"question": "Why?"}', "'answers' is missing"),
        ('{"question": "Why?", "answers": null}', "answers is not a list of at least one text"),
        ('{"question": "Why?", "answers": "x"}', "answers is not a list of at least one text"),
        ('{"question": "Why?", "answers": ["x", " "]}', "expected text, got ' '"),
        ('{"question": 3, "answers": ["x"]}', "expected text, got 3"),
        ('{"question": "Why?", "answers": ["x"], "doc": 3}', "expected text, got 3"),
    ],
)
def test_a_bad_row_is_one_line_with_its_number(row: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{row}\n", "utf-8")
    with pytest.raises(ProbeError) as caught:
        read_questions(path)
    assert caught.value.message == f"{path}, line 3: not a row of questions ({reason})"
    assert caught.value.hint == HINT


@pytest.mark.parametrize("row", [b'{"question": "\\ud800", "answers": ["x"]}', b"\xff"])
def test_text_that_is_not_utf8_is_refused(row: bytes, tmp_path: Path) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_bytes(row)
    with pytest.raises(ProbeError, match="line 1: not a row of questions"):
        read_questions(path)


def test_sets_need_a_document_in_every_row(tmp_path: Path) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text(json.dumps(GOOD), "utf-8")
    with pytest.raises(ProbeError) as caught:
        read_questions(path, need_document=True)
    assert caught.value.message == f"{path}, line 1: not a row of questions ('doc' is missing)"
    assert caught.value.hint == HINT.replace("with question", "with doc, question")


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    missing, empty, cut = (tmp_path / name for name in ("missing", "empty", "cut.gz"))
    empty.write_bytes(b"")
    cut.write_bytes(gzip.compress(json.dumps(GOOD).encode() * 99)[:-20])
    with pytest.raises(ProbeError, match=r"missing: cannot be read \(No such file or directory\)"):
        read_questions(missing)
    with pytest.raises(ProbeError, match="empty: the file is empty"):
        read_questions(empty)
    with pytest.raises(ProbeError, match=r"cut.gz: cannot be read \("):
        read_questions(cut)


def test_rows_are_grouped_by_document_plain_or_compressed(tmp_path: Path) -> None:
    path = write_data(tmp_path)
    documents = read_documents(path)
    assert [document.text for document in documents] == [ROWS[0]["doc"], ROWS[2]["doc"]]
    assert documents[0].questions == (("Where is the pump?", "harbor"), ("How often?", "14 days"))
    packed = tmp_path / "toy.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_documents(packed) == documents


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{not json", "Expecting property name"),
        (b"[1, 2]", "expected an object, got list"),
        (b'{"question": "Who?", "answers": ["I"]}', "'doc' is missing"),
        (b'{"doc": "text", "question": "Who?"}', "'answers' is missing"),
        (b'{"doc": "text", "answers": ["I"]}', "'question' is missing"),
        (b'{"doc": "text", "question": "Who?", "answers": []}', "answers is not a list of at"),
        (b'{"doc": "text", "question": "Who?", "answers": "I"}', "answers is not a list of at"),
        (b'{"doc": "text", "question": "Who?", "answers": null}', "answers is not a list of at"),
        (b'{"doc": "text", "question": "Who?", "answers": ["I", 7]}', "expected text, got 7"),
        (b'{"doc": "text", "question": ["Who?"], "answers": ["I"]}', "expected text, got ['Who?"),
        (b'{"doc": " "}', "expected text, got ' '"),
        (b'{"doc": NaN}', "expected text, got nan"),
        (b'{"doc": 1e999}', "expected text, got inf"),
        (b'{"doc": "one", "doc": "two"}', "'doc' stands there twice"),
        (b'{"doc": "half \\ud800"}', "surrogates not allowed"),
        (b'{"doc": "\xff"}', "can't decode byte 0xff"),
        (b'{"doc": ' + b"[" * 50_000, "recursion"),
        (b'{"doc": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
        (b"", "Expecting value"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(ROWS[0]).encode() + b"\n" + line + b"\n")
    with pytest.raises(RecipeError) as refused:
        read_documents(path)
    message = refused.value.message
    assert message.startswith(f"{path}, line 2: not a row of training data (")
    assert reason in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 250


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    def refuse(name: str, data: bytes | None) -> str:
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(RecipeError) as refused:
            read_documents(path)
        message = refused.value.message
        assert message.startswith(str(path))
        return message.removeprefix(str(path))

    rows = (json.dumps({"doc": f"text {n}"}) + "\n" for n in range(20_000))
    whole = gzip.compress("".join(rows).encode())
    assert refuse("a.jsonl.gz", b"no gzip") == ": cannot be read (Not a gzipped file (b'no'))"
    cut = refuse("b.jsonl.gz", whole[: len(whole) // 2])
    assert re.fullmatch(r", after line \d+: cannot be read \(Compressed file ended .*\)", cut)
    assert refuse("c.jsonl", b"") == ": the file is empty"
    assert refuse("d.jsonl", None) == ": cannot be read (No such file or directory)"
    (tmp_path / "folder").mkdir()
    assert refuse("folder", None) == ": cannot be read (Is a directory)"


def test_a_file_may_begin_with_a_mark_and_end_its_lines_as_windows_does(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"doc": "one"}\r\n{"doc": "two"}\r\n')
    assert [document.text for document in read_documents(path)] == ["one", "two"]


def test_questions_without_an_answer_have_an_empty_list_of_answers(tmp_path: Path) -> None:
    path = tmp_path / "un.jsonl"
    rows = [{"question": "Why?", "doc": "A text.", "answers": []}, GOOD | {"evidence": "In it."}]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    without, with_answer = read_questions(path)
    assert without == Question("Why?", (), "A text.")
    assert with_answer.evidence == "In it."
