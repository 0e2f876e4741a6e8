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
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError, model_validator

from d2l.adapters.info import PART_VALUES, PARTS, TEXT, AdapterInfo
from d2l.adapters.provenance import Opening, Record, explain
from d2l.adapters.record_values import Count, Text
from d2l.adapters.rounding import KINDS, restore_memory, round_memory
from d2l.errors import AdapterError, ShapeError
from d2l.files.tensors import FILE_ERRORS, TensorFile

if TYPE_CHECKING:
    import torch

    from d2l.adapters.rounding import Stored
    from d2l.adapters.weights import Memory

#: Source of the part of a document as a whole: its title, outline and beginning.
OVERVIEW = "overview"
#: Text between a part and a question, as between a page and a question in a prompt.
PART_END = "\n\n"
_N_TURNS = 7
_MAX_BYTES = 1 << 30  # of parts.json: some hundred thousand pages of text
_PAGE = re.compile(r"p\. (\d{1,9})")
_AGAIN = "compile the document again, or ask with --whole"


class PartRecord(Record):
    """Record of a part: its place, the headings above it, and the text that the network read."""

    document: Text
    source: Text  # "p. 3-5", "§ Filters", or ""
    headings: tuple[Text, ...] = ()
    text: Text
    n_tokens: Count
    n_seats: Count = 0  # of its memory, if it has one

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
        """Place in the document, for people: "p. 17, Maintenance > Filter"."""
        page = self.source if self.page is not None else ""
        path = " > ".join(self.headings) or self.source.removeprefix("§ ").removeprefix(page)
        return ", ".join(filter(None, (page, path)))

    @property
    def searched(self) -> str:
        """Text that questions are compared with."""
        return "\n".join((*self.headings, self.text))


class PartIndex(Record):
    """Content of parts.json; `opening` is the longest: each part's opening is a prefix of it. In an
    opening without seats nothing hangs: parts stand behind it, then questions and answers, with
    `turns` (the fields of `TurnTexts`) around them. The last `n_end` seats of a part are trained,
    and have no text.

    Format 2 has memories in four bits beside those in eight, which older versions cannot read.
    """

    format: Literal[1, 2] = 1
    opening: Opening | None = None
    turns: tuple[Text, ...] = ()
    n_end: Count = 0
    parts: tuple[PartRecord, ...]

    @model_validator(mode="after")
    def _check_turns(self) -> "PartIndex":
        if len(self.turns) not in (0, _N_TURNS):
            raise ValueError(f"turns are {len(self.turns)} texts, expected {_N_TURNS}")
        return self


@dataclass(frozen=True)
class Parts:
    """The parts of an adapter, one for each of its chunks, in their order.

    `stored` reads the tensors of a part's memory, by its index, as the file has them; None if parts
    are ranks of the weights.
    """

    index: PartIndex
    stored: Callable[[int], "Stored"] | None = None

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
        return Parts(index, stored and (lambda n: stored(indices[n])))

    def read(self, n: int, dtype: "torch.dtype | None" = None) -> "Memory":
        """Read the memory of part `n`, in fp32 by default; raises AdapterError if it is damaged."""
        import torch

        assert self.stored is not None
        try:
            return restore_memory(self.stored(n), dtype or torch.float32)
        except (RuntimeError, ValueError, ShapeError) as error:
            raise AdapterError(f"a part's memory is damaged ({error})", hint=_AGAIN) from error


def join_parts(several: Sequence[Parts]) -> Parts:
    """Join the parts of several adapters of one network, in order."""
    owners = [(own, n) for own in several for n in range(len(own.records))]
    openings = [own.index.opening for own in several if own.index.opening is not None]
    longest = max(openings, key=lambda opening: len(opening.ids), default=None)
    first = several[0].index
    index = PartIndex(
        format=max((own.index.format for own in several), default=1),
        opening=longest,
        **{name: getattr(first, name) for name in first.model_fields_set & {"turns", "n_end"}},
        parts=tuple(own.records[n] for own, n in owners),
    )

    def find_stored(n: int) -> "Stored":
        own, n_own = owners[n]
        assert own.stored is not None
        return own.stored(n_own)

    return Parts(index, find_stored if all(own.stored for own in several) else None)


def keep_memories(index: PartIndex, memories: "Sequence[Memory]", bits: int) -> Parts:
    """Make parts of memories, which are rounded to so many bits when they are read."""
    rounded = index.model_copy(update={"format": 2}) if bits == 4 else index
    return Parts(rounded, lambda n: round_memory(memories[n], bits))


def write_parts(parts: Parts, folder: Path) -> None:
    """Write a folder's parts; equal parts give equal bytes."""
    from safetensors.torch import save_file

    write_index(parts.index, folder / PARTS)
    if parts.stored is None:
        return
    tensors = {
        f"{n}.{name}": tensor
        for n in range(len(parts.records))
        for name, tensor in parts.stored(n).items()
    }
    save_file(tensors, folder / PART_VALUES, {"format": "pt"})


def read_parts(info: AdapterInfo) -> Parts | None:
    """Read the parts of an adapter folder, without values; None if it has none, or they were
    deleted. Raises AdapterError for parts that are damaged, or belong to another adapter."""
    provenance = info.provenance
    path = info.folder / PARTS
    if provenance is None or provenance.parts_sha256 is None or not path.is_file():
        return None
    index = _read_index(path, provenance.parts_sha256)
    if len(index.parts) != len(provenance.chunks):
        raise AdapterError(
            f"{path}: {len(index.parts):,} parts for {len(provenance.chunks):,} chunks", hint=_AGAIN
        )
    if index.opening is None:
        return Parts(index)
    values = info.folder / PART_VALUES
    if not values.is_file():
        raise AdapterError(f"{values}: is missing", hint=_AGAIN)
    return Parts(index, _open_values(values, len(index.parts)))


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
    for path, sha256 in ((info.folder / name, sha256) for name, sha256 in digests.items()):
        if sha256 is not None and path.is_file():
            records = _read_index(path, sha256).parts
            return records if len(records) == len(provenance.chunks) else ()
    return ()


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
    """Return a function that reads one memory of a file; both raise AdapterError."""
    try:
        file = TensorFile(path)
    except AdapterError as error:
        raise AdapterError(error.message, hint=_AGAIN) from error
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read ({error})", hint=_AGAIN) from error
    bits = [4 if f"{n}.keys_fine" in file.names else 8 for n in range(count)]
    names = [[f"{n}.{kind}" for kind in KINDS[bits[n]]] for n in range(count)]
    if file.names != {name for own in names for name in own}:
        raise AdapterError(f"{path}: does not hold the values of {count:,} parts", hint=_AGAIN)

    def read(n: int) -> "Stored":
        try:
            tensors = file.read(names[n])
        except FILE_ERRORS as error:
            raise AdapterError(f"{path}: cannot be read ({error})", hint=_AGAIN) from error
        return {name.partition(".")[2]: tensor for name, tensor in tensors.items()}

    return read


def _format(index: PartIndex) -> str:
    return json.dumps({"format": 1, **index.to_json()}, ensure_ascii=False, indent=1) + "\n"
