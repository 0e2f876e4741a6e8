"""Documents → a plan for one adapter of each, and what it is called: one compiler for them all."""

from dataclasses import replace
from pathlib import Path

from d2l.adapters import info as names
from d2l.api.compiler import Compiler
from d2l.compiler.names import name_adapters
from d2l.compiler.plan import CompilePlan
from d2l.documents.intake import Intake
from d2l.errors import AdapterError, DocumentError


def prepare_each(
    intake: Intake, folder: Path, compiler: Compiler
) -> tuple[list[tuple[CompilePlan, Path]], list[tuple[str, str]]]:
    """(a plan for each document with its adapter's folder below `folder`, documents that cannot be
    compiled with the reason); raises D2LError.

    A document that cannot be compiled fails the run, or is left out where it was read so that bad
    ones are.
    """
    if names.is_adapter(folder):
        raise AdapterError(
            f"{folder}: is an adapter, and --each writes a folder of adapters",
            hint="name another folder with -o",
        )
    documents = intake.documents
    alone = replace(intake.reading, skip_bad=False)  # nothing else could be gone on with
    planned, skipped = list[tuple[CompilePlan, Path]](), list[tuple[str, str]]()
    called = name_adapters([document.name for document in documents])
    for document, name in zip(documents, called, strict=True):
        try:
            plan = compiler.plan(Intake((document,), reading=alone))
        except DocumentError as error:
            if not intake.reading.skip_bad:
                raise
            skipped.append((document.name, error.message))
            continue
        planned.append((plan, folder / name))
    if not planned:
        raise DocumentError(
            f"none of {len(documents):,} documents can be compiled, the first because: "
            f"{skipped[0][1] if skipped else 'there is none'}"
        )
    return planned, skipped
