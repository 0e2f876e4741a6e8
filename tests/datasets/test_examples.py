"""Files of solved examples: columns, wrong rows, and what is text."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from d2l.datasets.examples import Columns, read_examples, take_examples
from d2l.datasets.tasks import Example, list_labels
from d2l.errors import TaskError

PAIRS = (("The soup, cold.", "bad"), ('He said "yes"', "good"))
EXAMPLES = tuple(Example(source, (target,)) for source, target in PAIRS)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.csv", 'review,sentiment\n"The soup, cold.",bad\n"He said ""yes""",good\n', None),
        ("a.csv", '\ufeffText;Label\r\nThe soup, cold.;bad\r\n"He said ""yes""";good\r\n', None),
        ("a.tsv", 'id\tquestion\tanswer\n1\tThe soup, cold.\tbad\n2\tHe said "yes"\tgood\n', None),
        ("a.csv", 'a,b\n"The soup, cold.",bad\n"He said ""yes""",good\n', Columns("a", "b")),
        ("a.csv", 'label,what\nbad,"The soup, cold."\n\ngood,"He said ""yes"""\n', None),
        ("a.jsonl", "\n".join(json.dumps({"input": i, "output": o}) for i, o in PAIRS), None),
    ],
)
def test_usual_columns_are_known(
    tmp_path: Path, name: str, text: str, columns: Columns | None
) -> None:
    path = write(tmp_path, name, text)
    found = read_examples(path, columns)
    assert found.examples == EXAMPLES
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "has no examples"),
        ("a.csv", "text,label\n", "has no examples"),
        ("a.csv", "text,label\nx,y\nx\n", "line 3: has 1 cells, the header has 2"),
        ("a.csv", 'text,label\n"x,y\n', "line 2: unexpected end of data"),
        ("a.csv", "text,label\nx,\n", "row 2: 'label' is missing or empty"),
        ("a.csv", "a,b\nx,y\n", "which columns hold inputs and outputs? a, b"),
        ("a.csv", "text,other,more\nx,y,z\n", "which columns hold"),
        ("a.csv", "text,label,text\nx,y,z\n", "two columns have the same name"),
        (
            "a.jsonl",
            '{"input": "x", "output": "y"}\n{"input": "x"}\n',
            "row 2: 'output' is missing",
        ),
        ("a.jsonl", '{"input": "x", "output": "y"}\n[]\n', "line 2: not an example"),
        ("none.csv", None, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    path = tmp_path / name if text is None else write(tmp_path, name, text)
    with pytest.raises(TaskError, match=said.replace("?", r"\?")):
        read_examples(path)
    if text == "a,b\nx,y\n":
        with pytest.raises(TaskError, match="has no column 'c': a, b"):
            read_examples(path, Columns("c"))


def test_values_of_json_become_text(tmp_path: Path) -> None:
    rows = [{"input": "Maria", "output": {"name": "María"}}, {"input": "x", "output": 3}]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert [one.outputs[0] for one in read_examples(path).examples] == ['{"name": "María"}', "3"]


def test_pairs_are_examples_too() -> None:
    assert take_examples(PAIRS).examples == EXAMPLES
    assert take_examples(PAIRS).sha256 != take_examples(PAIRS[:1]).sha256
    for wrong in ([], [("x", " ")]):
        with pytest.raises(TaskError, match="none of them empty"):
            take_examples(wrong)


def test_labels_are_few_and_come_again() -> None:
    for outputs, labels in (
        ("a b a b", ["a", "b"]),
        ("a b", []),
        ("a a a", []),
        ("a b c d", []),
        (" ".join("abcdefghijk") * 3, []),
    ):
        assert list_labels([Example("x", (output,)) for output in outputs.split()]) == labels


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.jsonl.gz"])
def test_pipes_and_devices_are_refused_before_they_are_read(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    (tmp_path / f"zero-{name}").symlink_to("/dev/zero")
    for path in (tmp_path / name, tmp_path / f"zero-{name}"):
        with pytest.raises(TaskError, match="is no regular file"):
            read_examples(path)


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and digest are those of the same bytes, also while somebody writes the file."""
    path = write(tmp_path, "a.jsonl", json.dumps({"input": "a", "output": "b"}))
    opened: list[Path] = []
    open_path = Path.open

    def count(self: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(self)
        return open_path(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", count)
    monkeypatch.setattr("builtins.open", None)
    assert read_examples(path).examples == (Example("a", ("b",)),)
    assert opened == [path]


def test_a_larger_file_than_allowed_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d2l.datasets.examples.MAX_BYTES", 20)
    with pytest.raises(TaskError, match="is larger than 20 bytes"):
        read_examples(write(tmp_path, "a.csv", "input,output\n" + "a,b\n" * 9))
