"""ZIP containers of documents: open them, and bound the bytes that they unpack to."""

import posixpath
import zipfile
import zlib
from io import BytesIO
from typing import Any

import lxml.etree

from d2l.errors import DocumentError
from d2l.readers.parsing import ParseRequest, damaged

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError)


def open_archive(request: ParseRequest, kind: str) -> zipfile.ZipFile:
    """Open a container; raises DocumentError if its members unpack to more bytes than allowed."""
    try:
        archive = zipfile.ZipFile(BytesIO(request.data))
    except (*ZIP_ERRORS, ValueError):
        raise damaged(request, kind, "its ZIP directory cannot be read") from None
    unpacked_bytes = sum(member.file_size for member in archive.infolist())
    if unpacked_bytes > request.max_unpacked_bytes:
        raise DocumentError(
            f"{request.name}: unpacks to {unpacked_bytes:,} bytes, more than "
            f"{request.max_unpacked_bytes:,}",
            hint="raise the limit with --parse-memory if you trust the file",
        )
    return archive


def read_member(archive: zipfile.ZipFile, member: str, request: ParseRequest, kind: str) -> bytes:
    """Unpack one member; raises DocumentError if it is missing or broken."""
    try:
        return archive.read(member)
    except KeyError:
        raise damaged(request, kind, f"it has no {member}") from None
    except (*ZIP_ERRORS, RuntimeError, ValueError):
        raise damaged(request, kind, f"its part {member} cannot be unpacked") from None


def parse_xml(data: bytes, request: ParseRequest, kind: str) -> Any:
    """Parse XML without network and entities, within the parser's own limits."""
    parser = lxml.etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        return lxml.etree.fromstring(data, parser)
    except lxml.etree.LxmlError as error:
        raise damaged(request, kind, type(error).__name__) from None


def drop_dangling(data: bytes, request: ParseRequest, kind: str) -> bytes:
    """Remove an Office package's relations to missing members: Word ignores them, and some programs
    write them for deleted pictures."""
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        names = set(source.namelist())
        for name in source.namelist():
            member = source.read(name)
            if name.endswith(".rels"):
                relations = parse_xml(member, request, kind)
                folder = posixpath.dirname(posixpath.dirname(name))
                for relation in list(relations):
                    path = posixpath.join("/", folder, relation.get("Target", "").split("#")[0])
                    lacks = posixpath.normpath(path).lstrip("/") not in names
                    if lacks and relation.get("TargetMode") != "External":
                        relations.remove(relation)
                member = lxml.etree.tostring(relations)
            target.writestr(name, member)
    return out.getvalue()
