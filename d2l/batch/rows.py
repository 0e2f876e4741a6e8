"""Manifest, folder or pattern → the rows of a batch: inputs or descriptions, options, folders.

Reads no document. A row that cannot be used holds its error: it fails alone, when its turn comes.
"""

import glob
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from d2l.batch.stores import is_remote, list_remote
from d2l.compiler.names import SUFFIX, clean, fold, name_adapters
from d2l.documents.inputs import expand_inputs, has_known_suffix, printable
from d2l.documents.intake import ReadOptions
from d2l.errors import DocumentError, OptionError
from d2l.files.jsonl import MAX_LINE_BYTES
from d2l.files.printable import CONTROLS
from d2l.hypernets.options import (
    DOCUMENT_OPTIONS,
    TASK_OPTIONS,
    CompileOptions,
    TaskCompileOptions,
    list_defaults,
)
from d2l.spelling import list_spellings

MANIFESTS = (".jsonl", ".ndjson")
MAX_MANIFEST_BYTES = 1 << 30  # a row of 100 bytes for each of ten million documents
#: Options of reading that a row may set, beside those of its document's adapter.
READING = tuple(list_spellings(ReadOptions))
#: Options of rows with their defaults, whose types are checked.
OPTIONS: Final[Mapping[str, Any]] = {
    name: default
    for model in (CompileOptions, TaskCompileOptions)
    for name, default in list_defaults(model).items()
    if name in {*DOCUMENT_OPTIONS, *TASK_OPTIONS}
} | {field.name: field.default for field in fields(ReadOptions) if field.name in READING}
#: Options that are None or a whole number.
_COUNTS = {name for name, one in list_spellings(CompileOptions).items() if one.minimum is not None}
_KEYS = {"id", "input", "inputs", "description", "examples", "out", "options"}
#: Keys of which a row has exactly one.
_SOURCES = ("input", "inputs", "description")


@dataclass(frozen=True)
class BatchRow:
    """Row of a batch: one adapter's documents, or the description of its task with a file of
    examples.

    `out` is its folder below that of the batch. A row with an `error` makes nothing.
    """

    id: str
    out: str = ""
    inputs: tuple[str, ...] = ()
    description: str | None = None
    examples: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


def list_rows(sources: Sequence[str], *, follow_links: bool = False) -> list[BatchRow]:
    """List the rows of one manifest (a file of JSON lines), or one for each document of folders,
    files and patterns. Raises DocumentError if there are none, or no such file."""
    if len(sources) == 1 and sources[0].endswith(MANIFESTS):
        rows = read_manifest(Path(sources[0]))
    else:
        files = list(
            dict.fromkeys(file for source in sources for file in _list_files(source, follow_links))
        )
        named = zip(files, name_adapters(files), strict=True)
        rows = [BatchRow(printable(file), out, (file,)) for file, out in named]
    if not rows:
        raise DocumentError(f"{', '.join(sources)}: holds no rows", hint="name documents")
    return rows


def take_shard(rows: Sequence[BatchRow], shard: str | None) -> list[BatchRow]:
    """Take the rows of shard "i/n": every n-th from the i-th on, counted from 1; raises
    OptionError."""
    if shard is None:
        return list(rows)
    first, slash, count = shard.partition("/")
    numbers = first.isdecimal() and count.isdecimal() and len(shard) < 20
    if not slash or not numbers or not 1 <= int(first) <= int(count):
        raise OptionError(f"--shard is {shard!r}, expected i/n", hint="from 1/16 to 16/16")
    return list(rows[int(first) - 1 :: int(count)])


def _list_files(source: str, follow_links: bool) -> list[str]:
    """List the documents of a folder, a file, a pattern or an address, sorted."""
    if is_remote(source):
        return [file for file in list_remote(source) if has_known_suffix(Path(file))]
    if glob.has_magic(source) and not Path(source).exists():
        found = sorted(glob.glob(source, recursive=True))
        files = [file for file in found if Path(file).is_file() and has_known_suffix(Path(file))]
        if not files:
            raise DocumentError(f"{source}: no document has such a name", hint="quote the pattern")
        return files
    expanded = expand_inputs([source], follow_links=follow_links)
    return [str(found.path) for found in expanded.sources if found.path is not None]


def read_manifest(path: Path) -> list[BatchRow]:
    """Read the rows of a file of JSON lines, without empty lines. Raises DocumentError."""
    try:
        with path.open("rb") as file:  # a device says that it has no bytes, and never ends
            data = file.read(MAX_MANIFEST_BYTES + 1)
        if len(data) > MAX_MANIFEST_BYTES:
            raise DocumentError(f"{path}: is larger than {MAX_MANIFEST_BYTES:,} bytes")
        lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise DocumentError(
            f"{path}: cannot be read ({error.strerror})", hint="check the path"
        ) from error
    rows = [
        _read_row(line, f"line {number}") for number, line in enumerate(lines, 1) if line.strip()
    ]
    return list(_refuse_twice(rows))


