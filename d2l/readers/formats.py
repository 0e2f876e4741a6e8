"""The table of formats: their suffixes, names and parsers. Imports no parser."""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from d2l.readers.parsing import Parsed, Parser


class FileFormat(NamedTuple):
    """A format: its suffixes, its name for people, its parser, and the process that parses it."""

    suffixes: tuple[str, ...]
    description: str
    parser: str  # module of `readers`, and function
    is_provable: bool = False  # the content alone decides
    sandboxed: bool = True  # parse in a child process whatever the size, under limits


FORMATS = {
    "pdf": FileFormat((".pdf",), "a PDF document", "pdf.reader:parse_pdf", True),
    "docx": FileFormat((".docx",), "a DOCX document", "docx:parse_docx", True),
    "epub": FileFormat((".epub",), "an EPUB book", "epub:parse_epub", True),
    "html": FileFormat((".html", ".htm", ".xhtml"), "an HTML page", "html:parse_html"),
    "markdown": FileFormat(
        (".md", ".markdown", ".mdx"), "Markdown text", "markdown:parse_markdown"
    ),
    "csv": FileFormat(
        (".csv", ".tsv"), "a table in text", "sheets:parse_delimited", sandboxed=False
    ),
    "srt": FileFormat((".srt", ".vtt"), "subtitles", "text:parse_subtitles", sandboxed=False),
    "eml": FileFormat((".eml", ".mhtml", ".mht"), "an e-mail", "mail:parse_mail"),
    "pptx": FileFormat((".pptx",), "a PowerPoint presentation", "converted:parse_converted", True),
    "xlsx": FileFormat((".xlsx",), "an Excel workbook", "sheets:parse_xlsx", True),
    "odt": FileFormat((".odt",), "an OpenDocument text", "converted:parse_converted", True),
    "rtf": FileFormat((".rtf",), "an RTF document", "converted:parse_converted", True),
    "ipynb": FileFormat((".ipynb",), "a Jupyter notebook", "converted:parse_converted"),
    "text": FileFormat(
        (".txt", ".text", ".rst", ".log", ".adoc", ".asciidoc", ".org", ".tex"),
        "plain text in any encoding",
        "text:parse_text",
        sandboxed=False,
    ),
}


def find_parser(format: str) -> Parser:
    """Import the parser of a format. Slow imports happen in the child process alone: they take
    longer than to read a page."""
    module, name = FORMATS[format].parser.split(":")
    parser: Callable[..., Parsed] = getattr(import_module(f"d2l.readers.{module}"), name)
    return parser
