"""The child process that matches one adapter's patterns with module names. Imports `re` alone.

Started by `patterns`.
"""

import re
import warnings
from typing import Any

from d2l.files.child_side import serve


def main() -> None:
    """Match what stdin holds."""
    serve(answer)


def answer(request: dict[str, Any], _data: bytes) -> dict[str, Any]:
    """For each pattern the indices of the names that it matches from their start on, or which
    pattern is none."""
    warnings.simplefilter("ignore")
    matches = []
    for pattern in request["patterns"]:
        try:
            compiled = re.compile(pattern)
        except (re.error, OverflowError, RecursionError):
            return {"bad": pattern}
        matches.append([n for n, name in enumerate(request["names"]) if compiled.match(name)])
    return {"matches": matches}
