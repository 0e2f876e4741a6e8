"""Records and texts of a changed adapter: `d2l.json`, the card, and the files of its prompts.

Parents and new weights in, an adapter in memory out. Opens no file but the parents' tokenizers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from d2l.adapters import module_names
from d2l.adapters.card import FOLDER, KNOWS_NOTHING, LOADING, literal, quote, write_head, write_list
from d2l.adapters.info import CARD, CHAT_TEMPLATE, TOKENIZER
from d2l.adapters.lowest_rank import find_lowest, lower_content
from d2l.adapters.parts import PartRecord, Parts, digest_texts
from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.provenance import (
    Base,
    Checkpoint,
    Input,
    Options,
    Prompt,
    Provenance,
)
from d2l.bases.catalog import spell_base
from d2l.change.kinds import Changed
from d2l.change.parents import Parent
from d2l.compiler.records import TOOL, shorten_all
from d2l.errors import AdapterError
from d2l.hypernets.network import BASE_PROMPT
from d2l.hypernets.seats.opening import chat_template, describe_prompt
from d2l.version import __version__


@dataclass(frozen=True)
class Change:
    """Change: a verb and its values, for d2l.json; `title`: the card's.

    `made`: the weights, and the chunks with their new ranks.
    """

    verb: str  # "merge" or "edit"
    values: Mapping[str, Any]
    title: str
    made: Changed
    warnings: tuple[str, ...] = ()
    merge_error: Mapping[str, float] = field(default_factory=dict)
    parts: Parts | None = None
    records: tuple[PartRecord, ...] = ()


def describe(parents: Sequence[Parent], change: Change, *, dtype: str, name: str) -> AdapterContent:
    """Make the new adapter at its lowest rank, with its record and texts; raises AdapterError."""
    texts = {CARD: _write_card(parents, change)}
    prompt = BASE_PROMPT
    if change.made.seats is not None:
        prompt = describe_prompt(*change.made.seats)
        texts |= {CHAT_TEMPLATE: chat_template(*change.made.seats), **_take_tokenizer(parents)}
    return lower_content(
        AdapterContent(
            weights=change.made.weights,
            n_base_layers=None,
            provenance=_describe_change(parents, change, prompt),
            memory=change.made.memory,
            texts=texts,
            dtype=dtype,
            name=name,
            parts=change.parts,
            records=change.records,
        )
    )


def _describe_change(parents: Sequence[Parent], change: Change, prompt: Prompt) -> Provenance:
    """Make the new provenance, with the parents' own; inputs are the documents of its chunks."""
    known = [parent.provenance for parent in parents if parent.provenance is not None]
    first, weights = parents[0].provenance, change.made.weights
    same = all(parent.checkpoint == parents[0].checkpoint for parent in parents)
    mixture = Checkpoint(name=change.verb, network="mixture", sha256=None)
    return Provenance(
        tool=TOOL,
        checkpoint=first.checkpoint if first is not None and same else mixture,
        base=first.base if first is not None else Base(name=weights.base, sha256=None),
        inputs=_join_inputs(known, {chunk.document for chunk in change.made.chunks}),
        skipped=tuple(row for provenance in known for row in provenance.skipped),
        chunks=tuple(
            chunk.model_copy(update={"index": index})
            for index, chunk in enumerate(change.made.chunks)
        ),
        rank=weights.rank,
        options=_join_options(parents),
        merge_error=shorten_all(change.merge_error),
        prompt=prompt,
        warnings=change.warnings,
        parents=tuple(map(_describe_parent, parents)),
    ).model_copy(
        update={change.verb: dict(change.values)} | digest_texts(change.parts, change.records)
    )


def _join_inputs(parents: Sequence[Provenance], left: set[str]) -> tuple[Input, ...]:
    """Join the parents' documents that are `left`, each once."""
    rows = [row for provenance in parents for row in provenance.inputs]
    return tuple(row for n, row in enumerate(rows) if row.name in left and row not in rows[:n])


def _join_options(parents: Sequence[Parent]) -> Options:
    """Join the options that all parents share; strengths are in the chunks and in the weights."""
    first, *others = (parent.options.to_json() for parent in parents)
    shared = {
        name: value
        for name, value in first.items()
        if all(other.get(name) == value for other in others)
    }
    return Options.model_validate({"merge": "concat", **shared, "scale": 1.0})


def _describe_parent(parent: Parent) -> dict[str, Any]:
    """Describe a parent by its provenance, or for adapters of other tools by its config."""
    provenance = parent.provenance
    own = {"config": dict(parent.config)} if provenance is None else provenance.to_json()
    return {"adapter": PurePath(parent.name).name, **own}


def _take_tokenizer(parents: Sequence[Parent]) -> dict[str, str]:
    """Take the tokenizer files of the first parent that has an opening."""
    source = next(parent for parent in parents if parent.opening is not None)
    texts = source.content.texts
    for name in TOKENIZER:
        if name not in texts:
            raise AdapterError(f"{source.name}: {name} is missing", hint="compile it again")
    return {name: texts[name] for name in TOKENIZER}


def _write_card(parents: Sequence[Parent], change: Change) -> str:
    """Write the model card: the parents, how to load the adapter, its limits."""
    weights, seats = change.made.weights, change.made.seats is not None
    modules = ", ".join(module_names.list_short(weights.factors))
    base = literal(weights.base)
    provenance = [parent.provenance for parent in parents if parent.count_seats()]
    digests = {record.base.sha256 for record in provenance if record is not None}
    loading = LOADING.format(
        tokenizer="adapter" if seats else base,
        base=spell_base(weights.base, digests.pop() if seats and len(digests) == 1 else None),
        adapter=FOLDER,
    )
    names = "".join(f"- {quote(PurePath(parent.name).name)}\n" for parent in parents)
    prompt = (
        f"The memory hangs on the first {weights.rank + 1} tokens of the prompt or fewer (the "
        "opening, in `d2l.json`). This folder's tokenizer and chat template put them there; a "
        "prompt without them cannot read the memory.\n"
        if seats
        else "Ask with the base's own chat template: one user turn, no system text.\n"
    )
    trouble = f"{KNOWS_NOTHING}\n" if seats else ""
    rank = find_lowest(weights) if all(parent.count_seats() for parent in parents) else weights.rank
    return (
        f"{write_head(weights.base, 'd2l')}"
        f"# {change.title}\n\nMade by d2l {__version__} of\n\n{names}\n"
        f"for {quote(weights.base)}: rank {rank}, on {modules}. `d2l.json` says "
        f"exactly what went in.\n\n## Load it\n\n```python\n{loading}```\n\n{prompt}\n"
        f"{trouble}## Limits\n\n{write_list(change.warnings)}"
        "- Answers can be wrong with confidence: check what matters against the documents.\n"
        "- The documents' content is in these weights. Share them as you would share the text.\n"
    )
