"""What a manifest, a folder or a pattern is as rows; and which rows cannot be used."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from d2l.batch import rows
from d2l.batch.rows import OPTIONS, list_rows, read_manifest, take_shard
from d2l.commands.main import app, t2l_app
from d2l.errors import DocumentError, OptionError


def make_row(row: Any) -> str:
    """A line of a manifest; text stands there as it is."""
    return row if isinstance(row, str) else json.dumps(row)


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("".join(f"{make_row(row)}\n" for row in rows), "utf-8")
    return path


def test_a_manifest_has_inputs_folders_and_options(tmp_path: Path) -> None:
    rows = read_manifest(
        write(
            tmp_path,
            {"id": "a/b", "input": "a.pdf"},
            "",
            {"id": "c", "inputs": ["c.txt", "d.txt"], "out": "sub/c", "options": {"scale": 2}},
            {
                "id": "t",
                "description": "Say it.",
                "examples": "e.csv",
                "options": {"dtype": "bf16"},
            },
        )
    )
    assert [(row.id, row.inputs, row.out, row.error) for row in rows] == [
        ("a/b", ("a.pdf",), "a_b.lora", None),
        ("c", ("c.txt", "d.txt"), "sub/c", None),
        ("t", (), "t.lora", None),
    ]
    assert (rows[2].description, rows[2].examples) == ("Say it.", "e.csv")
    assert rows[1].options == {"scale": 2.0}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "line 2: not a row of a manifest"),
        ("[]", "expected an object"),
        ({"input": "a"}, "'id' is missing"),
        ({"id": "x"}, "one of input, inputs, description is wanted"),
        ({"id": "x", "input": "a", "inputs": ["a"]}, "one of input, inputs, description is"),
        ({"id": "x", "input": "a", "description": "Say it."}, "one of input, inputs, descr"),
        ({"id": "x", "input": "a", "examples": "e.csv"}, "examples go with a description"),
        ({"id": "x", "description": "Say it.", "options": {"merge": "concat"}}, "is no option"),
        ({"id": "x", "inputs": []}, "expected a list of paths"),
        ({"id": "x", "input": 3}, "input: expected text"),
        ({"id": "x", "input": "a", "out": "../b"}, "below the output folder"),
        ({"id": "x", "input": "a", "out": "/b"}, "below the output folder"),
        ({"id": "x", "input": "a", "inptu": 1}, "'inptu' is no key"),
        ({"id": "x", "input": "a", "options": {"scalé": 1}}, "is no option"),
        ({"id": "x", "input": "a", "options": {"max_rank": True}}, "of the wrong type"),
        ({"id": "x", "input": "a", "options": {"max_rank": 0}}, "of the wrong type"),
        ({"id": "x", "input": "a", "options": {"scale": None}}, "of the wrong type"),
        ({"id": "good", "input": "b"}, "the id 'good' stands there twice"),
        ({"id": "x", "input": "b", "out": "GOOD.lora"}, "is where 'good' goes, too"),
    ],
)
def test_a_bad_row_holds_its_error_and_no_others(row: Any, said: str, tmp_path: Path) -> None:
    good, bad = read_manifest(write(tmp_path, {"id": "good", "input": "a"}, row))
    assert good.error is None
    assert said in str(bad.error)
    assert bad.id != good.id


def test_a_long_row_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_LINE_BYTES", 100)
    path = write(tmp_path, {"id": "x", "input": "a", "out": "b" * 99}, {"id": "y", "input": "b"})
    bad, good = read_manifest(path)
    assert bad.error == "line 1: not a row of a manifest (longer than 100 bytes)"
    assert good.error is None


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("a.lora", "a.lora/b.lora", "would lie in the folder of 'one'"),
        ("a.lora", "A.LORA/x/b.lora", "would lie in the folder of 'one'"),
        ("a.lora/x/b.lora", "a.lora", "would hold the folder of 'one'"),
        ("a/x.lora", "a/y.lora", None),
        ("a.lora", "a.lora-2/b.lora", None),
    ],
)
def test_no_adapter_of_a_batch_lies_in_another(
    first: str, second: str, said: str | None, tmp_path: Path
) -> None:
    one = {"id": "one", "input": "a", "out": first}
    rows = read_manifest(write(tmp_path, one, {"id": "two", "input": "b", "out": second}))
    assert rows[0].error is None
    assert (said is None) == (rows[1].error is None)
    assert said is None or said in str(rows[1].error)


def test_options_of_rows_are_those_of_the_command() -> None:
    """With the same defaults: a row that says nothing is as a command without options."""
    found = (get_command(app).commands["compile"], get_command(t2l_app).commands["make"])  # type: ignore[attr-defined]
    usual = {parameter.name: parameter.default for one in found for parameter in one.params}
    assert {name: usual[name] for name in OPTIONS} == dict(OPTIONS)


def test_folders_and_patterns_give_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("docs/a.txt", "docs/sub/a.md", "docs/skip.xyz", "b.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("text", "utf-8")
    found = [(row.id, row.out) for row in list_rows(["docs", "b.txt"])]
    of_docs = [("docs/a.txt", "a.txt.lora"), ("docs/sub/a.md", "a.md.lora")]
    assert found == [*of_docs, ("b.txt", "b.lora")]
    assert [row.id for row in list_rows(["docs/**/*"])] == ["docs/a.txt", "docs/sub/a.md"]
    address = f"file://{tmp_path}/docs"
    inputs = [row.inputs[0] for row in list_rows([address])]
    assert inputs == [f"{address}/a.txt", f"{address}/sub/a.md"]
    for wrong in ("nowhere", "docs/*.pdf", "none.jsonl"):
        with pytest.raises(DocumentError):
            list_rows([wrong])


def test_shards_are_disjoint_and_together_all(tmp_path: Path) -> None:
    rows = read_manifest(write(tmp_path, *({"id": str(n), "input": "a"} for n in range(10))))
    shards = [take_shard(rows, f"{n}/3") for n in (1, 2, 3)]
    assert sorted((row.id for shard in shards for row in shard), key=int) == [r.id for r in rows]
    assert [len(shard) for shard in shards] == [4, 3, 3]
    for wrong in ("0/3", "4/3", "3", "1/0", "a/b", "-1/2", ""):
        with pytest.raises(OptionError, match="expected i/n"):
            take_shard(rows, wrong)


def test_an_empty_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="holds no rows"):
        list_rows([str(write(tmp_path))])


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_a_manifest_without_end_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_MANIFEST_BYTES", 1000)
    (tmp_path / "m.jsonl").symlink_to("/dev/zero")
    with pytest.raises(DocumentError, match="is larger than 1,000 bytes"):
        read_manifest(tmp_path / "m.jsonl")
