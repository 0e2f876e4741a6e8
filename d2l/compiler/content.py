"""Plan and weights → adapter in memory: with its provenance, card, prompt and lock.

These contain only names of inputs that may be passed on.
"""

from collections.abc import Mapping, Sequence

from d2l.adapters.info import CARD
from d2l.adapters.lowest_rank import lower_content
from d2l.adapters.parts import PartIndex, PartRecord, Parts, digest_texts, keep_memories
from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.weights import LoraWeights, Memory
from d2l.compiler.card import write_card
from d2l.compiler.plan import CompilePlan
from d2l.compiler.privacy import name_shared, redact, redact_provenance
from d2l.compiler.records import describe_compile, describe_lock
from d2l.documents.chunks import keep_part
from d2l.hypernets.protocol import Assembled, PromptFiles


def make_content(
    plan: CompilePlan, assembled: Assembled, weights: LoraWeights, merge_error: Mapping[str, float]
) -> AdapterContent:
    """Make an adapter in memory, with its provenance; raises D2LError.

    `weights` are those of `assembled` after the cut by --max-rank, `merge_error` the relative error
    of each module's delta by the cut, empty without one.
    """
    names, prompt = name_shared(plan), plan.network.describe_prompt(plan.rank)
    records = _describe_chunks(plan, names)
    parts = _keep_parts(plan, assembled.parts, prompt, records)
    if parts is not None:
        records = ()
    record = describe_compile(plan, prompt.prompt, merge_error)
    record = record.model_copy(update=digest_texts(parts, records))
    lock, record = describe_lock(plan, names), redact_provenance(record, names)
    card = redact(write_card(plan), names)
    return lower_content(
        AdapterContent(
            weights=weights,
            n_base_layers=plan.config.n_base_layers,
            provenance=record,
            memory=assembled.memory,
            texts={**prompt.texts, CARD: card},
            dtype=plan.options.dtype,
            name=plan.file_name,
            lock=lock,
            parts=parts,
            records=records,
        )
    )


def _describe_chunks(plan: CompilePlan, names: Mapping[str, str]) -> tuple[PartRecord, ...]:
    """Describe place and text of each chunk, unless the adapter is to hold no text."""
    if plan.options.no_text:
        return ()
    owners = {document.name: document for document in plan.documents}
    chunks = plan.chunks
    if not plan.keeps_parts:
        chunks = tuple(keep_part(chunk, owners[chunk.document], 0) for chunk in chunks)
    return tuple(
        PartRecord(
            document=names.get(chunk.document, chunk.document),
            source=chunk.source,
            headings=chunk.headings,
            text=chunk.text,
            n_tokens=len(chunk.token_ids),
            n_seats=chunk.part_rank,
        )
        for chunk in chunks
    )


def _keep_parts(
    plan: CompilePlan,
    memories: Sequence[Memory],
    prompt: PromptFiles,
    records: tuple[PartRecord, ...],
) -> Parts | None:
    """The parts of a plan's chunks with their texts, if any are kept; for networks whose parts are
    ranks of the adapter nothing more is kept of them."""
    if not plan.keeps_parts:
        return None
    if not memories:
        return Parts(PartIndex(kind="ranks", parts=records))
    kind = plan.network.part_kind
    index = PartIndex(kind=kind, opening=prompt.opening, parts=records)
    given = {name: value for name in ("turns", "n_suffix") if (value := getattr(prompt, name))}
    index = index.model_copy(update=given)  # unset values are not written
    return keep_memories(index, memories, plan.config.part_bits)
