"""An adapter's provenance → the documents that it was compiled from, read again.

Only the text that was compiled is asked about or shown beside the adapter. If documents moved or
changed since, an error says so, and `--document` names them again.
"""

import os.path
from dataclasses import dataclass, replace
from pathlib import Path

from d2l.adapters.info import AdapterInfo
from d2l.adapters.provenance import Input, Provenance
from d2l.documents.document import Document, Source
from d2l.documents.inputs import may_hold, printable
from d2l.documents.read import read_document
from d2l.errors import AdapterError, DocumentError
from d2l.files.paths import find_path

_HINT = "name the document, or a copy of it, with --document FILE"


@dataclass(frozen=True)
class Stretch:
    """Characters [start, stop) of a document's text that belong to one chunk of the adapter;
    `chunk` is None where the adapter does not say which."""

    document: Document
    chunk: int | None
    start: int
    stop: int

    @property
    def place(self) -> str:
        """Where the stretch stands in its document: "p. 3-5", "§ Filters", or ""."""
        return self.document.where(self.start, self.stop)


@dataclass(frozen=True)
class Originals:
    """The documents of an adapter, and what was compiled of them in order of the chunks.

    `remarks` are for the user. `documents` holds one that was given with `--document` alone, if
    there is one, called as the adapter calls it.
    """

    documents: tuple[Document, ...]
    stretches: tuple[Stretch, ...]
    remarks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All documents in one prompt."""
        return "\n\n".join(document.text for document in self.documents)


def read_originals(info: AdapterInfo, given: str | None = None) -> Originals:
    """Read the adapter's documents from where they were, or the one given in their place.

    Raises AdapterError where the adapter does not know them, and DocumentError where one of them
    is gone, changed or unreadable.
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
    documents = tuple(_read_again(info, entry) for entry in entries.values())
    stretches = [s for document in documents for s in _find_stretches(made, document)]
    return Originals(documents, tuple(stretches))


def find_originals(info: AdapterInfo) -> Originals | None:
    """The adapter's documents, for callers that can do without: None where one is not known, gone,
    changed or unreadable."""
    try:
        return read_originals(info)
    except (AdapterError, DocumentError):
        return None


def find_page(document: Document, character: int) -> int | None:
    """The page on which a character of a document's text stands."""
    for start, stop, section in document.spans():
        if start <= character < stop:
            return section.page
    return None


def _read_again(info: AdapterInfo, entry: Input) -> Document:
    name = entry.name
    if name == "-":
        raise DocumentError(
            f"{info.folder}: was compiled from standard input, which is not kept", hint=_HINT
        )
    known, named = find_path(entry.sha256), Path(name)
    places = [named] if known is None else [known]
    if known is not None and os.path.exists(named):
        places.append(named)  # which may still hold it where the other has changed
    for place in places:
        document = _read_unchanged(info, entry, place)
        if document is not None:
            return document
    raise DocumentError(
        f"{name}: has changed since {info.folder} was compiled from it",
        hint=f"compile it again, or {_HINT}",
    )


def _read_unchanged(info: AdapterInfo, entry: Input, place: Path) -> Document | None:
    """The document at a place; None where something else is there, DocumentError where it cannot
    be read."""
    # os.path: a name that no file can have is none that exists, where `Path` raises.
    if os.path.exists(place) and not may_hold(place, entry.size_bytes):
        return None
    source = Source(entry.name, place, include_hidden=entry.include_hidden)
    try:
        document = read_document(source, format=entry.format)
    except DocumentError as error:
        raise DocumentError(
            f"{info.folder}: its document cannot be read again ({error.message})", hint=_HINT
        ) from error
    return document if document.digest == entry.sha256 else None


def _take_given(info: AdapterInfo, document: Document) -> Originals:
    """A document given by the user: known by its digest, else taken as it is, with a remark."""
    made = info.provenance
    for entry in () if made is None else made.inputs:
        if made is not None and entry.sha256 == document.digest:
            known = replace(document, name=entry.name)
            return Originals((known,), tuple(_find_stretches(made, known)))
    remark = (
        f"{document.name} is not byte for byte what {info.folder} was compiled from: "
        "what differs counts as forgotten"
    )
    return Originals((document,), (Stretch(document, None, 0, len(document.text)),), (remark,))


def _find_stretches(made: Provenance, document: Document) -> list[Stretch]:
    """The document's chunks; all of it as one where they do not name its characters, or name
    others than it has (read with another --encoding, say)."""
    length = len(document.text)
    chunks = [chunk for chunk in made.chunks if chunk.document == document.name]
    spans = [(chunk.index, *chunk.characters) for chunk in chunks if chunk.characters is not None]
    if not spans or len(spans) < len(chunks) or any(stop > length for _, _, stop in spans):
        return [Stretch(document, None, 0, length)]
    return [Stretch(document, *span) for span in spans]
