"""Inputs → documents: every file, folder or stdin given, read one by one.

One bad input fails the run unless bad ones are to be skipped; then each is listed with its reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from d2l.documents.document import Document
from d2l.documents.inputs import expand_inputs
from d2l.documents.readers import read_document
from d2l.documents.sandbox import ReadLimits
from d2l.errors import DocumentError
from d2l.progress import Steps, ignore_steps


@dataclass(frozen=True)
class ReadOptions:
    """How inputs are read."""

    format: str | None = None
    encoding: str | None = None
    password: str | None = None
    skip_bad: bool = False
    limits: ReadLimits = field(default_factory=ReadLimits)


@dataclass(frozen=True)
class Intake:
    """What was read, and what was not: (name, reason); `ignored` are files of folders that no
    reader takes."""

    documents: tuple[Document, ...]
    skipped: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...] = ()


def read_inputs(
    inputs: Sequence[str], options: ReadOptions, progress: Steps = ignore_steps
) -> Intake:
    """Read all inputs in order; raises DocumentError if one is bad, or none is left."""
    if not inputs:
        raise DocumentError("no input was named", hint="name files, folders, or - for stdin")
    documents: list[Document] = []
    expanded = expand_inputs(inputs, skip_bad=options.skip_bad)
    skipped = [(name, error.message) for name, error in expanded.bad]
    for source in expanded.sources:
        try:
            documents.append(
                read_document(
                    source,
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
    return Intake(tuple(documents), tuple(skipped), expanded.ignored)


def make_limits(
    *,
    max_bytes: int | None,
    max_chars: int | None,
    seconds: float | None,
    memory_mb: int | None,
) -> ReadLimits:
    """Limits with the defaults where nothing was asked for."""
    usual = ReadLimits()
    return ReadLimits(
        max_bytes=usual.max_bytes if max_bytes is None else max_bytes,
        max_chars=usual.max_chars if max_chars is None else max_chars,
        seconds=usual.seconds if seconds is None else seconds,
        memory_bytes=usual.memory_bytes if memory_mb is None else memory_mb * 1_000_000,
    )
