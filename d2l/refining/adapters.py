"""Where refining meets adapters: one that is being compiled, or one that was compiled before.

What is refined is re-seated or written as any other; the provenance then says what was done, and
that no chunk has ranks or seats of its own any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from d2l.adapters.info import CARD
from d2l.adapters.lowest_rank import lower_content
from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.provenance import Provenance, Refinement
from d2l.bases.models import find_base, pick_device
from d2l.bases.tokenizers import load_tokenizer
from d2l.change.parents import ChangeOptions, Parent, pick_dtype
from d2l.change.seats import load_seats_of, seat_again
from d2l.compiler.card import note_refinement
from d2l.compiler.plan import CompilePlan
from d2l.documents.document import Document
from d2l.errors import AdapterError, OptionError
from d2l.hypernets.protocol import Assembled, Hypernetwork, MergeOptions
from d2l.hypernets.seats.network import Seats
from d2l.progress import Progress, silent
from d2l.refining.options import RefineOptions
from d2l.refining.predicted import Job, refine_memory, refine_weights


@dataclass(frozen=True)
class Refined:
    """An adapter's new numbers, and what was done to them."""

    assembled: Assembled
    done: Refinement

    def note(self, made: Provenance) -> Provenance:
        """The provenance with what was done; a refined chunk has no rank of its own."""
        chunks = made.chunks
        if self.done.kept:
            chunks = tuple(chunk.model_copy(update={"ranks": None}) for chunk in chunks)
        warnings = made.warnings
        if self.done.reason is not None:
            warnings = (*warnings, self.done.reason)
        return made.model_copy(
            update={"chunks": chunks, "refinement": self.done, "warnings": warnings}
        )


def refine_compiled(
    plan: CompilePlan, hypernet: Hypernetwork, assembled: Assembled, watch: Progress
) -> Refined:
    """Refine what a plan's chunks were assembled to; raises D2LError."""
    options, merge = plan.options.refine, plan.options.merge
    assert options is not None
    job = Job(
        plan.base, load_tokenizer(plan.base.folder), plan.documents, options, plan.device, watch
    )
    if assembled.memory is None:
        weights, done = refine_weights(assembled.weights, job)
        return Refined(Assembled(weights), done)
    if merge.scale != 1.0:
        raise OptionError(
            f"a memory of strength {merge.scale:g} is not refined: what it lacks would be learned "
            "at that strength",
            hint="leave --scale at 1, or refine nothing",
        )
    assert isinstance(hypernet, Seats)
    memory, done = refine_memory(assembled.memory, hypernet, job, bias_scale=merge.bias_scale)
    if not done.kept:
        return Refined(assembled, done)
    again = hypernet.assemble([memory], MergeOptions(bias_scale=merge.bias_scale))
    return Refined(again, done)


def refine_adapter(
    parent: Parent,
    documents: Sequence[Document],
    refining: RefineOptions,
    options: ChangeOptions,
    *,
    watch: Progress = silent,
) -> AdapterContent:
    """An adapter that d2l compiled, corrected on its documents; raises D2LError.

    Where nothing was better, or nothing can be asked, its numbers are those that it had.
    """
    made = _check(parent)
    content = parent.content
    base = find_base(made.base.name, override=options.base, offline=options.offline)
    device = pick_device(options.device)
    job = Job(base, load_tokenizer(base.folder), tuple(documents), refining, device, watch)
    if parent.has_seats:
        refined = _refine_seats(parent, job, options)
    else:
        weights, done = refine_weights(content.weights, job)
        refined = Refined(Assembled(weights), done)
    provenance = refined.note(made).model_copy(
        update={"warnings": _warn(parent, refined, documents)}
    )
    changed = bool(refined.done.kept)
    assembled = refined.assembled if changed else Assembled(content.weights, content.memory)
    return lower_content(
        replace(
            content,
            weights=assembled.weights,
            memory=assembled.memory,
            provenance=provenance,
            texts=_note_on_card(content, refined.done),
            dtype=pick_dtype([parent], options.dtype, exact=True),
            name="refined.lora",
        )
    )


def _refine_seats(parent: Parent, job: Job, options: ChangeOptions) -> Refined:
    seats = load_seats_of(parent, options)
    strength = float(parent.options.bias_scale)
    memory, done = refine_memory(parent.memory, seats, job, bias_scale=strength)
    if not done.kept:
        return Refined(Assembled(parent.weights, parent.memory), done)
    ones = torch.ones(memory.n_seats, dtype=torch.float64)
    weights = seat_again(seats, memory, ones, bias_scale=strength)
    return Refined(Assembled(weights, memory), done)


def _check(parent: Parent) -> Provenance:
    """Refuse adapters that cannot be refined, each with its reason."""
    made, where = parent.provenance, parent.name
    if made is None or not made.chunks:
        raise AdapterError(
            f"{where}: was not compiled of a document by d2l", hint="compile the document with d2l"
        )
    if parent.opening is not None and not parent.has_seats:
        raise AdapterError(
            f"{where}: is a mixture of seats and other adapters, which cannot be seated again",
            hint="refine the adapter of the document, then merge again",
        )
    if not parent.has_seats:
        return made
    strengths = {float(chunk.scale) for chunk in parent.chunks} | {float(parent.options.scale)}
    if strengths != {1.0}:
        raise AdapterError(
            f"{where}: has seats of other strengths than 1, and refining would learn against them",
            hint="refine the adapter as it was compiled, then rescale it",
        )
    opening = parent.opening
    assert opening is not None
    if parent.count_seats() != len(opening.seats):
        raise AdapterError(
            f"{where}: has fewer seats than its opening, whose rest was left as the base has it",
            hint="compile what is left of the document anew, and refine that",
        )
    return made


def _warn(parent: Parent, refined: Refined, documents: Sequence[Document]) -> tuple[str, ...]:
    made = parent.provenance
    assert made is not None  # it was checked
    known = {entry.sha256 for entry in made.inputs}
    strange = [document.name for document in documents if document.digest not in known]
    found = list(made.warnings)
    if strange:
        found.append(
            f"refined on {', '.join(strange)}, which is not byte for byte what it was compiled from"
        )
    if refined.done.reason is not None:
        found.append(refined.done.reason)
    return tuple(found)


def _note_on_card(content: AdapterContent, done: Refinement) -> dict[str, str]:
    """The texts, the card with a line on what was done."""
    texts = dict(content.texts)
    if CARD in texts:
        texts[CARD] = note_refinement(texts[CARD], done)
    return texts
