"""EPUB: the chapters of a book in reading order.

Takes the bytes of a book, gives sections by heading; the table of contents is left out. Knows of
encryption only that it cannot be read.
"""

import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from d2l.errors import DocumentError
from d2l.readers.archives import open_archive, parse_xml, read_member
from d2l.readers.findings import gather
from d2l.readers.html import Page, list_notes, parse_tree, split_page
from d2l.readers.parsing import Parsed, ParseRequest, Section, bound_text, damaged
from d2l.readers.sniff import decode_html
from d2l.readers.styles import Sheet, read_use

KIND = "EPUB book"
CHAPTER_TYPES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml",
                 "text/x-oeb1-document")  # fmt: skip


def parse_epub(request: ParseRequest) -> Parsed:
    """Read the chapters that the book's spine lists."""
    with open_archive(request, KIND) as archive:
        chapters = list_chapters(archive, request)
        refuse_encrypted(archive, chapters, request)
        pages: list[Page] = []
        sections = tuple(bound_text(read_chapters(archive, chapters, request, pages), request))
    findings = gather(finding for page in pages for finding in page.findings)
    return Parsed(sections, list_notes(pages), findings)


def list_chapters(archive: zipfile.ZipFile, request: ParseRequest) -> list[str]:
    """Give the members to read, in reading order and without the table of contents."""
    container = parse_xml(
        read_member(archive, "META-INF/container.xml", request, KIND), request, KIND
    )
    package_path = next((e.get("full-path") for e in find_all(container, "rootfile")), None)
    if not package_path:
        raise damaged(request, KIND, "it names no package")
    package = parse_xml(read_member(archive, package_path, request, KIND), request, KIND)
    folder = posixpath.dirname(package_path)
    items = {item.get("id"): item for item in find_all(package, "item")}
    contents = {
        resolve(folder, reference.get("href", ""))
        for reference in find_all(package, "reference")
        if reference.get("type") == "toc"
    }
    chapters = []
    for reference in find_all(package, "itemref"):
        item = items.get(reference.get("idref"))
        if item is None or item.get("media-type") not in CHAPTER_TYPES:
            continue
        member = resolve(folder, item.get("href", ""))
        if "nav" not in item.get("properties", "").split() and member not in contents:
            chapters.append(member)
    return list(dict.fromkeys(chapters))  # a spine may list the parts of one member, by fragment


def find_all(root: Any, name: str) -> Iterator[Any]:
    """Yield descendants by local name, whatever namespace the producer chose."""
    yield from root.iter("{*}" + name)


def resolve(folder: str, href: str) -> str:
    """Give the member that a reference in the package names."""
    return posixpath.normpath(posixpath.join(folder, unquote(href.split("#")[0])))


def refuse_encrypted(archive: zipfile.ZipFile, chapters: list[str], request: ParseRequest) -> None:
    """Raise if chapters are encrypted; encrypted fonts do not matter."""
    if "META-INF/encryption.xml" not in archive.namelist():
        return
    listed = read_member(archive, "META-INF/encryption.xml", request, KIND)
    references = find_all(parse_xml(listed, request, KIND), "CipherReference")
    encrypted = {resolve("", reference.get("URI", "").lstrip("/")) for reference in references}
    if encrypted & set(chapters):
        raise DocumentError(
            f"{request.name}: protected by DRM; its chapters are encrypted",
            hint="give a copy without copy protection",
        )


def read_chapters(
    archive: zipfile.ZipFile, chapters: list[str], request: ParseRequest, pages: list[Page]
) -> Iterator[Section]:
    """Yield the sections of each chapter; one that lacks a heading goes on under the last.

    Chapters are added to `pages`, for their notes and findings.
    """
    heading = None
    sheets = _StyleSheets(archive, request)
    for number, member in enumerate(chapters, start=1):
        data = read_member(archive, member, request, KIND)
        request.on_progress(number, len(chapters))
        if not data.strip():
            continue
        markup = decode_html(data, f"{request.name}, {member}").text
        root = parse_tree(markup, request)
        page = split_page(
            root, sheets=sheets.find(root, member), include_hidden=request.include_hidden
        )
        pages.append(page)
        for section in page.sections:
            heading = section.heading or heading
            yield Section(section.text, heading=heading)


class _StyleSheets:
    """The style sheets that a book holds, each unpacked once."""

    def __init__(self, archive: zipfile.ZipFile, request: ParseRequest) -> None:
        self._archive = archive
        self._request = request
        self._names = set(archive.namelist())
        self._texts: dict[str, str] = {}

    def find(self, root: Any, chapter: str) -> list[Sheet]:
        """The sheets that a chapter links to; those that the book lacks count as empty."""
        sheets = []
        for link in root.iter("link"):
            member = resolve(posixpath.dirname(chapter), link.get("href", ""))
            use = read_use(link)
            if use is not False and member in self._names:
                sheets.append((self._read(member), bool(use)))
        return sheets

    def _read(self, member: str) -> str:
        if member not in self._texts:
            raw = read_member(self._archive, member, self._request, KIND)
            self._texts[member] = raw.decode("utf-8", "replace")
        return self._texts[member]
