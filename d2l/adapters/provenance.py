"""d2l.json as values: the origin of an adapter, exact enough to make it again.

JSON values in, frozen records out, and back to the same values. `provenance.schema.json` is the
schema for other programs.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    model_validator,
)

from d2l.adapters.record_values import Count, Flag, Line, Number, Rows, Span, Text
from d2l.errors import AdapterError

#: Raised with every change that older versions of d2l would misread.
VERSION: Final = 3
#: Source of the chunks of a task's description; chunks of documents have pages and headings.
DESCRIPTION: Final = "description"
#: Largest number of seats: no base distinguishes as many tokens of an opening.
MOST_SEATS: Final = 2048
#: Deepest nesting: a merged adapter contains its parents, two levels each.
_MOST_NESTED = 200
_HINT = "the file is damaged or was changed: compile the document again"


class Record(BaseModel):
    """A section of d2l.json. Unset values are not written; unknown values are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def to_json(self) -> dict[str, Any]:
        """Values for JSON, without defaults."""
        values: dict[str, Any] = _plain(self.model_dump(exclude_unset=True, by_alias=True))
        return values


class Tool(Record):
    """The program that wrote the adapter."""

    name: Text
    version: Text


class Checkpoint(Record):
    """The network; a mixture of several has no digest, and the verb's name."""

    name: Text
    network: Text
    sha256: Text | None


class Base(Record):
    """The model that the adapter fits; without a digest if its weights were not read."""

    name: Text
    sha256: Text | None


class FindingRecord(Record):
    """A sort of finding in a document, with its count, pages or lines, and the first words of
    dropped text."""

    kind: Text
    what: Text
    count: Count
    pages: tuple[Count, ...] = ()
    lines: tuple[Count, ...] = ()


class Input(Record):
    """A document that was compiled."""

    name: Text
    format: Text
    sha256: Text
    size_bytes: Count
    notes: tuple[Text, ...] = ()
    findings: tuple[FindingRecord, ...] = ()
    include_hidden: Flag = False  # hidden text was compiled, too


class Skipped(Record):
    """An input that could not be read."""

    name: Text
    reason: Text


class ChunkRecord(Record):
    """A chunk of a document: its place, and its ranks (or seats).

    `ranks` is None if compression or mixing left the chunk no ranks of its own. `scale` is the
    chunk's strength, relative to that after compiling.
    """

    index: Count
    document: Line
    source: Line
    characters: Span | None = None  # of the document's text
    n_tokens: Count
    ranks: Span | None = None
    scale: Number = 1.0


class Opening(Record):
    """The beginning of every prompt; `seats` are positions in it, 0 is the sink."""

    ids: Rows[Count]
    text: Text
    seats: Rows[Count]

    @model_validator(mode="after")
    def _check_seats(self) -> "Opening":
        if not 1 <= len(self.ids) <= 1 + MOST_SEATS:
            raise ValueError(f"has {len(self.ids):,} tokens, expected 1 to {1 + MOST_SEATS:,}")
        if any(seat >= len(self.ids) for seat in self.seats):
            raise ValueError("a seat is no position of its ids")
        return self

    @property
    def most_seats(self) -> int | None:
        """Number of its seats; None if it has none."""
        return len(self.seats) or None


class Prompt(Record):
    """The prompt that the adapter answers to. The `instruction` follows the opening where a caller
    has no system message."""

    chat_template: Text
    turns: Text
    opening: Opening | None = None
    instruction: Text = ""


class ExamplesRecord(Record):
    """Solved examples, read with a description as turns of a chat: the file's SHA-256, its number
    of rows, and the rows that were read, in their order, counted from 1."""

    sha256: Text
    n: Count
    rows: tuple[Count, ...]


class Description(Record):
    """The task description that an adapter was made from, maybe with solved examples."""

    text: Text
    sha256: Text
    embedder: Text
    examples: ExamplesRecord | None = None


class Options(Record):
    """Options of the user; each verb has its own."""

    merge: Text | None = None
    scale: Number = 1.0
    bias_scale: Number = 1.0
    max_rank: Count | None = None
    chunk_tokens: Count | None = None
    tokens_per_seat: Count | None = None
    base_dtype: Text | None = None  # the precision that the base computed in; None: not recorded
    dtype: Text | None = None
    scaling: Text | None = None


class ExportRecord(Record):
    """The record that `d2l export` adds to d2l.json, or all of it for an adapter of another tool.

    `d2l` is the version that exported, `files` are the names of all exported files.
    """

    d2l: Text
    to: Text | None = None
    adapter_sha256: Text | None = None
    dtype: Text | None = None
    files: tuple[Text, ...] | None = None  # versions before 0.2.0 did not list them


