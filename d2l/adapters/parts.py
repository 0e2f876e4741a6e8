"""The parts of an adapter: a memory, or a slice of ranks, for each chunk; questions choose one.

`parts.json` says where each part stands in its document and what it says; `parts.safetensors` holds
the memories of seats adapters. Parts that are ranks of the adapter's own weights have no file.
PEFT reads neither, so a folder without them stays an adapter.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import ValidationError

from d2l.adapters.info import PART_VALUES, PARTS, AdapterInfo
from d2l.adapters.provenance import Opening, Record, explain
from d2l.adapters.record_values import Count, Text
from d2l.errors import AdapterError, ShapeError
from d2l.files.tensors import FILE_ERRORS, TensorFile

if TYPE_CHECKING:
    from torch import Tensor

    from d2l.adapters.weights import Memory

    #: A part's tensors in the file, by kind.
    Stored = dict[str, Tensor]

FORMAT: Final = 1
_MAX_BYTES = 1 << 30  # of parts.json: some hundred thousand pages of text
_KINDS = ("keys", "keys_scales", "values", "values_scales")
_PAGE = re.compile(r"p\. (\d{1,9})")
_AGAIN = "compile the document again, or ask with --whole"


class PartRecord(Record):
    """One part: the place, the headings above it, and the text that the network read."""

    document: Text
    source: Text  # "p. 3-5", "§ Filters", or ""
    headings: tuple[Text, ...] = ()
    text: Text
    n_tokens: Count
    n_seats: Count = 0  # of its memory, where it has one

    @property
    def page(self) -> int | None:
        """Its first page."""
        match = _PAGE.match(self.source)
        return int(match[1]) if match else None

    @property
    def place(self) -> str:
        """Where it stands, for people: "p. 17, Maintenance > Filter"."""
        page = self.source if self.page is not None else ""
        path = " > ".join(self.headings) or self.source.removeprefix("§ ").removeprefix(page)
        return ", ".join(filter(None, (page, path)))

    @property
    def searched(self) -> str:
        """What questions are compared with."""
        return "\n".join((*self.headings, self.text))


class PartIndex(Record):
    """All of parts.json; `opening` is the longest one, and a part's own is a beginning of it."""

    format: Literal[1] = FORMAT
    opening: Opening | None = None
    parts: tuple[PartRecord, ...]


@dataclass(frozen=True)
class Parts:
    """The parts of an adapter, one for each of its chunks, in their order.

    `stored` gives the tensors of a part's memory by its place, as the file has them; None where
    parts are ranks of the weights.
    """

    index: PartIndex
    stored: Callable[[int], "Stored"] | None = None

    @property
    def records(self) -> tuple[PartRecord, ...]:
        """What is known of each part."""
        return self.index.parts

    @property
    def sha256(self) -> str:
        """The digest of parts.json, in hex, which d2l.json names."""
        return hashlib.sha256(_format(self.index).encode("utf-8", "backslashreplace")).hexdigest()

    def select(self, places: Sequence[int]) -> "Parts":
        """Some of the parts, in the order of `places`."""
        index = self.index.model_copy(update={"parts": tuple(self.records[n] for n in places)})
        stored = self.stored
        return Parts(index, stored and (lambda n: stored(places[n])))

    def read(self, place: int) -> "Memory":
        """The memory of a part, in fp32; raises AdapterError where it is not finite."""
        assert self.stored is not None
        return _decode(self.stored(place))


def join_parts(several: Sequence[Parts]) -> Parts:
    """The parts of several adapters of one network, behind one another."""
    owners = [(own, n) for own in several for n in range(len(own.records))]
    openings = [own.index.opening for own in several if own.index.opening is not None]
    longest = max(openings, key=lambda opening: len(opening.ids), default=None)
    index = PartIndex(opening=longest, parts=tuple(own.records[n] for own, n in owners))

    def find_stored(place: int) -> "Stored":
        own, n = owners[place]
        assert own.stored is not None
        return own.stored(n)

    return Parts(index, find_stored if all(own.stored for own in several) else None)


