"""The parts of an adapter: a memory, or a slice of ranks, for each chunk; questions choose parts.

`parts.json` holds place and text of each part, `text.json` those of the chunks of one memory;
`parts.safetensors` holds the memories of seats adapters. Parts that are ranks of the adapter's own
weights have no such file. PEFT reads none of these, so a folder without them is still an adapter.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field, ValidationError, model_validator

from d2l.adapters.info import PART_VALUES, PARTS, TEXT, AdapterInfo, count_json_bytes
from d2l.adapters.module_names import list_layers
from d2l.adapters.provenance import Opening, Provenance, Record, explain
from d2l.adapters.record_values import Count, Line, Rows, Text
from d2l.adapters.rounding import (
    Stored,
    describe_rounded,
    digest_rounded,
    restore_memory,
    round_memory,
)
from d2l.errors import AdapterError, ShapeError
from d2l.files.tensors import CHANGED, FILE_ERRORS, TensorFile, TensorInfo, read_header

if TYPE_CHECKING:
    import torch

    from d2l.adapters.weights import Memory

#: Source of the part of a document as a whole: its title, outline and beginning.
OVERVIEW = "overview"
#: Text between a part and a question, as between a page and a question in a prompt.
PART_END = "\n\n"
_N_TURNS, _MOST_TURNS = 7, 4096  # their number, and characters in all
#: Most tokens of an opening without seats (the base's template with an instruction), which each
#: part repeats. Known bases need 39 to 61.
_MOST_LEAD = 512
#: Class of `d2l.parts` that reads an adapter's parts.
PartKind = Literal["ranks", "seats", "kv"]
_KEYS = ".k_proj.lora_B.weight"
_PAGE = re.compile(r"p\. (\d{1,9})")
_AGAIN = "compile the document again, or ask with --whole"


class PartRecord(Record):
    """Record of a part: its place, the headings above it, and the text that the network read."""

    document: Line
    source: Line  # "p. 3-5", "§ Filters", or ""
    headings: Rows[Line] = ()
    text: Text
    n_tokens: Count
    n_seats: Count = 0  # of its memory, if it has one
    values_sha256: Text | None = None  # of its memory's tensors (`digest_rounded`)

    @property
    def is_overview(self) -> bool:
        """True for the part of a document as a whole."""
        return self.source == OVERVIEW

    @property
    def page(self) -> int | None:
        """First page of the part."""
        match = _PAGE.match(self.source)
        return int(match[1]) if match else None

    @property
    def place(self) -> str:
        """Place in the document, for people: "p. 17, Maintenance > Filter", "Filter … Lamps"."""
        page = self.source if self.page is not None else ""
        own = self.source.removeprefix("§ ").removeprefix(page)
        last = "".join(own.partition(" … ")[1:])
        path = " > ".join(self.headings) + last if self.headings else own
        return ", ".join(filter(None, (page, path)))

    @property
    def searched(self) -> str:
        """Text that questions are compared with."""
        return "\n".join((*self.headings, self.text))


class PartIndex(Record):
    """Content of parts.json; `kind` names the class that reads them, which older files lack. The
    `opening` is the longest: each part's opening is a prefix of it. If it has no seats, a prompt is
    opening, part, question and answer, with `turns` (the fields of `TurnTexts`) between them. The
    last `n_suffix` seats of a part are trained, and have no text.

    Format 2 has memories in four bits beside those in eight, which older versions cannot read.
    """

    model_config = ConfigDict(populate_by_name=True)
    format: Literal[1, 2] = 1
    kind: PartKind | None = None
    opening: Opening | None = None
    turns: Rows[Text] = ()
    n_suffix: Annotated[Count, Field(alias="n_end")] = 0
    parts: Rows[PartRecord]

    @model_validator(mode="after")
    def _check_turns(self) -> "PartIndex":
        if len(self.turns) not in (0, _N_TURNS) or sum(map(len, self.turns)) > _MOST_TURNS:
            raise ValueError(
                f"turns are {len(self.turns)} texts, expected {_N_TURNS} of {_MOST_TURNS:,} "
                "characters at most"
            )
        return self


def _refuse_memory(n: int) -> Stored:
    raise LookupError(n)


@dataclass(frozen=True)
class Parts:
    """The parts of an adapter, one for each of its chunks, in their order.

    `stored` reads the tensors of a part's memory, by its index, as the file has them. Parts without
    seats have no memory.
    """

    index: PartIndex
    stored: Callable[[int], Stored] = _refuse_memory

    @property
    def records(self) -> tuple[PartRecord, ...]:
        """Records of the parts, in their order."""
        return self.index.parts

    @property
    def sha256(self) -> str:
        """SHA-256 of parts.json, in hex, as in d2l.json."""
        return digest_index(self.index)

    def select(self, indices: Sequence[int]) -> "Parts":
        """Select parts, in the order of `indices`."""
        index = self.index.model_copy(update={"parts": tuple(self.records[n] for n in indices)})
        stored = self.stored
        return Parts(index, lambda n: stored(indices[n]))

    def read(self, n: int, dtype: "torch.dtype | type[np.float32] | None" = None) -> "Memory":
        """Read the memory of part `n`, in fp32 by default; for numpy's type as its arrays. Raises
        AdapterError if it is damaged."""
        if dtype is None:
            import torch

            dtype = torch.float32
        try:
            return restore_memory(self.stored(n), dtype)
        except ShapeError as error:
            message = f"{PART_VALUES}: the memory of part {n} is damaged ({error})"
            raise AdapterError(message, hint=_AGAIN) from error

    def check_values(self) -> None:
        """Read all memories; raises AdapterError if any is damaged, or was changed."""
        for n in self.list_memories():
            self.read(n, np.float32)

    def list_memories(self) -> list[int]:
        """List the parts that have a memory."""
        return [n for n, record in enumerate(self.records) if record.n_seats]


def join_parts(several: Sequence[Parts]) -> Parts:
    """Join the parts of several adapters of one network, in order."""
    owners = [(own, n) for own in several for n in range(len(own.records))]
    openings = [own.index.opening for own in several if own.index.opening is not None]
    longest = max(openings, key=lambda opening: len(opening.ids), default=None)
    first = several[0].index
    index = PartIndex(
        format=max((own.index.format for own in several), default=1),
        opening=longest,
        **{
            name: getattr(first, name)
            for name in first.model_fields_set & {"kind", "turns", "n_suffix"}
        },
        parts=tuple(own.records[n] for own, n in owners),
    )

    def find_stored(n: int) -> Stored:
        own, n_own = owners[n]
        return own.stored(n_own)

    return Parts(index, find_stored)


def keep_memories(index: PartIndex, memories: "Sequence[Memory]", bits: int) -> Parts:
    """Make parts of memories, rounded to so many bits."""
    stored = [round_memory(memory, bits) for memory in memories]
    records = tuple(
        record.model_copy(update={"values_sha256": digest_rounded(own)})
        for record, own in zip(index.parts, stored, strict=True)
    )
    update = {"parts": records} | ({"format": 2} if bits == 4 else {})
    return Parts(index.model_copy(update=update), stored.__getitem__)


def write_parts(parts: Parts, folder: Path) -> None:
    """Write a folder's parts; equal parts give equal bytes."""
    from safetensors.numpy import save_file

    write_index(parts.index, folder / PARTS)
    tensors = {
        f"{n}.{name}": tensor
        for n in parts.list_memories()
        for name, tensor in parts.stored(n).items()
    }
    if tensors:
        save_file(tensors, folder / PART_VALUES, {"format": "pt"})


