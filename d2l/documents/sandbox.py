"""Run a parser in a child process, under limits of time, memory and output.

A parse request in, the parsed document out; every failure of the child becomes
one line. The child imports the parser; `files.child` runs the process.
"""

from dataclasses import dataclass

from d2l.errors import DocumentError
from d2l.files.child import Limits, Stopped, ask_child
from d2l.readers.findings import Finding
from d2l.readers.parsing import Heading, Parsed, ParseRequest, Section, damaged
from d2l.spelling import option

WORKER = "d2l.documents.worker"
MAX_LINE_BYTES_PER_CHAR = 12  # JSON spells one character in two escapes of six bytes at most
_NOT_JSON = ("data", "on_progress")  # fields of a request that do not go to the child as JSON
REPLY_OVERHEAD_BYTES = 1 << 24  # around the text: section heads, notes, progress


@dataclass(frozen=True)
class ReadLimits:
    """Bounds of reading one document; a manual of 1,000 pages stays within the defaults."""

    max_bytes: int = option(
        200_000_000, "Largest input file, in bytes.", of="limits", minimum=1, expert=True
    )
    max_chars: int = option(
        20_000_000, "Longest text of a file, in characters.", of="limits", minimum=1, expert=True
    )
    parse_seconds: float = option(
        300.0, "Longest time of a parser.", of="limits", minimum=0.1, expert=True
    )
    parse_memory: int = option(
        2_000, "Most memory of a parser, in MB.", of="limits", minimum=1, expert=True
    )

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                named = f"--{name.replace('_', '-')}"
                raise DocumentError(f"{named} {value:g}: not above 0", hint="give a larger limit")

    @property
    def memory_bytes(self) -> int:
        """Address space of the parser."""
        return self.parse_memory * 1_000_000


def run_in_child(request: ParseRequest, limits: ReadLimits) -> Parsed:
    """Parse in a child process, which has ended when this returns or raises."""
    fields = {key: value for key, value in vars(request).items() if key not in _NOT_JSON}
    reply_bytes = REPLY_OVERHEAD_BYTES + MAX_LINE_BYTES_PER_CHAR * request.max_chars
    bounds = Limits(limits.parse_seconds, limits.memory_bytes, reply_bytes)
    try:
        reply = ask_child(
            WORKER,
            fields,
            bounds,
            data=request.data,
            on_progress=request.on_progress,
        )
    except Stopped as stopped:
        raise explain(stopped, request, limits) from None
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


def explain(stopped: Stopped, request: ParseRequest, limits: ReadLimits) -> DocumentError:
    """Make the error for a child that ended without a reply."""
    if stopped.why == "time":
        done, option = f"took more than {limits.parse_seconds:g} seconds", "--parse-seconds"
    elif stopped.why in ("memory", "output"):
        size = limits.memory_bytes
        named = f"{size / 1e9:g} GB" if size >= 1e9 else f"{size / 1e6:g} MB"
        done, option = f"used more than {named} of memory", "--parse-memory"
    elif stopped.why == "crash":
        return damaged(request, "document", f"the parser crashed: {stopped.cause}")
    else:
        return damaged(request, f"{request.format} document", stopped.cause)
    return DocumentError(
        f"{request.name}: parser {done}",
        hint=f"raise the limit with {option} if you trust the file",
    )
