"""XLSX: the sheets of a workbook, each row with the heads of its columns.

Bytes in, a section for each sheet out; formulas give the values that the workbook keeps.
"""

import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from d2l.readers.archives import open_archive
from d2l.readers.converted import lacks_extra
from d2l.readers.parsing import (
    CELL,
    Heading,
    Parsed,
    ParseRequest,
    Section,
    bound_text,
    damaged,
    name_left_out,
)
from d2l.readers.tables import write_rows

KIND = "Excel workbook"
XLSX_ERRORS = (AttributeError, LookupError, OSError, SyntaxError, TypeError, ValueError,
               zipfile.BadZipFile)  # fmt: skip


def parse_xlsx(request: ParseRequest) -> Parsed:
    """Read the sheets that are shown; hidden ones are counted unless the request includes them."""
    try:
        import openpyxl
    except ImportError:
        raise lacks_extra(request, f"an {KIND}") from None
    open_archive(request, KIND).close()
    sections, n_hidden = [], 0
    try:
        book = openpyxl.load_workbook(BytesIO(request.data), read_only=True, data_only=True)
        for sheet in book.worksheets:
            text = "\n".join([sheet.title, *read_rows(sheet)])
            if sheet.sheet_state == "visible" or request.include_hidden:
                headings = (Heading(0, 1, sheet.title),)
                sections.append(Section(text, heading=sheet.title, headings=headings))
            else:
                n_hidden += len(text)
    except XLSX_ERRORS as error:
        raise damaged(request, KIND, type(error).__name__) from None
    remarks = name_left_out(n_hidden, "hidden sheets")
    return Parsed(tuple(bound_text(sections, request)), remarks=remarks)


def read_rows(sheet: Any) -> Iterator[str]:
    """Yield the rows of a sheet; the first with several names is the head of those below."""
    rows = [[write_value(value) for value in row] for row in sheet.iter_rows(values_only=True)]
    start = next((n for n, row in enumerate(rows) if sum(map(bool, row)) > 1), len(rows))
    has_head = start < len(rows) and all(
        any(map(str.isalpha, text)) for text in rows[start] if text
    )
    split = start if has_head else len(rows)
    yield from filter(None, (CELL.join(filter(None, row)) for row in rows[:split]))
    yield from write_rows(rows[split:])


def write_value(value: object) -> str:
    """Write a cell's value; a date without a time has none."""
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    return "" if number is None else str(number).removesuffix(" 00:00:00")