def read_parts(info: AdapterInfo) -> Parts | None:
    """Read the parts of an adapter folder, without values; None if it has none, or they were
    deleted. Raises AdapterError for parts that are damaged, or belong to another adapter."""
    provenance = info.provenance
    path = info.folder / PARTS
    if provenance is None or provenance.parts_sha256 is None or not path.is_file():
        return None
    index = _read_index(info, PARTS, provenance.parts_sha256)
    if (reason := _find_misfit(index, provenance)) is not None:
        raise AdapterError(f"{path}: {reason}", hint=_AGAIN)
    if index.opening is None:
        return Parts(index)
    values = info.folder / PART_VALUES
    if not values.is_file():
        raise AdapterError(f"{values}: is missing", hint=_AGAIN)
    return Parts(index, _open_values(info, index.parts))


def _find_misfit(index: PartIndex, provenance: Provenance) -> str | None:
    """Find a reason why an index cannot be that of the adapter; None if it fits."""
    parts, chunks, opening = index.parts, provenance.chunks, index.opening
    if len(parts) != len(chunks):
        return f"{len(parts):,} parts for {len(chunks):,} chunks"
    for n, (part, chunk) in enumerate(zip(parts, chunks, strict=True)):
        if part.n_tokens != chunk.n_tokens:
            return f"part {n} has {part.n_tokens:,} tokens, its chunk {chunk.n_tokens:,}"
    if (opening is None) != (provenance.prompt.opening is None):
        return "an opening is missing, here or in d2l.json"
    if opening is None:
        return None
    if opening.most_seats is None and len(opening.ids) > _MOST_LEAD:
        return f"an opening of {len(opening.ids):,} tokens, at most {_MOST_LEAD} are read"
    for n, part in enumerate(parts):
        least, most = index.n_suffix + 1, opening.most_seats or part.n_tokens
        if not least <= part.n_seats <= most:
            return f"part {n} has {part.n_seats:,} seats, expected {least} to {most:,}"
    return None


