"""Files of rows: what comes out, and what is said of those that are wrong."""

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from d2l.errors import TaskError
from d2l.files.jsonl import MAX_LINE_BYTES, RowFormat, read_rows

ROWS = RowFormat("a row of numbers", "a row is an object with n", TaskError)
EXACT = RowFormat("a row of numbers", "a row is an object with n", TaskError, exact=True)


def make(row: dict[str, Any]) -> int:
    return int(row["n"])


def test_rows_come_in_order_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"n": 1}\r\n\n  \n{"n": 2, "m": 3}'
    (tmp_path / "a.jsonl").write_bytes(data)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(data))
    assert read_rows(tmp_path / "a.jsonl", ROWS, make) == [1, 2]
    assert read_rows(tmp_path / "a.jsonl.gz", ROWS, make) == [1, 2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b"[1]", "expected an object, got list"),
        (b'{"m": 1}', "'n' is missing"),
        (b'{"n": "x"}', "invalid literal for int() with base 10: 'x'"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b"[" * 100_000, "maximum recursion depth exceeded"),
        (b'{"n": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
        (b'{"n": 1, "m": 2, "n": 3, "m": 1}', "'n' stands there twice"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(line: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2}\n' + line + b"\n")
    with pytest.raises(TaskError) as caught:
        read_rows(path, EXACT, make)
    assert caught.value.message.startswith(f"{path}, line 3: not a row of numbers ({reason}")
    assert caught.value.hint == "a row is an object with n"


def test_a_key_may_stand_twice_where_nothing_else_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1, "n": 2}')
    assert read_rows(path, ROWS, make) == [2]


def test_files_that_cannot_be_read_are_one_clear_error(tmp_path: Path) -> None:
    cut, other = tmp_path / "cut.jsonl.gz", tmp_path / "other.jsonl.gz"
    cut.write_bytes(gzip.compress(b"".join(b'{"n": %d}\n' % n for n in range(20_000)))[:-999])
    other.write_bytes(b'{"n": 1}')
    (tmp_path / "empty.jsonl").touch()
    for path, message in (
        (tmp_path / "none.jsonl", "cannot be read (No such file or directory)"),
        (tmp_path, "cannot be read (Is a directory)"),
        (tmp_path / "empty.jsonl", "the file is empty"),
        (cut, "0: cannot be read (Compressed file ended before the end-of-stream marker"),
        (other, "cannot be read (Not a gzipped file (b'{\"'))"),
    ):
        with pytest.raises(TaskError) as caught:
            read_rows(path, ROWS, make)
        assert caught.value.message.startswith(str(path))
        assert message in caught.value.message


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_a_line_without_an_end_is_not_read_to_it(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.jsonl.gz"
    bomb.write_bytes(gzip.compress(bytes(MAX_LINE_BYTES + 9), compresslevel=1))
    with pytest.raises(TaskError, match="line 1: longer than"):
        read_rows(bomb, ROWS, make)
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in (tmp_path / "zero.jsonl", tmp_path / "pipe.jsonl"):
        with pytest.raises(TaskError, match="is no regular file"):
            read_rows(path, ROWS, make)
