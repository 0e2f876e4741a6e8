"""A task description → adapter: it is compiled like a document, and recorded as a description.

`prepare` gives a plan, `run` the adapter in memory. Writes nothing, prints nothing.
"""

from dataclasses import replace
from typing import Any

from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.provenance import Description
from d2l.compiler import run as pipeline
from d2l.compiler.content import make_described
from d2l.compiler.plan import CompilePlan
from d2l.datasets.descriptions import check_description
from d2l.documents.document import Document
from d2l.documents.intake import Intake
from d2l.errors import CheckpointError, DescriptionError
from d2l.hypernets.familiarity import LEAST_FAMILIAR
from d2l.hypernets.network import AnyNetwork
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.protocol import Assembled

_LONGEST_NAME = 60  # characters of a description's name beside documents


def prepare(text: str, options: CompileOptions, network: AnyNetwork) -> CompilePlan:
    """Plan the adapter of a task description; raises DescriptionError, CheckpointError,
    BaseModelError or OptionError."""
    text = check_description(text)
    network.require("descriptions")
    assert network.reader  # refuses a model that does not fit
    if network.familiarity is None and options.strict:
        raise CheckpointError(
            f"{network.files.name}: does not say which descriptions it was trained on",
            hint="leave --strict out, which has nothing to compare with",
        )
    warnings = network.warnings
    intake = Intake((Document.from_text(text, name=name_task(text)),))
    chunks = network.cut(intake.documents, options)
    full, rank = network.count_ranks(chunks, options)
    return CompilePlan(network, tuple(chunks), intake, options, rank, full, warnings)


def name_task(text: str) -> str:
    """Name a description by its own beginning, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1].rstrip()}…"


def run(
    plan: CompilePlan, loaded: Any, read: Any = None, assembled: Assembled | None = None
) -> AdapterContent:
    """Make the adapter of a description, in memory; raises D2LError.

    `loaded` is what `pipeline.load` gave; `read` and `assembled` are what was computed ahead.
    """
    (document,) = plan.documents
    network, text = plan.network, document.text
    read = loaded.read_description(plan.chunks, text) if read is None else read
    familiarity = None
    if network.familiarity is not None:
        familiarity = loaded.measure(network.familiarity, read, text)
    warnings = (
        *plan.warnings,
        *_warn_unlike(plan, familiarity),
        *network.warn_description(plan.chunks),
        *loaded.warn_description(text),
    )
    assembled = assembled or pipeline.assemble(plan, loaded, first=read)
    description = Description(
        text=text,
        sha256=document.digest,
        embedder=network.embedder_name,
        familiarity=None if familiarity is None else round(familiarity, 4),
    )
    content = make_described(replace(plan, warnings=warnings), assembled, description)
    pipeline.remember_network(plan, content)
    return content


def _warn_unlike(plan: CompilePlan, familiarity: float | None) -> list[str]:
    """Warn if a description is unlike those of training; raises DescriptionError if the options
    are strict."""
    if familiarity is None or familiarity >= LEAST_FAMILIAR:
        return []
    unlike = (
        f"the description is unlike those that {plan.checkpoint.name} was trained on "
        f"(familiarity {familiarity:.2f}, below {LEAST_FAMILIAR:g}), so its adapter may do "
        "anything"
    )
    if plan.options.strict:
        raise DescriptionError(unlike, hint="say what the task is, or leave --strict out")
    return [unlike]
