"""The child process that parses one document; `sandbox` starts it."""

from typing import Any

from d2l.documents.read import parse as read
from d2l.errors import DocumentError
from d2l.files.child_side import reply, serve
from d2l.readers.parsing import ParseRequest


def main() -> None:
    """Parse the document on stdin, within the limits that stand there."""
    serve(parse)


def parse(request: dict[str, Any], data: bytes) -> dict[str, Any]:
    """Parse a document to JSON values: its text, notes and findings, or an error."""

    def report(done: int, total: int, _label: str | None = None) -> None:
        reply({"progress": [done, total]})

    try:
        parsed = read(ParseRequest(data=data, on_progress=report, **request))
    except DocumentError as error:
        return {"error": {"message": error.message, "hint": error.hint}}
    findings = [(f.kind, f.what, f.count, f.pages, f.lines) for f in parsed.findings]
    return {**parsed._asdict(), "findings": findings}