def keep_memories(index: PartIndex, memories: "Sequence[Memory]") -> Parts:
    """Parts of memories, which are rounded to eight bits when they are asked for."""
    return Parts(index, lambda place: _encode(memories[place]))


def _encode(memory: "Memory") -> "Stored":
    """Keys and values in int8 (layers, seats, heads * dim), with a scale in fp32 for each channel
    of a layer, since keys have channels that are much larger than others. That takes half the room
    of bf16 and moves the next token's distribution by a KL of 2e-4."""
    import torch

    tensors = {}
    for name, values in (("keys", memory.keys.float()), ("values", memory.values.float())):
        scales = values.abs().amax(dim=1).clamp(min=1e-12) / 127  # (layers, heads * dim)
        tensors[name] = (values / scales[:, None]).round().to(torch.int8)
        tensors[f"{name}_scales"] = scales
    return tensors


def _decode(tensors: "Stored") -> "Memory":
    from d2l.adapters.weights import Memory

    try:
        pair = [tensors[name].float() * tensors[f"{name}_scales"][:, None] for name in _KINDS[::2]]
        if not all(bool(values.isfinite().all()) for values in pair):
            raise ValueError("values are not finite")
        keys, values = pair
        return Memory(keys, values)
    except (RuntimeError, ValueError, ShapeError) as error:
        raise AdapterError(f"a part's memory is damaged ({error})", hint=_AGAIN) from error


def write_parts(parts: Parts, folder: Path) -> None:
    """Write a folder's parts; equal parts give equal bytes."""
    from safetensors.torch import save_file

    (folder / PARTS).write_text(_format(parts.index), "utf-8", "backslashreplace", "\n")
    if parts.stored is None:
        return
    tensors = {
        f"{n}.{name}": tensor
        for n in range(len(parts.records))
        for name, tensor in parts.stored(n).items()
    }
    save_file(tensors, folder / PART_VALUES, {"format": "pt"})


def read_parts(info: AdapterInfo) -> Parts | None:
    """The parts of an adapter folder, their values unread; None where it has none, or they were
    deleted. Raises AdapterError for parts that are damaged, or another adapter's."""
    made = info.provenance
    path = info.folder / PARTS
    if made is None or made.parts_sha256 is None or not path.is_file():
        return None
    index = _read_index(path, made.parts_sha256)
    if len(index.parts) != len(made.chunks):
        raise AdapterError(
            f"{path}: {len(index.parts):,} parts for {len(made.chunks):,} chunks", hint=_AGAIN
        )
    if index.opening is None:
        return Parts(index)
    values = info.folder / PART_VALUES
    if not values.is_file():
        raise AdapterError(f"{values}: is missing", hint=_AGAIN)
    return Parts(index, _open_values(values, len(index.parts)))


def _read_index(path: Path, sha256: str) -> PartIndex:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES:,} bytes")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError("it was changed, or belongs to another adapter")
        return PartIndex.model_validate(json.loads(data))
    except (OSError, ValueError, RecursionError) as error:
        reason = explain(error) if isinstance(error, ValidationError) else error
        raise AdapterError(f"{path}: cannot be used ({reason})", hint=_AGAIN) from error


def _open_values(path: Path, count: int) -> "Callable[[int], Stored]":
    """A function that reads one memory of a file; both raise AdapterError."""
    try:
        file = TensorFile(path)
    except AdapterError as error:
        raise AdapterError(error.message, hint=_AGAIN) from error
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read ({error})", hint=_AGAIN) from error
    if file.names != {f"{n}.{kind}" for n in range(count) for kind in _KINDS}:
        raise AdapterError(f"{path}: does not hold the values of {count:,} parts", hint=_AGAIN)

    def read(place: int) -> "Stored":
        try:
            tensors = file.read([f"{place}.{kind}" for kind in _KINDS])
        except FILE_ERRORS as error:
            raise AdapterError(f"{path}: cannot be read ({error})", hint=_AGAIN) from error
        return {kind: tensors[f"{place}.{kind}"] for kind in _KINDS}

    return read


def _format(index: PartIndex) -> str:
    return json.dumps({"format": FORMAT, **index.to_json()}, ensure_ascii=False, indent=1) + "\n"
