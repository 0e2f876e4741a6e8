"""Path or standard input → a document, whatever its format.

This module decides the format and bounds the work. Parsers of formats that can hide hostile content
run in a child process; `readers.formats` names them.
"""

import hashlib
import logging
import re
import sys
from pathlib import Path

from d2l.documents.document import Document, Source
from d2l.documents.sandbox import ReadLimits, run_in_child
from d2l.documents.screening.screen import screen
from d2l.errors import DocumentError
from d2l.progress import Steps, ignore_steps, log_time
from d2l.readers.findings import describe
from d2l.readers.formats import FORMATS, find_parser
from d2l.readers.parsing import Parsed, ParseRequest, all_hidden
from d2l.readers.sniff import BINARY, Content, sniff

_log = logging.getLogger(__name__)

#: Larger texts are parsed in a child process, too, where the time is limited.
IN_PROCESS_BYTES = 200_000


def read_document(
    source: Source,
    *,
    format: str | None = None,
    password: str | None = None,
    encoding: str | None = None,
    limits: ReadLimits | None = None,
    on_progress: Steps = ignore_steps,
) -> Document:
    """Read one source; the same bytes always give the same document.

    `format` is a key of `formats.FORMATS` and overrides the suffix, but not a format proven by the
    content.
    Hidden text is counted, and left out unless the source includes it.
    """
    limits = limits or ReadLimits()
    data = read_bytes(source, limits)
    content = sniff(data)
    if encoding and content.words == BINARY:  # the user knows better
        content = Content("text", "text")
    name = choose_format(source, content, format)
    request = ParseRequest(
        source.name,
        data,
        password,
        encoding,
        limits.max_chars,
        limits.memory_bytes // 2,
        on_progress,
        source.include_hidden,
        name,
    )
    in_child = FORMATS[name].sandboxed or len(data) > IN_PROCESS_BYTES
    with log_time(_log, "read %s as %s%s", request.name, name, ", in a child" * in_child):
        parsed = run_in_child(request, limits) if in_child else parse(request)
    return make_document(source, request, parsed)


def parse(request: ParseRequest) -> Parsed:
    """Parse with the parser of the request's format, and screen the text."""
    return screen(find_parser(request.format)(request), request)


def make_document(source: Source, request: ParseRequest, parsed: Parsed) -> Document:
    """Make a document of text and provenance; refuse a document without text."""
    if not any(section.text.strip() for section in parsed.sections):
        if any(finding.kind == "hidden" for finding in parsed.findings):
            raise all_hidden(request, parsed.findings)
        raise DocumentError(
            f"{source.name}: no text in this {request.format} document",
            hint="; ".join(parsed.remarks) or "give a document that has text",
        )
    for finding in parsed.findings:
        if finding.kind == "furniture":
            _log.info("%s: %s", source.name, describe(finding))
    return Document(
        source.name,
        request.format,
        parsed.sections,
        hashlib.sha256(request.data).hexdigest(),
        len(request.data),
        parsed.notes,
        parsed.findings,
        request.include_hidden,
        source.shared,
        (*name_disguise(source, request.format), *parsed.remarks),
    )


def name_disguise(source: Source, format: str) -> tuple[str, ...]:
    """Give a remark if a file is read as another format than that of its suffix."""
    suffix = source.path.suffix.lower() if source.path is not None else ""
    others = [name for name, known in FORMATS.items() if suffix in known.suffixes]
    return (f"is {FORMATS[format].description}",) if others and format not in others else ()


def read_bytes(source: Source, limits: ReadLimits) -> bytes:
    """Read a source whole, but never more than allowed."""
    if source.data is not None:
        data = source.data[: limits.max_bytes + 1]
    elif source.path is not None:
        data = read_file(source.name, source.path, limits.max_bytes + 1)
    elif sys.stdin is None:
        raise DocumentError("-: standard input is closed", hint="pipe a document in, or name one")
    else:
        data = sys.stdin.buffer.read(limits.max_bytes + 1)
    if len(data) > limits.max_bytes:
        raise DocumentError(
            f"{source.name}: larger than {limits.max_bytes:,} bytes",
            hint="raise the limit with --max-bytes, or split the document",
        )
    if not data.strip(b"\x00 \t\r\n\x0b\x0c\xef\xbb\xbf"):
        subject = "the file" if source.path is not None else "standard input"
        raise DocumentError(
            f"{source.name}: {subject} is empty" + (" but for white space" if data else ""),
            hint="give a document that has text",
        )
    return data


def read_file(name: str, path: Path, n_bytes: int) -> bytes:
    """Read a file, at most so many bytes; raises DocumentError with the reason."""
    try:
        with path.open("rb") as file:
            return file.read(n_bytes)
    except IsADirectoryError:
        hint = "give the folder to the command itself: it reads the documents in it"
        raise DocumentError(f"{name}: is a folder, not a document", hint=hint) from None
    except FileNotFoundError:
        raise DocumentError(f"{name}: no such file or folder", hint="check the path") from None
    except PermissionError:
        hint = "make it readable for you, for example with chmod u+r"
        raise DocumentError(f"{name}: no permission to read it", hint=hint) from None
    except OSError as error:
        raise DocumentError(f"{name}: {error.strerror or error}", hint="check the path") from None
    except ValueError:  # a lone surrogate or a zero byte
        raise DocumentError(f"{name}: not a valid file name", hint="check the path") from None


def choose_format(source: Source, content: Content, asked: str | None) -> str:
    """Decide by content, then by the user's choice, then by suffix.

    The content alone makes a PDF, DOCX or EPUB; a file with their suffix, but other content, is
    refused.
    """
    if asked is not None and asked not in FORMATS:
        raise DocumentError(
            f"{source.name}: there is no format called {asked}",
            hint=f"the formats are {', '.join(FORMATS)}",
        )
    suffix = source.path.suffix.lower() if source.path is not None else ""
    claimed = asked or next((n for n, known in FORMATS.items() if suffix in known.suffixes), None)
    proven, is_provable = (
        name is not None and name in FORMATS and FORMATS[name].is_provable
        for name in (content.format, claimed)
    )
    if content.format and proven and asked in (None, content.format):
        return content.format
    is_markup = content.format == "xml" and asked is None and claimed in (None, "text")
    if content.format is None or proven or is_provable or is_markup:
        raise refuse_content(source, content, asked, claimed)
    if asked is not None:
        return asked
    if content.format == "html" and claimed != "markdown":
        return "html"
    return claimed or "text"


def refuse_content(
    source: Source, content: Content, asked: str | None, claimed: str | None
) -> DocumentError:
    """Make the error for unfit content: it names the likely format, and a way to read it."""
    is_provable = claimed is not None and FORMATS[claimed].is_provable
    not_that = f"not {FORMATS[claimed].description}; " if claimed and is_provable else ""
    if content.format == "xml":
        hint = "convert it, for example with pandoc to HTML, or read its source with --format text"
    elif content.format is not None:
        hint = f"read it as what it is with --format {content.format}"
        if asked is None and content.format != "text":
            hint += ", or rename it"
    elif "encrypted" in content.words:
        hint = "open it in Word, remove the password and save it as .docx"
    elif re.search("Office|Excel|PowerPoint|OpenDocument|document", content.words):
        hint = "open it in its own program and save it as DOCX or PDF"
    else:
        hint = f"give a document: {', '.join(FORMATS)}"
    return DocumentError(f"{source.name}: {not_that}this is {content.words}", hint=hint)
