"""Formats that pandoc reads: presentations, OpenDocument and rich text, notebooks.

Bytes in, sections by heading out. The package `pypandoc_binary` has the program; it runs below the
parser's process, within its limits, and reaches neither files nor the network.
"""

from pathlib import Path

from d2l.errors import DocumentError
from d2l.files.child_side import run_program
from d2l.readers.archives import open_archive
from d2l.readers.formats import FORMATS
from d2l.readers.html import parse_tree, split_page, tell_pages
from d2l.readers.parsing import Parsed, ParseRequest, bound_text, damaged

ARCHIVES = ("pptx", "odt")
HEAP_EXHAUSTED = 251  # exit code


def parse_converted(request: ParseRequest) -> Parsed:
    """Convert a document to a page, and read it."""
    n_unread = 0
    if request.format in ARCHIVES:
        with open_archive(request, FORMATS[request.format].description) as archive:
            n_unread = sum(name.startswith("ppt/notesSlides/n") for name in archive.namelist())
    page = split_page(parse_tree(convert(request), request), sheets=())
    unread = (f"speaker notes of slides, which are not read: {n_unread}",) if n_unread else ()
    sections = tuple(bound_text(page.sections, request))
    return Parsed(sections, (*page.notes, *unread), *tell_pages([page]))


def convert(request: ParseRequest) -> str:
    """Convert a document to HTML; raises DocumentError if pandoc is missing or refuses it."""
    kind = FORMATS[request.format].description
    try:
        import pypandoc
    except ImportError:
        raise lacks_extra(request) from None
    program = Path(pypandoc.__file__).parent / "files" / "pandoc"
    command = [str(program), "--sandbox", f"--from={request.format}", "--to=html", "--wrap=none"]
    heap = ["+RTS", f"-M{request.max_unpacked_bytes}", "-RTS"]
    code, page = run_program([*command, *heap], request.data)
    if code == HEAP_EXHAUSTED:
        raise MemoryError
    if code:
        raise damaged(request, kind.partition(" ")[2], f"pandoc: exit code {code}")
    return page.decode("utf-8", "replace")


def lacks_extra(request: ParseRequest) -> DocumentError:
    """Make the error for a format whose converter is not installed."""
    message = f"{request.name}: {FORMATS[request.format].description} needs a converter"
    return DocumentError(message, hint="pip install 'd2l[formats]'")