class Provenance(Record):
    """Content of d2l.json. Compiled, made and changed adapters have the first fields in common."""

    format: Literal[1, 2, 3] = 3  # 1 and 2 have `norms`, kept as they are; 2 has `seats`, too
    tool: Tool
    checkpoint: Checkpoint
    base: Base
    inputs: Rows[Input]
    skipped: Rows[Skipped]
    chunks: Rows[ChunkRecord]
    rank: Count
    options: Options
    merge_error: dict[Text, Number]
    prompt: Prompt
    warnings: tuple[Text, ...]
    # Compiled from documents.
    refinement: dict[str, Any] | None = None  # of older adapters: no command writes it any more
    bias_ranks: Span | None = None  # of the learned bias, behind the ranks of all chunks
    rank_before_max_rank: Count | None = None
    parts_sha256: Text | None = None  # of parts.json, if the adapter keeps parts
    text_sha256: Text | None = None  # of text.json, if one memory is kept with its text
    # Of files of tensors. Adapters that were written without are read unchecked.
    weights_sha256: Text | None = None  # of adapter_model.safetensors
    memory_sha256: Text | None = None  # of memory.safetensors
    seats: Count | None = None  # that chunks share, if the weights have a lower rank
    # Made from a description.
    description: Description | None = None
    scale: Number | None = None  # folded into lora_B
    # Made from other adapters: a record of the change, and the parents' whole provenance.
    merge: dict[str, Any] | None = None
    edit: dict[str, Any] | None = None
    parents: tuple[dict[str, Any], ...] = ()
    # Added by `d2l export`.
    export: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check_ranks(self) -> "Provenance":
        if self.seats is not None and self.seats > MOST_SEATS:
            raise ValueError(f"seats: {self.seats} are more than any opening has")
        most = self.rank if self.seats is None else self.seats
        size = f"rank {most}" if self.seats is None else f"{most} seats"
        for n, chunk in enumerate(self.chunks):
            if chunk.ranks is not None and chunk.ranks[1] > most:
                raise ValueError(f"chunks[{n}].ranks: the adapter has {size}")
        stop = 0
        for span in sorted({c.ranks for c in self.chunks if c.ranks and c.ranks[0] < c.ranks[1]}):
            if span[0] < stop:  # averaged chunks have the same span, which is counted once
                raise ValueError(f"chunks: the ranks from {span[0]} on are named twice")
            stop = span[1]
        if self.bias_ranks is not None and self.bias_ranks[1] > most:
            raise ValueError(f"bias_ranks: the adapter has {size}")
        return self

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, source: str) -> "Provenance":
        """Read JSON values; raises AdapterError with one line that begins with `source`."""
        version = values.get("format")
        if type(version) is not int or not 1 <= version <= VERSION:
            raise AdapterError(
                f"{source}: format is {_shorten(repr(version))}, this d2l reads 1 to {VERSION}",
                hint="use the d2l that wrote it, or compile the document again",
            )
        try:
            _refuse_unprintable(values)
            return cls.model_validate(values)
        except ValidationError as error:
            raise AdapterError(f"{source}: {explain(error)}", hint=_HINT) from error
        except (ValueError, RecursionError) as error:
            raise AdapterError(f"{source}: {error}", hint=_HINT) from error

    def to_json(self) -> dict[str, Any]:
        """Values of d2l.json; control characters of documents are replaced."""
        return {"format": self.format, **super().to_json()}


def _plain(value: Any) -> Any:
    """Turn tuples into lists, and replace control characters, which `_refuse_unprintable`
    refuses."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return "".join("\ufffd" if _is_control(c) else c for c in value) if _has(value) else value


def _refuse_unprintable(value: object, where: str = "", depth: int = 0) -> None:
    """Raise ValueError for control characters, which would reach a terminal, for numbers that are
    not finite, and for deep nesting, anywhere in a value."""
    if depth > _MOST_NESTED:
        raise ValueError(f"{_shorten(where)}: is nested too deeply")
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_unprintable(key, f"a name in {where or 'it'}", depth)
            _refuse_unprintable(inner, f"{where}.{key}" if where else key, depth + 1)
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            _refuse_unprintable(inner, f"{where}[{n}]", depth + 1)
    elif _has(value):
        raise ValueError(f"{_shorten(where)}: has control characters")
    elif isinstance(value, int | float) and not abs(value) <= 2.0**1000:
        raise ValueError(f"{_shorten(where)}: is not a finite number")


def _has(value: object) -> bool:
    return isinstance(value, str) and not value.isprintable() and any(map(_is_control, value))


def _is_control(char: str) -> bool:
    """True if a character steers a terminal; line ends and the like are white space."""
    return (char < " " or "\x7f" <= char < "\xa0") and not char.isspace()


def explain(error: ValidationError) -> str:
    """Describe the first fault, after its path: "chunks[2].ranks: expected …"."""
    first = error.errors(include_url=False, include_input=False)[0]
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]]
    where = _shorten("".join(parts).removeprefix("."))
    if first["type"] == "missing":
        return f"{where} is missing"
    reason = first.get("ctx", {}).get("error") or _EXPECTED.get(first["type"], first["msg"])
    return f"{where}: {reason}" if where else str(reason)


_EXPECTED = {
    "model_type": "expected a JSON object",
    "dict_type": "expected a JSON object",
    "tuple_type": "expected a list",
}


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
