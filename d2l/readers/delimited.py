"""Tables in text: CSV and TSV, each row with the heads of its columns.

Bytes in any encoding in, one section out.
"""

import csv
from io import StringIO

from d2l.readers.parsing import Parsed, ParseRequest, Section, bound_text, damaged
from d2l.readers.sniff import decode
from d2l.readers.tables import write_rows
from d2l.readers.text import encoding_notes

DELIMITERS = ",;\t|"


def parse_delimited(request: ParseRequest) -> Parsed:
    """Read the rows of a table; a text whose first row names no columns stays unchanged."""
    decoded = decode(request.data, request.name, request.encoding)
    first = decoded.text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    csv.field_size_limit(request.max_chars)
    try:
        rows = list(csv.reader(StringIO(decoded.text), delimiter=delimiter))
    except csv.Error as error:
        raise damaged(request, "table", str(error)) from None
    has_head = len(rows[0]) > 1 and all(any(map(str.isalpha, cell)) for cell in rows[0])
    text = "\n".join(write_rows(rows)) if has_head else decoded.text
    return Parsed(tuple(bound_text([Section(text)], request)), encoding_notes(decoded))
