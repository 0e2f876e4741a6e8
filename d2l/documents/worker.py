"""The child process that parses one document: request on stdin, reply on stdout.

Takes a line of JSON and the document's bytes, gives lines of JSON: progress, then one reply.
Started by sandbox; never imports the rest of the package.
"""

import json
import math
import sys
from types import TracebackType
from typing import Any

from d2l.documents.parsing import ParseRequest
from d2l.documents.readers import READERS
from d2l.errors import DocumentError


def main() -> None:
    """Parse what stdin holds, within the limits that it names."""
    head = json.loads(sys.stdin.buffer.readline())
    sys.stderr.write("d2l worker ready\n")
    sys.stderr.flush()
    sys.excepthook = reply_failure
    limit_resources(int(head["memory_bytes"]), float(head["seconds"]))
    request = ParseRequest(
        head["name"],
        sys.stdin.buffer.read(),
        head["password"],
        head["encoding"],
        head["max_chars"],
        head["max_unpacked_bytes"],
        lambda done, total, _label=None: reply({"progress": [done, total]}),
    )
    try:
        parsed = READERS[head["format"]].parse(request)
    except DocumentError as error:
        reply({"error": {"message": error.message, "hint": error.hint}})
        return
    sections = [(section.text, section.page, section.heading) for section in parsed.sections]
    reply({"sections": sections, "notes": parsed.notes})


def limit_resources(memory_bytes: int, seconds: float) -> None:
    """Bound address space and processor time, where the system can."""
    if sys.platform == "win32":
        return
    import resource

    def lower(kind: int, soft: int) -> None:
        hard = resource.getrlimit(kind)[1]
        soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(kind, (soft, hard))

    lower(resource.RLIMIT_AS, memory_bytes)
    lower(resource.RLIMIT_CPU, math.ceil(seconds) + 1)
    lower(resource.RLIMIT_CORE, 0)


def reply(message: dict[str, Any]) -> None:
    """Write one line, in ASCII, so that any text passes."""
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


def reply_failure(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Name an exception that no parser expects; it is the parent that words it."""
    reply({"failure": kind.__name__})
    sys.__excepthook__(kind, error, trace)


if __name__ == "__main__":
    main()
