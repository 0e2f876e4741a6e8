"""EPUB: the chapters of a book in reading order.

Bytes in, sections by heading out; the table of contents is left out. Encrypted books are refused.
"""

import posixpath
import zipfile
from collections.abc import Iterator
from functools import cache
from urllib.parse import unquote

from d2l.errors import DocumentError
from d2l.readers.archives import open_archive, parse_xml, read_member
from d2l.readers.html import Page, parse_tree, split_page, tell_pages
from d2l.readers.parsing import Parsed, ParseRequest, Section, bound_text, damaged
from d2l.readers.sniff import decode_html
from d2l.readers.styles import read_use

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
    notes = dict.fromkeys(note for page in pages for note in page.notes)
    return Parsed(sections, tuple(notes), *tell_pages(pages))


def list_chapters(archive: zipfile.ZipFile, request: ParseRequest) -> list[str]:
    """List the members to read, in reading order and without the table of contents."""
    container = parse_xml(
        read_member(archive, "META-INF/container.xml", request, KIND), request, KIND
    )
    package_path = next((e.get("full-path") for e in container.iter("{*}rootfile")), None)
    if not package_path:
        raise damaged(request, KIND, "it names no package")
    package = parse_xml(read_member(archive, package_path, request, KIND), request, KIND)
    folder = posixpath.dirname(package_path)
    items = {item.get("id"): item for item in package.iter("{*}item")}
    contents = {
        resolve(folder, reference.get("href", ""))
        for reference in package.iter("{*}reference")
        if reference.get("type") == "toc"
    }
    chapters = []
    for reference in package.iter("{*}itemref"):
        item = items.get(reference.get("idref"))
        if item is None or item.get("media-type") not in CHAPTER_TYPES:
            continue
        member = resolve(folder, item.get("href", ""))
        if "nav" not in item.get("properties", "").split() and member not in contents:
            chapters.append(member)
    return list(dict.fromkeys(chapters))  # a spine may list fragments of one member


def resolve(folder: str, href: str) -> str:
    """Resolve a reference in the package to a member."""
    return posixpath.normpath(posixpath.join(folder, unquote(href.split("#")[0])))


def refuse_encrypted(archive: zipfile.ZipFile, chapters: list[str], request: ParseRequest) -> None:
    """Raise DocumentError if chapters are encrypted; encrypted fonts do not matter."""
    if "META-INF/encryption.xml" not in archive.namelist():
        return
    listed = read_member(archive, "META-INF/encryption.xml", request, KIND)
    references = parse_xml(listed, request, KIND).iter("{*}CipherReference")
    encrypted = {resolve("", reference.get("URI", "").lstrip("/")) for reference in references}
    if encrypted & set(chapters):
        raise DocumentError(
            f"{request.name}: protected by DRM; its chapters are encrypted",
            hint="give a copy without copy protection",
        )


def read_chapters(
    archive: zipfile.ZipFile, chapters: list[str], request: ParseRequest, pages: list[Page]
) -> Iterator[Section]:
    """Yield the sections of each chapter; a chapter without a heading continues the last.

    Chapters are added to `pages`, for their notes and findings.
    """
    heading = None
    members = set(archive.namelist())

    @cache
    def read_sheet(member: str) -> str:
        return read_member(archive, member, request, KIND).decode("utf-8", "replace")

    for number, member in enumerate(chapters, start=1):
        data = read_member(archive, member, request, KIND)
        request.on_progress(number, len(chapters))
        if not data.strip():
            continue
        markup = decode_html(data, f"{request.name}, {member}").text
        root = parse_tree(markup, request)
        for body in root.iter("body"):  # no menus of a site stand around a chapter
            body.set("role", "main")
        folder = posixpath.dirname(member)
        links = [(resolve(folder, e.get("href", "")), read_use(e)) for e in root.iter("link")]
        # Missing sheets count as empty; the last use of a sheet counts.
        used = dict.fromkeys(
            (name, use) for name, use in reversed(links) if use is not False and name in members
        )
        sheets = [(read_sheet(name), bool(use)) for name, use in reversed(used)]
        page = split_page(root, sheets=sheets, include_hidden=request.include_hidden)
        pages.append(page)
        for section in page.sections:
            heading = section.heading or heading
            yield section._replace(heading=heading)
