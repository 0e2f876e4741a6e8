"""CSV, TSV and XLSX: rows with the heads of their columns.

Bytes in, a section for each sheet out; formulas give the values that the workbook keeps.
"""

import csv
import zipfile
from io import BytesIO, StringIO

from d2l.readers.archives import open_archive
from d2l.readers.converted import lacks_extra
from d2l.readers.parsing import Heading, Parsed, ParseRequest, Section, bound_text, damaged
from d2l.readers.sniff import decode
from d2l.readers.tables import write_rows
from d2l.readers.text import encoding_notes

KIND = "Excel workbook"
XLSX_ERRORS = (AttributeError, LookupError, OSError, SyntaxError, TypeError, ValueError,
               zipfile.BadZipFile)  # fmt: skip


def parse_delimited(request: ParseRequest) -> Parsed:
    """Read a table in text."""
    decoded = decode(request.data, request.name, request.encoding)
    first = decoded.text.partition("\n")[0]
    csv.field_size_limit(request.max_chars)
    try:
        rows = list(csv.reader(StringIO(decoded.text), delimiter=max(",;\t|", key=first.count)))
    except csv.Error as error:
        raise damaged(request, "table", str(error)) from None
    section = Section("\n".join(write_rows(rows)))
    return Parsed(tuple(bound_text([section], request)), encoding_notes(decoded))


def parse_xlsx(request: ParseRequest) -> Parsed:
    """Read all sheets of a workbook."""
    try:
        import openpyxl
    except ImportError:
        raise lacks_extra(request) from None
    open_archive(request, KIND).close()
    sections = []
    try:
        book = openpyxl.load_workbook(BytesIO(request.data), read_only=True, data_only=True)
        for sheet in book.worksheets:
            rows = (map(write_value, row) for row in sheet.iter_rows(values_only=True))
            lines = [sheet.title, *write_rows(list(row) for row in rows)]
            heading = Heading(0, 1, sheet.title)
            sections.append(Section("\n".join(lines), heading=sheet.title, headings=(heading,)))
    except XLSX_ERRORS as error:
        raise damaged(request, KIND, type(error).__name__) from None
    return Parsed(tuple(bound_text(sections, request)))


def write_value(value: object) -> str:
    """Write a cell's value; a date without a time has none."""
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    return "" if number is None else str(number).removesuffix(" 00:00:00")
