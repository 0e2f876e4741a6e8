"""What is written of a compilation: its numbers, and the texts and records of its folder.

A plan and its outcome in; provenance, card, prompt and lock out, in which inputs have the names
that may be passed on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from d2l.adapters.info import CARD
from d2l.adapters.lowest_rank import lower_content
from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.provenance import Description
from d2l.adapters.weights import LoraWeights
from d2l.compiler.card import write_card, write_description_card
from d2l.compiler.lock import describe
from d2l.compiler.plan import CompilePlan
from d2l.compiler.privacy import name_places, name_shared, redact, redact_provenance
from d2l.compiler.records import describe_compile, describe_description
from d2l.hypernets.protocol import Assembled


@dataclass(frozen=True)
class Outcome:
    """What a plan became: the weights that are written, and what is told of them.

    `assembled` is the adapter before --max-rank cut it, `merge_error` the relative error that the
    cut cost each module's delta.
    """

    weights: LoraWeights
    assembled: Assembled
    merge_error: Mapping[str, float] = field(default_factory=dict)


def make_content(plan: CompilePlan, outcome: Outcome) -> AdapterContent:
    """The adapter of documents in memory, with where it came from; raises D2LError."""
    names = name_shared(plan)
    record = describe_compile(plan, outcome.assembled, outcome.merge_error)
    return lower_content(
        AdapterContent(
            weights=outcome.weights,
            n_base_layers=plan.config.n_base_layers,
            provenance=redact_provenance(record, names),
            memory=outcome.assembled.memory,
            texts={**plan.network.write_texts(plan.rank), CARD: redact(write_card(plan), names)},
            dtype=plan.options.dtype,
            name=f"{PurePath(plan.documents[0].name).stem or 'documents'}.lora",
            lock=describe(plan, names),
        )
    )


def make_described(
    plan: CompilePlan, assembled: Assembled, description: Description
) -> AdapterContent:
    """The adapter of a task description in memory, with where it came from."""
    names = name_places(plan.checkpoint.name, plan.options.base)
    if PurePath(description.embedder).is_absolute():  # else the checkpoint's name for all
        names |= name_places(description.embedder)
    record = describe_description(plan, assembled, description)
    card = write_description_card(plan, description)
    return lower_content(
        AdapterContent(
            weights=assembled.weights,
            n_base_layers=plan.config.n_base_layers,
            provenance=redact_provenance(record, names),
            memory=assembled.memory,
            texts={**plan.network.write_texts(plan.rank), CARD: redact(card, names)},
            dtype=plan.options.dtype,
            name="task.lora",
        )
    )
