"""A task description → adapter: it is compiled like a document, and recorded as a description.

`prepare` gives a plan, `run` the adapter in memory. Writes nothing, prints nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.provenance import Description, ExamplesRecord
from d2l.compiler import run as pipeline
from d2l.compiler.content import make_described
from d2l.compiler.plan import CompilePlan
from d2l.datasets.descriptions import check_description
from d2l.datasets.examples import ExampleFile, pair_up
from d2l.datasets.tasks import list_labels
from d2l.documents.chunks import Chunk
from d2l.documents.document import Document
from d2l.documents.intake import Intake
from d2l.errors import CheckpointError
from d2l.hypernets.familiarity import LEAST_FAMILIAR
from d2l.hypernets.network import AnyNetwork
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.registry import DEFAULT_TEXT

_LONGEST_NAME = 60  # characters of a description's name beside documents


def prepare(
    text: str,
    options: CompileOptions,
    network: AnyNetwork,
    examples: ExampleFile | None = None,
    *,
    keep_examples: bool = False,
) -> CompilePlan:
    """Plan the adapter of a task description, and of examples if there are any; with
    `keep_examples` d2l.json will hold those that are read.

    Raises DescriptionError, CheckpointError, BaseModelError, TaskError or OptionError.
    """
    text = check_description(text)
    network.require("descriptions")
    assert network.reader  # refuses a model that does not fit
    warnings = network.warnings
    intake = Intake((Document.from_text(text, name=name_task(text)),))
    record = None
    if examples is None:
        chunks = network.cut(intake.documents, options)
    else:
        chunk, record = _read_examples(network, intake.documents[0], examples, keep=keep_examples)
        chunks = [chunk]
        warnings = (*warnings, *_warn_unread(examples, record))
    full, rank = network.count_ranks(chunks, options)
    return CompilePlan(network, tuple(chunks), intake, options, rank, full, warnings, record)


def _read_examples(
    network: AnyNetwork, description: Document, file: ExampleFile, *, keep: bool
) -> tuple[Chunk, ExamplesRecord]:
    """The chunk of a description with examples, and what d2l.json says of these."""
    if not network.reads_examples:
        raise CheckpointError(
            f"{network.files.name}: reads descriptions, and no examples",
            hint=f"leave the examples out, or use the checkpoint {DEFAULT_TEXT}",
        )
    chunk, places = network.cut_examples(description, file.examples)
    record = ExamplesRecord(
        sha256=file.sha256, n=len(file.examples), rows=tuple(place + 1 for place in places)
    )
    if keep:
        texts = tuple(pair_up([file.examples[place] for place in places]))
        record = record.model_copy(update={"texts": texts})
    return chunk, record


def _warn_unread(file: ExampleFile, record: ExamplesRecord) -> list[str]:
    """Warn of labels that have no example among those that are read."""
    read = {file.examples[row - 1].outputs[0] for row in record.rows}
    missing = [label for label in list_labels(file.examples) if label not in read]
    if not missing:
        return []
    return [f"no example of {', '.join(map(repr, missing))} has room: the adapter sees none"]


def name_task(text: str) -> str:
    """Name a description by its own beginning, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1].rstrip()}…"


def run(plan: CompilePlan, loaded: Any) -> AdapterContent:
    """Make the adapter of a description, in memory; `loaded` is what `pipeline.load` gave.

    Raises D2LError.
    """
    (document,) = plan.documents
    network, text = plan.network, document.text
    turns, first_chunk = None, plan.chunks[0]
    if plan.examples is not None:
        turns = loaded.read(first_chunk.token_ids)
        # A pass over the description alone would tell next to the same: turns begin with it.
        (described, *_) = network.cut(plan.documents, plan.options)
        n_shared = _count_shared(described.token_ids, first_chunk.token_ids)
        read = turns.first(max(n_shared - loaded.encode.reading.skip_tokens, 1))
    else:
        read = loaded.read_description(plan.chunks, text)
    familiarity = None
    if network.familiarity is not None:
        familiarity = loaded.measure(network.familiarity, read, text)
    warnings = (
        *plan.warnings,
        *_warn_unlike(plan, familiarity),
        *network.warn_description(plan.chunks),
        *loaded.warn_description(text),
    )
    if turns is not None:
        part = loaded.copy_turns(turns, first_chunk.rank)
        assembled = pipeline.join([part], loaded, plan.options)
    else:
        assembled = pipeline.assemble(plan, loaded, first=read)
    description = Description(
        text=text,
        sha256=document.digest,
        embedder=network.embedder_name,
        familiarity=None if familiarity is None else round(familiarity, 4),
    )
    if plan.examples is not None:
        description = description.model_copy(update={"examples": plan.examples})
    content = make_described(replace(plan, warnings=warnings), assembled, description)
    pipeline.remember_network(plan, content)
    return content


def _count_shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two chunks begin with alike."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _warn_unlike(plan: CompilePlan, familiarity: float | None) -> list[str]:
    """Warn if a description is unlike those of training."""
    if familiarity is None or familiarity >= LEAST_FAMILIAR:
        return []
    return [
        f"the description is unlike those that {plan.checkpoint.name} was trained on "
        f"(familiarity {familiarity:.2f}, below {LEAST_FAMILIAR:g}), so its adapter may do "
        "anything"
    ]