def digest_index(index: PartIndex) -> str:
    """SHA-256 of an index's file, in hex."""
    return hashlib.sha256(_format(index).encode("utf-8", "backslashreplace")).hexdigest()


def digest_texts(parts: Parts | None, records: tuple[PartRecord, ...]) -> dict[str, str]:
    """Fields of d2l.json with the digests of parts.json and text.json, if there are such files."""
    found = {} if parts is None else {"parts_sha256": parts.sha256}
    return found | ({"text_sha256": digest_index(PartIndex(parts=records))} if records else {})


def write_index(index: PartIndex, path: Path) -> None:
    """Write an index; equal ones give equal bytes."""
    path.write_text(_format(index), "utf-8", "backslashreplace", "\n")


def read_text(info: AdapterInfo) -> tuple[PartRecord, ...]:
    """Read places and texts of the chunks of one memory, where parts are there, too, from their
    index; none if the adapter keeps neither. Raises AdapterError for a file that was changed."""
    provenance = info.provenance
    if provenance is None:
        return ()
    digests = {TEXT: provenance.text_sha256, PARTS: provenance.parts_sha256}
    for name, sha256 in digests.items():
        if sha256 is not None and (info.folder / name).is_file():
            records = _read_index(info, name, sha256).parts
            return records if len(records) == len(provenance.chunks) else ()
    return ()


def _read_index(info: AdapterInfo, name: str, sha256: str) -> PartIndex:
    path = info.folder / name
    try:
        if (size := path.stat().st_size) > (most := count_json_bytes(info.folder)):
            raise ValueError(f"{size:,} bytes, more than {most:,}")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"it {CHANGED}")
        return PartIndex.model_validate(json.loads(data))
    except (OSError, ValueError, RecursionError) as error:
        reason = explain(error) if isinstance(error, ValidationError) else error
        raise AdapterError(f"{path}: cannot be used ({reason})", hint=_AGAIN) from error


def _open_values(info: AdapterInfo, parts: Sequence[PartRecord]) -> Callable[[int], Stored]:
    """Return a function that reads one memory of a file; both raise AdapterError."""
    path = info.folder / PART_VALUES
    try:
        read_header(path)  # explains damage better than safetensors does
        file = TensorFile(path)
    except AdapterError as error:
        raise AdapterError(error.message, hint=_AGAIN) from error
    except (*FILE_ERRORS, ValueError) as error:  # ValueError: it is being written
        raise AdapterError(f"{path}: cannot be read ({error})", hint=_AGAIN) from error
    infos = file.infos
    bits = [4 if f"{n}.keys_fine" in infos else 8 for n in range(len(parts))]
    n_layers, width = _find_sizes(info, infos.get("0.keys"))
    kinds = [
        describe_rounded(own, n_layers, part.n_seats, width)
        for own, part in zip(bits, parts, strict=True)
    ]
    expected = {f"{n}.{kind}": i for n, own in enumerate(kinds) for kind, i in own.items()}
    if infos.keys() != expected.keys():
        raise AdapterError(f"{path}: does not hold the values of {len(parts):,} parts", hint=_AGAIN)
    for name, (dtype, shape) in expected.items():
        if (found := infos[name]) != (dtype, shape):
            raise AdapterError(
                f"{path}: {name} is {found.dtype} of {list(found.shape)}, expected {dtype} of "
                f"{list(shape)}",
                hint=_AGAIN,
            )

    def read(n: int) -> Stored:
        try:
            tensors = file.read_arrays([f"{n}.{kind}" for kind in kinds[n]])
        except FILE_ERRORS as error:
            raise AdapterError(f"{path}: cannot be read ({error})", hint=_AGAIN) from error
        stored = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
        if parts[n].values_sha256 not in (None, digest_rounded(stored)):
            raise AdapterError(f"{path}: part {n} {CHANGED}", hint=_AGAIN)
        return stored

    return read


def _find_sizes(info: AdapterInfo, keys: TensorInfo | None) -> tuple[int, int]:
    """Find the number of layers of all memories, and the channels of a layer: the adapter's k_proj
    and its layers, or all layers up to its last, as in the first part."""
    own = {name: i.shape for name, i in info.tensors.items() if name.endswith(_KEYS)}
    layers = list_layers(own) or [-1]
    n_layers = layers[-1] + 1 if keys is None or keys.shape[:1] != (len(layers),) else len(layers)
    return n_layers, next(iter(own.values()), (0,))[0]


def _format(index: PartIndex) -> str:
    return json.dumps({"format": 1, **index.to_json()}, ensure_ascii=False, indent=1) + "\n"
