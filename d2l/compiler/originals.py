"""An adapter's provenance → the documents that it was compiled from, read again.

Only the text that was compiled is asked about or shown beside the adapter. If documents moved or
changed since, an error says so, and `--document` names them again.
"""

import os.path
from dataclasses import dataclass, replace
from pathlib import Path

from d2l.adapters.info import AdapterInfo
from d2l.adapters.provenance import Input
from d2l.documents.document import Document, Source
from d2l.documents.inputs import may_hold, printable
from d2l.documents.read import read_document
from d2l.errors import AdapterError, DocumentError
from d2l.files.known_paths import find_path

_HINT = "name the document, or a copy of it, with --document FILE"


@dataclass(frozen=True)
class Originals:
    """The documents of an adapter; `remarks` are for the user.

    A document given with `--document` stands alone, under the name that the adapter knows.
    """

    documents: tuple[Document, ...]
    remarks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Text of the documents, for one prompt."""
        return "\n\n".join(document.text for document in self.documents)


def read_originals(info: AdapterInfo, given: str | None = None) -> Originals:
    """Read the adapter's documents from where they were, or the one given in their place.

    Raises AdapterError if the adapter does not name them, and DocumentError if any is gone,
    changed or unreadable.
    """
    made = info.provenance
    if given is not None:
        source = Source(printable(given), Path(given))
        document = read_document(source)
        with_hidden = [e.sha256 for e in (made.inputs if made else ()) if e.include_hidden]
        if document.digest in with_hidden:
            document = read_document(replace(source, include_hidden=True))
        return _take_given(info, document)
    if made is None or not made.inputs:
        raise AdapterError(
            f"{info.folder}: does not say what it was compiled from",
            hint="name the document with --document FILE",
        )
    entries = {entry.name: entry for entry in made.inputs}  # a file may be given twice
    return Originals(tuple(_read_again(info, entry) for entry in entries.values()))


def find_originals(info: AdapterInfo) -> Originals | None:
    """Read the adapter's documents; None if one is unknown, gone, changed or unreadable."""
    try:
        return read_originals(info)
    except (AdapterError, DocumentError):
        return None


def _read_again(info: AdapterInfo, entry: Input) -> Document:
    name = entry.name
    if name == "-":
        raise DocumentError(
            f"{info.folder}: was compiled from standard input, which is not kept", hint=_HINT
        )
    known, named = find_path(entry.sha256), Path(name)
    paths = [named] if known is None else [known]
    if known is not None and os.path.exists(named):
        paths.append(named)  # it may be unchanged, though the other has changed
    for path in paths:
        document = _read_unchanged(info, entry, path)
        if document is not None:
            return document
    raise DocumentError(
        f"{name}: has changed since {info.folder} was compiled from it",
        hint=f"compile it again, or {_HINT}",
    )


def _read_unchanged(info: AdapterInfo, entry: Input, path: Path) -> Document | None:
    """Read the document at a path; None for another file, DocumentError for an unreadable one."""
    # os.path: `Path` raises for a name that no file can have.
    if os.path.exists(path) and not may_hold(path, entry.size_bytes):
        return None
    source = Source(entry.name, path, include_hidden=entry.include_hidden)
    try:
        document = read_document(source, format=entry.format)
    except DocumentError as error:
        raise DocumentError(
            f"{info.folder}: its document cannot be read again ({error.message})", hint=_HINT
        ) from error
    return document if document.digest == entry.sha256 else None


def _take_given(info: AdapterInfo, document: Document) -> Originals:
    """Take a document given by the user: known by its digest, else with a remark."""
    made = info.provenance
    for entry in () if made is None else made.inputs:
        if entry.sha256 == document.digest:
            return Originals((replace(document, name=entry.name),))
    remark = (
        f"{document.name} is not byte for byte what {info.folder} was compiled from: "
        "what differs counts as forgotten"
    )
    return Originals((document,), (remark,))
