"""Where a key stands in a TOML file, for messages: tomllib gives values without their lines.

Looks at headers and `key =` at the beginning of lines, which is how people write recipes; gives
None where it finds nothing.
"""

import re

_HEADER = re.compile(r"\s*\[\[?([^\[\]]+)\]\]?\s*(?:#.*)?$")


def find_line(text: str, key: str | None, table: tuple[str, int] | None = None) -> int | None:
    """Number, from 1, of the line of `key` in `table`: (name, place among those of that name).

    Without a table, the key is looked for before the first header, then among the headers. Without
    a key, the line is that of the table's header.
    """
    seen: dict[str, int] = {}
    current: tuple[str, int] | None = None
    key_line = None if key is None else re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[.=]""")
    for number, line in enumerate(text.split("\n"), start=1):
        header = _HEADER.match(line)
        if header:
            name = header[1].strip().strip("\"'")
            current = (name, seen.get(name, 0))
            seen[name] = current[1] + 1
            if (key is None and current == table) or (table is None and key == name):
                return number
        elif key_line is not None and current == table and key_line.match(line):
            return number
    return None
