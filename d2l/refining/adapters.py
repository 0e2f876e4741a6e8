"""Refine an adapter in memory, and say so in its provenance and its card."""

from collections.abc import Sequence
from dataclasses import replace

from d2l.adapters.info import CARD
from d2l.adapters.lowest_rank import lower_content
from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.provenance import Provenance, Refinement
from d2l.bases.devices import pick_device
from d2l.bases.models import find_base
from d2l.change.parents import ChangeOptions, Parent, pick_dtype
from d2l.change.seats import load_seats_of
from d2l.compiler.plan import CompilePlan
from d2l.datasets.examples import pair_up
from d2l.documents.document import Document
from d2l.errors import AdapterError
from d2l.hypernets.network import Loaded
from d2l.hypernets.protocol import Assembled
from d2l.memory import memory_errors
from d2l.progress import Progress, silent
from d2l.refining.options import PARTS_HINT, RefineOptions, choose_refining, describe_refinement
from d2l.refining.refine import RefineJob, refine_numbers
from d2l.training.learners.document_data import Asked

#: More examples of a task than can be drilled in an hour.
_MOST_EXAMPLES = 5000
#: Sentences of the cards of compiled adapters, before and after steps.
_UNTUNED = "This adapter was not fine-tuned."
_TUNED = "This adapter was corrected by gradient steps on {}."


@memory_errors()
def refine_adapter(
    parent: Parent,
    documents: Sequence[Document],
    refining: RefineOptions,
    options: ChangeOptions,
    *,
    watch: Progress = silent,
) -> AdapterContent:
    """An adapter that d2l compiled, refined on its documents; with the same numbers if nothing was
    better. Finds its base and network. Raises D2LError."""
    made = check_refinable(parent)
    base = find_base(made.base.name, override=options.base, offline=options.offline)
    device = pick_device(options.device)
    seats = load_seats_of(parent, options) if parent.has_seats else None
    job = RefineJob(base, tuple(documents), refining, device, watch, seats)
    content = refine_content(parent.content, job)
    dtype = pick_dtype([parent], options.dtype, exact=True)
    return replace(content, dtype=dtype, name="refined.lora")


def refine_compiled(
    content: AdapterContent, plan: CompilePlan, loaded: Loaded, watch: Progress
) -> AdapterContent:
    """Refine an adapter that was compiled just now, as the plan's options ask; raises D2LError."""
    options = choose_refining(plan.options.refine, plan.options.refine_steps)
    assert options is not None
    options = replace(options, compare_lora=plan.options.compare_lora)
    job = RefineJob(plan.base, plan.documents, options, plan.device, watch, loaded.hypernet)
    if plan.given is not None and plan.examples is not None:  # of a task
        pairs = pair_up(plan.given.examples[:_MOST_EXAMPLES])
        examples = tuple(Asked(source, target) for source, target in pairs)
        read = tuple(row - 1 for row in plan.examples.rows)
        job = replace(job, documents=(), examples=examples, read=read)
    return refine_content(content, job)


def refine_content(content: AdapterContent, job: RefineJob) -> AdapterContent:
    """The same for an adapter in memory, with its base and its network at hand."""
    parent = Parent(content)
    made = check_refinable(parent)
    given = Assembled(content.weights, content.memory)
    refined, done = refine_numbers(given, job, bias_scale=float(parent.options.bias_scale))
    noted = note_refinement(made, done)
    known = {entry.sha256 for entry in made.inputs}
    if strange := [document.name for document in job.documents if document.digest not in known]:
        names = ", ".join(strange)
        warning = f"refined on {names}, which is not byte for byte what was compiled"
        noted = noted.model_copy(update={"warnings": (*noted.warnings, warning)})
    texts = dict(content.texts)
    if CARD in texts:
        tuned = _TUNED.format("solved examples" if job.examples else "its document's own text")
        card = texts[CARD].replace(_UNTUNED, tuned) if done.kept else texts[CARD]
        line = describe_refinement(done).rstrip(".")
        texts[CARD] = f"{card.rstrip()}\n- Refined: {line}.\n"
    return lower_content(
        replace(
            content,
            weights=refined.weights,
            memory=refined.memory,
            provenance=noted,
            texts=texts,
        )
    )


def note_refinement(made: Provenance, done: Refinement) -> Provenance:
    """The provenance with what was done. Steps move all ranks and seats, so that no chunk has its
    own any more."""
    chunks, warnings = made.chunks, made.warnings
    if done.kept:
        chunks = tuple(chunk.model_copy(update={"ranks": None}) for chunk in chunks)
    if done.reason is not None:
        warnings = (*warnings, done.reason)
    return made.model_copy(update={"chunks": chunks, "refinement": done, "warnings": warnings})


def check_refinable(parent: Parent) -> Provenance:
    """The provenance of an adapter that can be refined; raises AdapterError for others."""
    made, where = parent.provenance, parent.name
    if made is None or not made.chunks:
        raise AdapterError(
            f"{where}: was not compiled from a document by d2l",
            hint="compile the document with d2l",
        )
    if parent.parts is not None:
        raise AdapterError(
            f"{where}: is asked by parts, and refining changes only the memory that other engines "
            "load",
            hint=PARTS_HINT,
        )
    opening = parent.opening
    if opening is None:
        return made
    if not parent.has_seats:
        raise AdapterError(
            f"{where}: mixes seats with other adapters, and such seats cannot be seated again",
            hint="refine the adapter of the document, then merge again",
        )
    strengths = {float(chunk.scale) for chunk in parent.chunks} | {float(parent.options.scale)}
    if strengths != {1.0}:
        raise AdapterError(
            f"{where}: its seats have another strength than 1, and refining would make up for that",
            hint="refine the adapter at scale 1, then rescale it with `d2l edit`",
        )
    if parent.count_seats() != len(opening.seats):
        raise AdapterError(
            f"{where}: has {parent.count_seats()} seats and an opening of {len(opening.seats)}",
            hint="compile the remaining part of the document again, and refine that adapter",
        )
    return made
