"""Parts of an adapter as adapters of their own, for engines.

All have the same opening, since an engine has one chat template for all of its adapters: a part of
fewer seats than the largest leaves the rest of the opening unchanged.
"""

from collections.abc import Iterator
from dataclasses import replace

from d2l.adapters.parts import Parts
from d2l.adapters.peft_folder import AdapterContent
from d2l.change.kinds import AnyParent, make_parent
from d2l.change.parents import ChangeOptions, pick_dtype
from d2l.change.records import Change, describe
from d2l.errors import AdapterError
from d2l.progress import Progress, silent


def split_parts(
    parent: AnyParent, options: ChangeOptions, watch: Progress = silent
) -> Iterator[AdapterContent]:
    """Yield an adapter for each part, in order; its d2l.json names the adapter and the chunk.

    The network that wrote a memory seats it; ranks are taken with the bias's ranks. Raises
    AdapterError for an adapter without parts, and CheckpointError.
    """
    parts, provenance = parent.content.parts, parent.provenance
    if parts is None or provenance is None:
        raise AdapterError(f"{parent.name}: has no parts", hint="compile it with --parts")
    indices = [n for n, record in enumerate(parts.records) if not record.is_overview]
    made = parent.split(indices, options)
    for n in watch(indices, "writing parts"):
        # The chunks of all others in every part would grow with their square.
        alone = {"chunks": (provenance.chunks[n],), "parts_sha256": None}
        owner = replace(parent.content, provenance=provenance.model_copy(update=alone), parts=None)
        change = Change(
            verb="edit",
            values={"drop": [], "keep": [f"#{n}"]},
            title=_name_part(parts, n),
            made=next(made),
        )
        dtype = pick_dtype([parent], options.dtype, exact=True)
        yield describe([make_parent(owner)], change, dtype=dtype, name=f"part-{n:04d}.lora")


def _name_part(parts: Parts, n: int) -> str:
    record = parts.records[n]
    where = f": {record.place}" if record.place else ""
    return f"Part {n + 1} of {len(parts.records)} of {record.document}{where}"
