"""The child process that parses one document. Started by sandbox."""

from typing import Any

from d2l.documents.read import parse as read
from d2l.errors import DocumentError
from d2l.files.child_side import reply, serve
from d2l.readers.parsing import ParseRequest


def main() -> None:
    """Parse what stdin holds, within the limits that it names."""
    serve(parse)


def parse(request: dict[str, Any], data: bytes) -> dict[str, Any]:
    """The text of a document and what to tell of it, or what is wrong with it."""
    format = request.pop("format")

    def tell(done: int, total: int, _label: str | None = None) -> None:
        reply({"progress": [done, total]})

    asked = ParseRequest(data=data, on_progress=tell, **request)
    try:
        parsed = read(format, asked)
    except DocumentError as error:
        return {"error": {"message": error.message, "hint": error.hint}}
    findings = [(f.kind, f.what, f.count, f.pages, f.lines) for f in parsed.findings]
    return {**parsed._asdict(), "findings": findings}
