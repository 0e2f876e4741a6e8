"""What an adapter folder says of itself, read without torch.

A folder in; its provenance (`d2l.json`), its PEFT config and the shapes of its tensors out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2l.errors import AdapterError
from d2l.files.tensors import TensorInfo, read_header

if TYPE_CHECKING:
    from d2l.adapters.provenance import Provenance

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PROVENANCE = "d2l.json"
MEMORY = "memory.safetensors"
CHAT_TEMPLATE = "chat_template.jinja"
CARD = "README.md"


@dataclass(frozen=True)
class AdapterInfo:
    """An adapter folder without its weights; `provenance` is None for adapters of other tools."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    provenance: "Provenance | None"
    size_bytes: int

    @property
    def rank(self) -> int:
        """Rank that the PEFT config declares; 0 where it declares none."""
        rank = self.config.get("r", 0)
        if type(rank) is not int:  # not isinstance: true is an int to it
            raise AdapterError(f"{self.folder / CONFIG}: r is {rank!r}, expected a whole number")
        return rank


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def read_info(folder: Path) -> AdapterInfo:
    """Read everything but the weights; raises AdapterError."""
    try:
        return _read_info(folder)
    except OSError as error:  # no permission, or a name that no file can have
        raise AdapterError(
            f"{folder}: cannot be read ({error.strerror})",
            hint="check the path and its permissions",
        ) from error


def _read_info(folder: Path) -> AdapterInfo:
    if not folder.is_dir():
        raise AdapterError(
            f"{folder}: no such adapter folder",
            hint="make one with `d2l compile DOCUMENT -o ADAPTER`",
        )
    if not is_adapter(folder):
        raise AdapterError(
            f"{folder}: not an adapter ({CONFIG} and {WEIGHTS} are needed)",
            hint="name the folder that `d2l compile` wrote",
        )
    provenance = folder / PROVENANCE
    return AdapterInfo(
        folder=folder,
        config=_read_object(folder / CONFIG),
        tensors=read_header(folder / WEIGHTS),
        provenance=_read_provenance(provenance) if provenance.is_file() else None,
        size_bytes=sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
    )


def _read_provenance(path: Path) -> "Provenance":
    from d2l.adapters.provenance import Provenance  # slow to import, and not always needed

    return Provenance.from_json(_read_object(path), source=str(path))


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{path}: not readable as JSON", hint=str(error)) from error
    if not isinstance(found, dict):
        raise AdapterError(f"{path}: expected a JSON object")
    return found
