"""Facts of an adapter folder, read without torch: provenance (`d2l.json`), PEFT config, shapes."""

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2l.adapters.module_names import PREFIX, list_layers, list_short
from d2l.errors import AdapterError
from d2l.files.cache import folder_size
from d2l.files.leftovers import recover
from d2l.files.regular import refuse_irregular
from d2l.files.tensors import TensorInfo, read_header

if TYPE_CHECKING:
    from d2l.adapters.provenance import ExportRecord, Provenance

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PROVENANCE = "d2l.json"
MEMORY = "memory.safetensors"
PARTS = "parts.json"  # `adapters.parts` writes both
PART_VALUES = "parts.safetensors"
TEXT = "text.json"  # places and texts of chunks that one memory holds
CHAT_TEMPLATE = "chat_template.jinja"
CARD = "README.md"
LOCK = "d2l.lock"  # digests of inputs and outputs: `compiler.lock` writes it
#: Files of a tokenizer beside its chat template.
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
#: All files that d2l writes into an adapter folder.
FILES = (
    CONFIG,
    WEIGHTS,
    PROVENANCE,
    MEMORY,
    PARTS,
    PART_VALUES,
    TEXT,
    CHAT_TEMPLATE,
    CARD,
    *TOKENIZER,
    LOCK,
)
MAKE_ONE = "make one with `d2l compile DOCUMENT`"
#: Most bytes of a JSON file, and the share of the whole folder that it may have beyond. A chunk
#: takes some 200 bytes of d2l.json and 2,000 of text; its values take 100,000 and more.
_MOST_JSON_BYTES, _JSON_SHARE = 1 << 19, 32
#: Longest path of operating systems.
_MAX_NAME = 4096


@dataclass(frozen=True)
class AdapterInfo:
    """An adapter folder without its weights; `provenance` is None for adapters of other tools."""

    folder: Path
    config: Mapping[str, Any] = field(repr=False)
    tensors: Mapping[str, TensorInfo] = field(repr=False)
    provenance: "Provenance | None" = field(repr=False)
    size_bytes: int

    @property
    def rank(self) -> int:
        """Rank that the PEFT config declares; 0 if it declares none."""
        rank = self.config.get("r", 0)
        if type(rank) is not int:  # not isinstance: true is an int to it
            raise AdapterError(f"{self.folder / CONFIG}: r is {rank!r}, expected a whole number")
        return rank

    @property
    def module_names(self) -> set[str]:
        """Names of the changed modules, in the causal model."""
        names = (name.removeprefix(PREFIX) for name in self.tensors)
        return {name.partition(".lora_")[0] for name in names if ".lora_" in name}

    @property
    def n_parts(self) -> int:
        """Number of parts in the folder, which are not read; 0 if their file was removed."""
        provenance, path = self.provenance, self.folder / PARTS
        if provenance is None or provenance.parts_sha256 is None or not path.is_file():
            return 0
        return len(provenance.chunks)

    @property
    def parts_bytes(self) -> int:
        """Size of the parts' files."""
        paths = [self.folder / name for name in (PARTS, PART_VALUES)]
        return sum(path.stat().st_size for path in paths if path.is_file()) if self.n_parts else 0

    @property
    def base_sha256(self) -> str | None:
        """SHA-256 of the base's weights, if the adapter names it."""
        return None if self.provenance is None else self.provenance.base.sha256

    def count_seats(self) -> int:
        """Count the seats of its memory, without weights; 0 if it has none."""
        path = self.folder / MEMORY
        if not path.is_file():
            return 0
        keys = read_header(path).get("keys")
        if keys is None or len(keys.shape) != 3:
            raise AdapterError(
                f"{path}: holds no keys of seats", hint="the adapter is damaged: compile it again"
            )
        return keys.shape[1]


def describe_adapter(info: AdapterInfo) -> dict[str, Any]:
    """Describe an adapter, of other tools too, in the values that `d2l inspect --json` prints."""
    return {
        "adapter": str(info.folder),
        "base": info.config.get("base_model_name_or_path"),
        "rank": info.rank,
        "lora_alpha": info.config.get("lora_alpha"),
        "modules": list_short(n.split(".lora_A.")[0] for n in info.tensors if ".lora_A." in n),
        "layers": list_layers(info.tensors),
        "dtype": sorted({tensor.dtype for tensor in info.tensors.values()}),
        "size_bytes": info.size_bytes,
        "n_parts": info.n_parts,
        "parts_bytes": info.parts_bytes,
        "provenance": None if info.provenance is None else info.provenance.to_json(),
    }


