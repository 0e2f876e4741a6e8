"""Run a parser in a child process, under limits of time, memory and output.

A format name and a parse request in, the parsed document out; every failure of the child becomes
one line. The child imports the parser; `files.child` runs the process.
"""

from dataclasses import dataclass

from d2l.errors import DocumentError
from d2l.files.child import Limits, Stopped, ask_child
from d2l.readers.findings import Finding
from d2l.readers.parsing import Heading, Parsed, ParseRequest, Section, damaged

WORKER = "d2l.documents.worker"
MAX_LINE_BYTES_PER_CHAR = 12  # JSON spells one character in two escapes of six bytes at most
_NOT_JSON = ("data", "on_progress")  # fields of a request that do not go to the child as JSON
REPLY_OVERHEAD_BYTES = 1 << 24  # around the text: section heads, notes, progress


@dataclass(frozen=True)
class ReadLimits:
    """Bounds of reading one document; a manual of 1,000 pages stays within the defaults."""

    max_bytes: int = 200_000_000  # of the file
    max_chars: int = 20_000_000  # of its text
    seconds: float = 300.0  # of the parser, by the clock
    memory_bytes: int = 2_000_000_000  # of the parser, its address space

    def __post_init__(self) -> None:
        for option, value in (
            ("--max-bytes", self.max_bytes),
            ("--max-chars", self.max_chars),
            ("--parse-seconds", self.seconds),
            ("--parse-memory", self.memory_bytes),
        ):
            if not value > 0:
                raise DocumentError(f"{option} {value:g}: not above 0", hint="give a larger limit")


def run_in_child(format: str, request: ParseRequest, limits: ReadLimits) -> Parsed:
    """Parse in a child process, which has ended when this returns or raises."""
    fields = {key: value for key, value in vars(request).items() if key not in _NOT_JSON}
    reply_bytes = REPLY_OVERHEAD_BYTES + MAX_LINE_BYTES_PER_CHAR * request.max_chars
    bounds = Limits(limits.seconds, limits.memory_bytes, reply_bytes)
    try:
        reply = ask_child(
            WORKER,
            fields | {"format": format},
            bounds,
            data=request.data,
            on_progress=request.on_progress,
        )
    except Stopped as stopped:
        raise explain(stopped, format, request, limits) from None
    if "error" in reply:
        raise DocumentError(reply["error"]["message"], hint=reply["error"]["hint"])
    sections = tuple(
        Section(text, page, title, tuple(Heading(*heading) for heading in headings))
        for text, page, title, headings in reply["sections"]
    )
    findings = (
        Finding(kind, what, count, tuple(pages), tuple(lines))
        for kind, what, count, pages, lines in reply["findings"]
    )
    return Parsed(sections, tuple(reply["notes"]), tuple(findings), tuple(reply["remarks"]))


def explain(
    stopped: Stopped, format: str, request: ParseRequest, limits: ReadLimits
) -> DocumentError:
    """Make the error for a child that ended without a reply."""
    if stopped.why == "time":
        done, option = f"took more than {limits.seconds:g} seconds", "--parse-seconds"
    elif stopped.why in ("memory", "output"):
        size = limits.memory_bytes
        named = f"{size / 1e9:g} GB" if size >= 1e9 else f"{size / 1e6:g} MB"
        done, option = f"used more than {named} of memory", "--parse-memory"
    elif stopped.why == "crash":
        return damaged(request, "document", f"the parser crashed: {stopped.cause}")
    else:
        return damaged(request, f"{format} document", stopped.cause)
    return DocumentError(
        f"{request.name}: parser {done}",
        hint=f"raise the limit with {option} if you trust the file",
    )
