import gzip
import json
from pathlib import Path

import pytest

from d2l.datasets.questions import Question, read_questions
from d2l.errors import ProbeError

GOOD = {"question": "Where is the pump?", "answers": ["the harbor", "harbor"]}
HINT = "a row is a JSON object with question and answers, answers being a list of texts"


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
        ('{"question": "Why?", "answers": []}', "answers is not a list of at least one text"),
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
