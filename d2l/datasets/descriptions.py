"""Task descriptions: an argument, standard input or a table in, checked texts out."""

import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

from d2l.errors import DescriptionError

#: A description is a few sentences; embedders read 8,192 tokens at most.
MAX_CHARS = 20_000
MAX_TABLE_BYTES = 64 << 20

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_NAME = re.compile(r"[^\W_][\w .+-]{0,99}")
_QUOTES = ('"', "'")


class DescriptionRow(NamedTuple):
    """One line of a table: the adapter's name and its description, or what is wrong with it."""

    line: int  # counted from 1
    name: str = ""
    text: str = ""
    examples: Path | None = None
    error: DescriptionError | None = None


def check_description(text: str, where: str = "the description") -> str:
    """Strip white space and one pair of quotes around; raises DescriptionError."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
        text = text[1:-1].strip()
    hint = "say in a sentence or two what the task is"
    if not text:
        raise DescriptionError(f"{where} is empty", hint=hint)
    if len(text) > MAX_CHARS:
        raise DescriptionError(
            f"{where} has {len(text):,} characters, at most {MAX_CHARS:,} are read",
            hint=f"{hint}; d2l compile is for documents",
        )
    if _CONTROL.search(text) or any("\ud800" <= c <= "\udfff" for c in text):
        raise DescriptionError(f"{where} is not text", hint=hint)
    return text


def read_stream(stream: BinaryIO) -> str:
    """A description from standard input, which is read no further than can be used."""
    where = "the description on standard input"
    data = stream.read(4 * MAX_CHARS + 1)
    if len(data) > 4 * MAX_CHARS:  # no character has more bytes
        raise DescriptionError(
            f"{where} is larger than {4 * MAX_CHARS:,} bytes",
            hint="say in a sentence or two what the task is; d2l compile is for documents",
        )
    return check_description(_decode(data, where), where)


def read_table(path: Path) -> list[DescriptionRow]:
    """Rows of a file with a name, a tab and a description on every line, and maybe a tab and a file
    of examples, whose place is relative to the table's.

    Empty lines and a first line of the columns' names are passed over. A row that cannot be used
    holds its error; the file itself raises DescriptionError.
    """
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise DescriptionError(f"{path}: is larger than {MAX_TABLE_BYTES:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise DescriptionError(
            f"{path}: cannot be read ({error.strerror})", hint="check the path"
        ) from error
    rows: list[DescriptionRow] = []
    lines: dict[str, int] = {}
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        cells = [cell.strip().lower() for cell in raw.split(b"\t")]
        if not raw.strip() or (not rows and cells[:2] == [b"name", b"description"]):
            continue
        try:
            row = _read_row(raw, number, path)
            key = row.name.casefold()  # some file systems hold such names for one
            if key in lines:
                raise DescriptionError(
                    f"{path}, line {number}: {row.name!r} is the name in line {lines[key]}, too"
                )
            lines[key] = number
            rows.append(row)
        except DescriptionError as error:
            rows.append(DescriptionRow(number, error=error))
    if not rows:
        raise DescriptionError(f"{path}: has no rows", hint="a name, a tab and a description each")
    return rows


def _read_row(raw: bytes, number: int, path: Path) -> DescriptionRow:
    where = f"{path}, line {number}"
    cells = _decode(raw, where).split("\t")
    if len(cells) not in (2, 3):
        raise DescriptionError(
            f"{where}: has {len(cells)} column{'s' if len(cells) > 1 else ''}, expected 2 or 3",
            hint="a name, a description, and maybe a file of examples, with tabs between",
        )
    name = cells[0].strip()
    if not _NAME.fullmatch(name) or name[-1] in " .":
        raise DescriptionError(
            f"{where}: {name[:40]!r} cannot be the name of a folder",
            hint="use letters, digits, spaces and .+-_",
        )
    examples = path.parent / cells[2].strip() if cells[2:] and cells[2].strip() else None
    text = check_description(cells[1], f"{where}: the description")
    return DescriptionRow(number, name, text, examples)


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DescriptionError(f"{where} is not UTF-8 text", hint="convert it to UTF-8") from error
