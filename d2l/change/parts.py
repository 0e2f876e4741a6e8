"""Parts of an adapter as adapters of their own, for engines.

All have the same opening, since an engine has one chat template for all of its adapters: a part of
fewer seats than the largest leaves the rest of the opening unchanged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from d2l.adapters.deltas import keep_ranks
from d2l.adapters.parts import Parts
from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.weights import LoraWeights
from d2l.change.parents import ChangeOptions, Parent, pick_dtype
from d2l.change.records import Change, describe
from d2l.change.seats import load_seats_of, seat_again
from d2l.errors import AdapterError
from d2l.hypernets.seats.network import join_memories
from d2l.progress import Progress, silent

#: Tokens that may divide a part's text from a question.
_BEHIND = 4


def split_parts(
    parent: Parent, options: ChangeOptions, watch: Progress = silent
) -> Iterator[AdapterContent]:
    """Yield an adapter for each part, in order; its d2l.json names the adapter and the chunk.

    A memory is seated by the network that wrote it; ranks are taken with those of the bias. Raises
    AdapterError for an adapter without parts, and CheckpointError.
    """
    parts, provenance = parent.content.parts, parent.provenance
    if parts is None or provenance is None:
        raise AdapterError(f"{parent.name}: has no parts", hint="compile it with --parts")
    seats = None if parts.stored is None else load_seats_of(parent, options)
    indices = [n for n, record in enumerate(parts.records) if not record.is_overview]
    longest = max(parts.records[n].n_seats for n in indices)
    if seats is not None and longest > seats.config.max_seats:
        most = seats.config.max_seats - _BEHIND
        raise AdapterError(
            f"{parent.name}: a part of {longest} tokens, and engines read {most} of a part",
            hint=f"compile the document again, with --chunk-tokens {most}",
        )
    for n in watch(indices, "writing parts"):
        chunk, memory = provenance.chunks[n], None
        if seats is None:
            weights, n_own = _take_ranks(parent, n)
        else:
            memory, n_own = parts.read(n), parts.records[n].n_seats
            strength = float(parent.options.scale) * float(chunk.scale)
            factors = torch.full((n_own,), strength, dtype=torch.double)
            bias_scale = float(parent.options.bias_scale)
            weights = seat_again(seats, memory, factors, bias_scale=bias_scale, n_seats=longest)
        # The chunks of all others in every part would grow with their square.
        alone = provenance.model_copy(update={"chunks": (chunk,), "parts_sha256": None})
        owner = Parent(replace(parent.content, provenance=alone, parts=None))
        change = Change(
            verb="edit",
            values={"drop": [], "keep": [f"#{n}"]},
            title=_name_part(parts, n),
            weights=weights,
            chunks=[chunk.model_copy(update={"ranks": (0, n_own)})],
            memory=memory,
            seats=None if seats is None else (seats.config, weights.rank),
        )
        dtype = pick_dtype([parent], options.dtype, exact=True)
        yield describe([owner], change, dtype=dtype, name=f"part-{n:04d}.lora")


def fill_opening(parent: Parent, indices: Sequence[int]) -> list[int]:
    """Share the seats of one memory among some parts: all of a part's own, none once the opening is
    full; where a seat is a token, the last part has a beginning there, and overviews have none."""
    parts = parent.parts
    assert parts is not None
    records, is_own = parts.records, bool(parts.index.turns)
    free, sizes = count_free(parent), list[int]()
    for index in indices:
        n_seats = 0 if records[index].is_overview else records[index].n_seats - parts.index.n_end
        if n_seats > free:
            n_seats, free = free if is_own else 0, 0
        sizes.append(n_seats)
        free = max(free - n_seats, 0)
    return sizes


def count_free(parent: Parent) -> int:
    """Count the seats of the longest opening that an adapter's parts have."""
    parts, provenance = parent.parts, parent.provenance
    assert parts is not None
    assert provenance is not None  # it has parts
    opening = provenance.prompt.opening if parts.index.turns else parts.index.opening
    return 0 if opening is None else len(opening.seats)


def join_memories_of(parent: Parent, indices: Sequence[int]) -> Parent:
    """Join the memories of some parts to the parent's one memory, as many as the opening holds:
    parts at its beginning may be dropped."""
    parts, provenance = parent.parts, parent.provenance
    assert parts is not None
    assert provenance is not None  # it has parts, which d2l.json says
    sizes = dict(zip(indices, fill_opening(parent, indices), strict=True))
    memories = [parts.read(index).first(size) for index, size in sizes.items() if size]
    chunks, start = list(provenance.chunks), 0
    for index, chunk in enumerate(chunks):
        stop = start + sizes.get(index, 0)
        chunks[index], start = chunk.model_copy(update={"ranks": (start, stop)}), stop
    provenance = provenance.model_copy(update={"chunks": tuple(chunks)})
    memory = join_memories(memories)
    return Parent(replace(parent.content, memory=memory, provenance=provenance))


def _take_ranks(parent: Parent, n: int) -> tuple[LoraWeights, int]:
    """Take the ranks of a part with those of the bias; returns weights and the part's rank."""
    provenance = parent.provenance
    assert provenance is not None  # it has parts
    span = provenance.chunks[n].ranks
    if span is None:
        raise AdapterError(
            f"{parent.name}: does not say which ranks its parts have",
            hint="compile the document again",
        )
    ranks = [*range(*span), *range(*(provenance.bias_ranks or (0, 0)))]
    return keep_ranks(parent.weights, torch.tensor(ranks)), span[1] - span[0]


def _name_part(parts: Parts, n: int) -> str:
    record = parts.records[n]
    where = f": {record.place}" if record.place else ""
    return f"Part {n + 1} of {len(parts.records)} of {record.document}{where}"
