"""The child process that matches one adapter's patterns with module names. Imports `re` alone.

`patterns` starts it.
"""

import re
import warnings
from typing import Any

from d2l.files.child_side import serve


def main() -> None:
    """Match the patterns on stdin."""
    serve(answer)


def answer(request: dict[str, Any], _data: bytes) -> dict[str, Any]:
    """Match patterns with the starts of names: the indices of matching names for each pattern, or
    the first invalid pattern."""
    warnings.simplefilter("ignore")
    matches = []
    for pattern in request["patterns"]:
        try:
            compiled = re.compile(pattern)
        except (re.error, OverflowError, RecursionError):
            return {"bad": pattern}
        matches.append([n for n, name in enumerate(request["names"]) if compiled.match(name)])
    return {"matches": matches}