def _read_row(line: bytes, where: str) -> BatchRow:
    try:
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"longer than {MAX_LINE_BYTES:,} bytes")
        values = json.loads(line)
        if not isinstance(values, dict):
            raise TypeError("expected an object")
        return _make_row(values)
    except KeyError as error:
        reason = f"{error} is missing"
    except (ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
    return BatchRow(where, error=f"{where}: not a row of a manifest ({reason})")


def _make_row(values: Mapping[str, Any]) -> BatchRow:
    unknown = sorted(values.keys() - _KEYS)
    if unknown:
        raise ValueError(f"{unknown[0]!r:.40} is no key: {', '.join(sorted(_KEYS))}")
    sources = [key for key in _SOURCES if key in values]
    if len(sources) != 1:
        raise ValueError(f"one of {', '.join(_SOURCES)} is wanted")
    name = _check_text("id", values["id"])
    out = values.get("out")
    out = (clean(name) or "row") + SUFFIX if out is None else _check_out(out)
    options = values.get("options", {})
    if "description" in values:
        description, examples = (
            None if key not in values else _check_text(key, values[key])
            for key in ("description", "examples")
        )
        row = BatchRow(name, out, description=description, examples=examples)
        return replace(row, options=check_options(options, TASK_OPTIONS))
    if "examples" in values:
        raise ValueError("examples go with a description")
    inputs = [values["input"]] if "input" in values else values["inputs"]
    if not isinstance(inputs, list) or not inputs:
        raise TypeError("inputs: expected a list of paths")
    paths = tuple(_check_text("input", path) for path in inputs)
    return BatchRow(name, out, paths, options=check_options(options, (*DOCUMENT_OPTIONS, *READING)))


def _check_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\x00" in value:
        raise TypeError(f"{name}: expected text, got {value!r:.40}")
    value.encode("utf-8")  # JSON can spell halves of characters
    return value


def _check_out(value: Any) -> str:
    """Check a path below the folder of the batch, which it may not leave."""
    path = PurePosixPath(_check_text("out", value))
    if CONTROLS.search(value) or "\n" in value or "\t" in value:
        raise ValueError(f"out: control characters in {value!r:.40}")
    if path.is_absolute() or ".." in path.parts or "\\" in value or not path.parts:
        raise ValueError(f"out: expected a path below the output folder, got {value!r:.40}")
    return str(path)


def check_options(values: Any, known: Collection[str]) -> dict[str, Any]:
    """Check a row's options; raises ValueError for unknown names, TypeError for wrong types."""
    if not isinstance(values, dict):
        raise TypeError("options: expected an object")
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{name!r:.40} is no option of such a row: {', '.join(sorted(known))}")
        usual = OPTIONS[name]
        if name in _COUNTS:
            right = value is None or (type(value) is int and value > 0)
        elif isinstance(usual, float):
            right = type(value) in (int, float)
        elif isinstance(usual, bool):
            right = isinstance(value, bool)
        else:
            right = isinstance(value, str) or (value is None and usual is None)
        if not right:
            raise TypeError(f"{name}: {value!r:.40} is of the wrong type")
    return {n: float(v) if isinstance(OPTIONS[n], float) else v for n, v in values.items()}


def _refuse_twice(rows: Sequence[BatchRow]) -> Iterator[BatchRow]:
    """Yield the rows. A row fails if its id or folder is another's, or if one folder lies in the
    other: no adapter holds another one."""
    ids, folders, around = set[str](), dict[str, str](), dict[str, str]()
    for number, row in enumerate(rows, 1):
        if row.error is not None:
            ids.add(row.id)
            yield row
            continue
        at, above = fold(row.out), [fold(str(path)) for path in PurePosixPath(row.out).parents][:-1]
        outer = next((folders[folder] for folder in above if folder in folders), "")
        reason = None
        if row.id in ids:
            reason = f"the id {row.id!r:.80} stands there twice"
        elif at in folders:
            reason = f"{row.out} is where {folders[at]!r:.80} goes, too"
        elif at in around:
            reason = f"{row.out} would hold the folder of {around[at]!r:.80}"
        elif outer:
            reason = f"{row.out} would lie in the folder of {outer!r:.80}"
        ids.add(row.id)
        if reason is not None:
            yield replace(row, id=f"{row.id} (row {number})", error=f"row {number}: {reason}")
            continue
        folders[at] = row.id
        around |= dict.fromkeys(above, row.id)
        yield row
