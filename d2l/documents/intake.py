"""InputLike → documents: files, folders and standard input, read one by one.

A bad input raises, or is listed with its reason if bad inputs are to be skipped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from d2l.documents.document import Document
from d2l.documents.inputs import expand_inputs
from d2l.documents.read import read_document
from d2l.documents.sandbox import ReadLimits
from d2l.errors import DocumentError
from d2l.progress import Steps, ignore_steps
from d2l.readers.findings import describe
from d2l.spelling import option

Format = Literal[
    "pdf", "docx", "epub", "html", "markdown", "csv", "srt", "eml", "pptx", "xlsx", "odt", "rtf",
    "ipynb", "text",
]  # fmt: skip
_MANY = ("batch",)  # commands that read many documents


@dataclass(frozen=True)
class ReadOptions:
    """Options of reading inputs."""

    format: Format | None = option(
        None, "Format of the inputs; default: by their content.", of="input", expert=True
    )
    encoding: str | None = option(
        None, "Encoding of text; default: by its content.", of="input", also=_MANY, expert=True
    )
    password: str | None = option(
        None, "Password of encrypted PDFs.", of="input", also=_MANY, expert=True
    )
    skip_bad: bool = option(False, "Go on without inputs that cannot be read.", of="input")
    include_hidden: bool = option(
        False, "Compile text that no reader sees, too.", of="input", also=_MANY, expert=True
    )
    follow_links: bool = option(
        False, "Read links that leave a folder, too.", of="input", also=_MANY, expert=True
    )
    limits: ReadLimits = field(default_factory=ReadLimits)

    def record(self) -> dict[str, str | bool | None]:
        """Options that change the text, by name, as JSON values; never the password."""
        return {
            "format": self.format,
            "encoding": self.encoding,
            "include_hidden": self.include_hidden,
            "skip_bad": self.skip_bad,
        }


@dataclass(frozen=True)
class Intake:
    """Documents, and skipped inputs as (name, reason). `ignored` are files of folders that no
    reader takes; `reading` are the options."""

    documents: tuple[Document, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    reading: ReadOptions = field(default_factory=ReadOptions)

    @property
    def warnings(self) -> list[str]:
        """A line for each sort of finding in a document, for text that may be missing or wrong, and
        for each skipped input."""
        findings = [
            f"{document.name}: {describe(finding, include_hidden=document.include_hidden)}"
            for document in self.documents
            for finding in document.findings
            if finding.kind != "furniture"
        ]
        notes = [
            f"{document.name}: {note}" for document in self.documents for note in document.notes
        ]
        skipped = [describe_skipped(name, reason) for name, reason in self.skipped]
        return [*findings, *notes, *skipped]

    @property
    def remarks(self) -> list[str]:
        """Remarks of readers, and one line for ignored files."""
        remarks = [f"{doc.name}: {remark}" for doc in self.documents for remark in doc.remarks]
        if not self.ignored:
            return remarks
        shown = ", ".join(self.ignored[:3]) + (", …" if len(self.ignored) > 3 else "")
        files = "file" if len(self.ignored) == 1 else "files"
        return [*remarks, f"passed over {len(self.ignored)} {files} of other kinds: {shown}"]


#: Input to compile: a path, "-" for standard input, a document, several of these, or an intake.
InputLike = str | Path | Document | Sequence[str | Path | Document] | Intake


def refuse_warnings(messages: Sequence[str]) -> None:
    """Raise DocumentError if there are warnings, as `--strict` asks."""
    if messages:
        more = f" (and {len(messages) - 1:,} more)" if len(messages) > 1 else ""
        raise DocumentError(
            f"--strict: {messages[0]}{more}", hint="mend what it warns of, or leave --strict out"
        )


def describe_skipped(name: str, reason: str) -> str:
    """Describe an input that is left out, in one line."""
    return f"skipped {reason if reason.startswith(name) else f'{name}: {reason}'}"


def take_inputs(inputs: InputLike, options: ReadOptions) -> Intake:
    """Read the documents that paths lead to, and take documents as they are; raises DocumentError,
    and TypeError for values of other types."""
    if isinstance(inputs, Intake):
        return inputs
    if isinstance(inputs, str) or not isinstance(inputs, Iterable):
        inputs = [inputs]
    items = list(inputs)
    if not all(isinstance(item, str | Path | Document) for item in items):
        raise TypeError(
            f"{inputs!r:.80} cannot be compiled: give a path, a Document, or several of these "
            "(d2l.Document.from_text makes a Document of text)"
        )
    paths = [str(item) for item in items if not isinstance(item, Document)]
    if len(paths) == len(items):
        return read_inputs(paths, options)
    read = [
        Intake((item,)) if isinstance(item, Document) else read_inputs([str(item)], options)
        for item in items
    ]
    return Intake(
        tuple(document for intake in read for document in intake.documents),
        tuple(row for intake in read for row in intake.skipped),
        tuple(name for intake in read for name in intake.ignored),
        options,
    )


def read_inputs(
    inputs: Sequence[str], options: ReadOptions, progress: Steps = ignore_steps
) -> Intake:
    """Read all inputs in order; raises DocumentError if one is bad, or none is left."""
    if not inputs:
        raise DocumentError("no input was named", hint="name files, folders, or - for stdin")
    documents: list[Document] = []
    expanded = expand_inputs(inputs, skip_bad=options.skip_bad, follow_links=options.follow_links)
    skipped = [(name, error.message) for name, error in expanded.bad]
    for source in expanded.sources:
        try:
            documents.append(
                read_document(
                    replace(source, include_hidden=options.include_hidden),
                    format=options.format,
                    encoding=options.encoding,
                    password=options.password,
                    limits=options.limits,
                    on_progress=progress,
                )
            )
        except DocumentError as error:
            if not options.skip_bad:
                raise
            skipped.append((source.name, error.message))
    if not documents:
        raise DocumentError(
            f"none of {len(skipped)} inputs could be read, the first because: {skipped[0][1]}",
            hint="run without --skip-bad to see what to do about the first",
        )
    return Intake(tuple(documents), tuple(skipped), expanded.ignored, options)
