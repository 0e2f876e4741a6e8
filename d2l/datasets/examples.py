"""A file of solved examples → examples: JSON lines, or a table (CSV, TSV) with a header.

Columns of inputs and outputs are guessed from their names, unless the user names them.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from d2l.datasets.tasks import Example
from d2l.errors import TaskError
from d2l.files.jsonl import RowFormat, check_text, read_rows
from d2l.files.regular import refuse_irregular

#: Usual names of columns, likely ones first.
INPUTS = "input text question sentence review prompt query message instruction document content"
OUTPUTS = "output label answer target completion response class category sentiment intent result"
#: Largest file: nobody writes more examples by hand, and `d2l compile` is for documents.
MAX_BYTES = 64 << 20
_HINT = "name them with --input-column and --output-column"
_JSON = (".jsonl", ".ndjson", ".json")


class ExampleFile(NamedTuple):
    """Solved examples in the file's order, with their columns and the file's SHA-256."""

    examples: tuple[Example, ...]
    columns: tuple[str, str]
    sha256: str


#: A file of examples, its content, or pairs of input and output.
ExamplesLike = ExampleFile | str | Path | Sequence[tuple[str, str]]


class Columns(NamedTuple):
    """Columns that a user names; None: those with usual names."""

    input: str | None = None
    output: str | None = None


def read_examples(path: Path, wanted: Columns | None = None) -> ExampleFile:
    """Read a file of solved examples; raises TaskError with the line of a wrong row.

    Outputs that are numbers, truth values, objects or lists are kept as JSON.
    """
    try:
        refuse_irregular(path, TaskError)
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise TaskError(
            f"{path}: cannot be read ({error.strerror})", hint="check the path"
        ) from error
    if len(data) > MAX_BYTES:
        raise TaskError(f"{path}: is larger than {MAX_BYTES:,} bytes")
    if any(suffix in path.suffixes for suffix in _JSON):
        rows = read_rows(path, RowFormat("an example", _HINT, TaskError), dict, data)
        numbered: Sequence[tuple[int, dict[str, Any]]] = list(enumerate(rows, 1))
    else:
        numbered = list(_read_table(path, data))
    if not numbered:
        raise TaskError(f"{path}: has no examples", hint="a row for each, below the header")
    columns = _pick_columns(path, list(numbered[0][1]), wanted or Columns())
    examples = tuple(_make_example(path, number, row, columns) for number, row in numbered)
    return ExampleFile(examples, columns, hashlib.sha256(data).hexdigest())


def take_examples(given: ExamplesLike) -> ExampleFile:
    """Read examples from a file, or take pairs of input and output, whose digest is that of their
    JSON; raises TaskError."""
    if isinstance(given, ExampleFile):
        return given
    if isinstance(given, str | Path):
        return read_examples(Path(given))
    pairs = [(str(source).strip(), str(target).strip()) for source, target in given]
    if not pairs or not all(source and target for source, target in pairs):
        raise TaskError("examples are pairs of an input and an output, none of them empty")
    text = json.dumps(pairs, ensure_ascii=False)
    examples = tuple(Example(source, (target,)) for source, target in pairs)
    return ExampleFile(examples, ("input", "output"), hashlib.sha256(text.encode()).hexdigest())


def _read_table(path: Path, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (last line, row) of a table; its separator is the commonest of comma, semicolon and tab
    in the header."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaskError(f"{path}: is not UTF-8 text", hint="convert it to UTF-8") from error
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = [cell.strip() for cell in cells]
                if len({*filter(None, names)}) < len([*filter(None, names)]):
                    raise TaskError(f"{path}: two columns have the same name", hint=_HINT)
                continue
            if len(cells) != len(names):
                raise TaskError(
                    f"{path}, line {reader.line_num}: has {len(cells)} cells, the header has "
                    f"{len(names)}",
                    hint="put cells with line ends or separators in double quotes",
                )
            yield reader.line_num, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise TaskError(
            f"{path}, line {reader.line_num}: {error}", hint="check its quotes"
        ) from error


def _pick_columns(path: Path, names: Sequence[str], wanted: Columns) -> tuple[str, str]:
    """Choose the columns of inputs and outputs; if one of two columns is known, take the other."""
    picked = []
    for given, usual in zip(wanted, (INPUTS, OUTPUTS), strict=True):
        if given is not None and given not in names:
            raise TaskError(f"{path}: has no column {given!r}: {', '.join(names)}", hint=_HINT)
        by_name = {name.lower(): name for name in reversed(names)}
        known = [by_name[name] for name in usual.split() if name in by_name]
        picked.append(given or (known[0] if known else None))
    source, target = picked
    if len(names) == 2 and (source is None) != (target is None):
        (other,) = (name for name in names if name not in (source, target))
        source, target = source or other, target or other
    if source is None or target is None or source == target:
        raise TaskError(
            f"{path}: which columns hold inputs and outputs? {', '.join(names)}", hint=_HINT
        )
    return source, target


def _make_example(
    path: Path, number: int, row: dict[str, Any], columns: tuple[str, str]
) -> Example:
    texts = []
    for name in columns:
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            value = json.dumps(value, ensure_ascii=False)
        try:
            texts.append(check_text(value).strip())
        except (TypeError, ValueError) as error:
            raise TaskError(
                f"{path}, row {number}: {name!r} is missing or empty", hint="fill or drop the row"
            ) from error
    return Example(texts[0], (texts[1],))