def count_json_bytes(folder: Path) -> int:
    """Count the bytes that a JSON file of an adapter may have at most: values of megabytes would
    take gigabytes of memory."""
    return _MOST_JSON_BYTES + folder_size(folder) // _JSON_SHARE


def is_adapter(folder: Path) -> bool:
    """True if a folder holds a PEFT adapter."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def own_names(folder: Path) -> tuple[str, ...] | None:
    """List the names of files that d2l writes into an adapter folder; None for a folder whose
    d2l.json is not that of an adapter of d2l."""
    try:
        if not is_adapter(folder):
            return None
        provenance = _read_provenance(folder / PROVENANCE, {})  # whatever its ranks
    except (AdapterError, OSError):
        return None
    return FILES if provenance is not None and provenance.tool.name == "d2l" else None


def read_export(folder: Path) -> "ExportRecord | None":
    """Read the record of an export from the d2l.json of its folder; None if it has no record."""
    from pydantic import ValidationError

    from d2l.adapters.provenance import ExportRecord

    try:
        return ExportRecord.model_validate(_read_object(folder / PROVENANCE).get("export"))
    except (AdapterError, OSError, ValidationError):
        return None


def read_info(folder: Path) -> AdapterInfo:
    """Read everything but the weights; raises AdapterError."""
    try:
        return _read_info(folder)
    except OSError as error:  # no permission, or a name that no file can have
        raise AdapterError(
            f"{folder}: cannot be read ({error.strerror})",
            hint="check the path and its permissions",
        ) from error


def read_base_name(folder: Path) -> str:
    """Read the name of the base from an adapter's config; raises AdapterError if it has none."""
    config = _read_object(folder / CONFIG)
    _refuse_odd_name(folder, config.get("base_model_name_or_path"))
    name = config.get("base_model_name_or_path")
    if not name:
        raise AdapterError(f"{folder / CONFIG}: does not name a base")
    return str(name)


def _read_info(folder: Path) -> AdapterInfo:
    if not folder.is_dir():
        recover(folder)
    if not folder.is_dir():
        raise AdapterError(f"{folder}: no such adapter folder", hint=MAKE_ONE)
    if not is_adapter(folder):
        raise AdapterError(
            f"{folder}: not an adapter ({CONFIG} and {WEIGHTS} are needed)",
            hint="name the folder that `d2l compile` wrote",
        )
    refuse_irregular(folder, AdapterError)
    provenance, tensors = folder / PROVENANCE, read_header(folder / WEIGHTS)
    config = _read_object(folder / CONFIG)
    _refuse_odd_name(folder, config.get("base_model_name_or_path"))
    return AdapterInfo(
        folder=folder,
        config=config,
        tensors=tensors,
        provenance=_read_provenance(provenance, tensors) if provenance.is_file() else None,
        size_bytes=folder_size(folder),
    )


def _refuse_odd_name(folder: Path, base: object) -> None:
    """Raise AdapterError for an invalid name of a base, which would be printed many times."""
    if base is not None and not (isinstance(base, str) and len(base) <= _MAX_NAME):
        value = f"{len(base):,} characters" if isinstance(base, str) else f"{base!r:.80}"
        raise AdapterError(
            f"{folder / CONFIG}: base_model_name_or_path is {value}, expected a name or a path",
            hint="correct it, or get the adapter again",
        )


def _read_provenance(path: Path, tensors: Mapping[str, TensorInfo]) -> "Provenance | None":
    from d2l.adapters.provenance import Provenance  # slow to import, and not always needed

    values = _read_object(path)
    if values.keys() == {"format", "export"}:  # exported, and another tool's
        return None
    provenance = Provenance.from_json(values, source=str(path))
    rank = max(
        (t.shape[0] for name, t in tensors.items() if ".lora_A." in name and t.shape), default=0
    )
    if 0 < rank < provenance.rank:  # its ranks would be out of range
        raise AdapterError(
            f"{path}: speaks of rank {provenance.rank}, and {WEIGHTS} has {rank}",
            hint="it belongs to another adapter, or is damaged: compile the document again",
        )
    return provenance


def _read_object(path: Path) -> dict[str, Any]:
    try:
        facts = path.stat()
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(facts.st_mode):  # a pipe or a device may never end
        raise AdapterError(f"{path}: is no regular file", hint="get the adapter again")
    size = facts.st_size
    if size > (most := count_json_bytes(path.parent)):
        raise AdapterError(
            f"{path}: has {size:,} bytes, more than {most:,}",
            hint="it is damaged: compile the document again",
        )
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{path}: not readable as JSON", hint=str(error)) from error
    if not isinstance(values, dict):
        raise AdapterError(f"{path}: expected a JSON object")
    return values
