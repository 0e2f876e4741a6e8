"""What is written of a compilation: its numbers, and what its folder says of them.

A plan and its outcome in, all that goes into an adapter's folder out: provenance, card, prompt and
lock, in which inputs are called what is to be passed on of their names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from d2l.adapters.info import CARD
from d2l.adapters.lowest_rank import lower_content
from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.weights import LoraWeights
from d2l.compiler.card import write_texts
from d2l.compiler.lock import describe
from d2l.compiler.plan import CompilePlan
from d2l.compiler.privacy import name_shared, redact, redact_provenance
from d2l.compiler.records import describe_compile
from d2l.hypernets.protocol import Assembled

if TYPE_CHECKING:
    from d2l.refining.compiled import Refined


@dataclass(frozen=True)
class Outcome:
    """What came out of a plan: the weights that are written, and what is told of them.

    `assembled` is what the parts became before --max-rank cut it, `merge_error` what that cost each
    module's delta; `refined` is what was done to it on the documents, if anything.
    """

    weights: LoraWeights
    assembled: Assembled
    merge_error: Mapping[str, float] = field(default_factory=dict)
    refined: "Refined | None" = None


def make_content(plan: CompilePlan, outcome: Outcome) -> AdapterContent:
    """The adapter in memory, with where it came from; raises D2LError."""
    refined, names = outcome.refined, name_shared(plan)
    record = describe_compile(plan, outcome.assembled, outcome.merge_error)
    record = record if refined is None else refined.note(record)
    texts = write_texts(plan, None if refined is None else refined.done)
    content = AdapterContent(
        weights=outcome.weights,
        n_base_layers=plan.config.n_base_layers,
        provenance=redact_provenance(record, names),
        memory=outcome.assembled.memory,
        texts=texts | {CARD: redact(texts[CARD], names)},
        dtype=plan.options.dtype,
        name=f"{PurePath(plan.documents[0].name).stem or 'documents'}.lora",
        lock=describe(plan, names),
    )
    return lower_content(content)
