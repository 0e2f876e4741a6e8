"""Checkpoint files to a network's configuration, and then to the network; safe reading only.

Takes local paths; `registry` knows names, aliases and downloads. `FORMATS` lists the formats.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from d2l.errors import CheckpointError
from d2l.files.atomic import building
from d2l.files.cache import file_digest
from d2l.files.ownership import refuse_existing
from d2l.hypernets.doc_to_lora import network as doc_to_lora
from d2l.hypernets.doc_to_lora import released
from d2l.hypernets.formats import native
from d2l.hypernets.formats.fields import naming, read_json
from d2l.hypernets.protocol import HypernetConfig
from d2l.hypernets.seats.config import read_config as read_seats_config
from d2l.hypernets.seats.network import load_seats
from d2l.hypernets.text_to_lora import network as text_to_lora
from d2l.hypernets.text_to_lora import released as released_text
from d2l.progress import log_time

_log = logging.getLogger(__name__)

#: All files that d2l writes into a checkpoint folder. Folders of runs hold more.
_FILES = (
    native.CONFIG_FILE,
    native.WEIGHTS_FILE,
    "statistics.safetensors",
    "familiarity.safetensors",
    "README.md",
)


@dataclass(frozen=True)
class Format:
    """A format of checkpoints. `matches` reads names and small files only.

    The digest of the file that `find_weights` finds tells checkpoints apart.
    """

    name: str
    description: str
    matches: Callable[[Path], bool]
    read_config: Callable[[Path], HypernetConfig]
    read_tensors: Callable[[Path], dict[str, Tensor]]
    find_weights: Callable[[Path], Path] = lambda path: path / native.WEIGHTS_FILE
    list_warnings: Callable[[Path], list[str]] = lambda _: []


def find_format(path: Path) -> Format:
    """Find the format of a checkpoint; raises CheckpointError."""
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or folder")
    for entry in FORMATS:
        if entry.matches(path):
            return entry
    raise CheckpointError(
        f"{path}: is not a hypernetwork checkpoint",
        hint="expected one of: " + "; ".join(entry.description for entry in FORMATS),
    )


def read_config(path: Path) -> HypernetConfig:
    """Read a checkpoint's configuration; no weights are read."""
    return find_format(path).read_config(path)


def list_warnings(path: Path) -> list[str]:
    """List warnings about how a checkpoint is read; there are hardly ever any."""
    return find_format(path).list_warnings(path)


def load_hypernet(path: Path, *, device: str, base: nn.Module | None = None) -> Any:
    """Read a network onto a device; a seat network goes to its base's device."""
    entry = find_format(path)
    with log_time(_log, "loaded the network from %s", path):
        if entry.name == "seats":
            assert base is not None  # the base takes part in the seating
            return load_seats(path, base)
        config, tensors = entry.read_config(path), entry.read_tensors(path)
        kind = doc_to_lora if config.kind == doc_to_lora.KIND else text_to_lora
        network: Any = kind  # two modules with the same functions
        with naming(entry.find_weights(path)):
            shapes = {name: tensor.shape for name, tensor in tensors.items()}
            native.check_shapes(shapes, network.expected_shapes(config))
            native.check_finite(tensors)
            return network.build(config, tensors, device=device)


def checkpoint_digest(path: Path) -> str:
    """SHA-256 of the checkpoint's weights file, in hex."""
    weights = find_format(path).find_weights(path)
    with naming(weights):
        return file_digest(weights)


def refuse_checkpoint(target: Path, *, force: bool) -> None:
    """Raise CheckpointError unless a checkpoint folder may be written at `target`."""
    refuse_existing(target, force=force, own_names=_own_names, error=CheckpointError)


def _own_names(folder: Path) -> tuple[str, ...] | None:
    """The files of d2l's own checkpoint folders; None for any other folder."""
    try:
        is_own = _read_kind(folder) in ("seats", doc_to_lora.KIND, text_to_lora.KIND)
    except CheckpointError:
        return None
    return _FILES if is_own else None


def convert(source: Path, target: Path, *, force: bool = False) -> Path:
    """Write a released checkpoint as a native folder: the same tensors, bit for bit.

    The folder appears whole or not at all.
    """
    entry = find_format(source)
    if entry.name not in ("released", "released_text"):
        raise CheckpointError(
            f"{source}: is not a released Doc-to-LoRA or Text-to-LoRA checkpoint",
            hint="name one, or the folder of a run of d2l train",
        )

    def refuse() -> None:
        refuse_checkpoint(target, force=force)

    refuse()
    config: Any = entry.read_config(source)
    with building(target, refuse) as folder:
        native.write_folder(folder, config.kind, config.to_json(), entry.read_tensors(source))
    return target


def _read_kind(path: Path) -> object:
    """The kind in a native folder's config.json; a damaged file is an error."""
    file = path / native.CONFIG_FILE
    fields = read_json(file) if file.is_file() else {}
    return "seats" if fields.get("network") == "seats" else fields.get("kind")


def _read_native_config(path: Path) -> HypernetConfig:
    kind = str(_read_kind(path))
    fields = native.read_fields(path, kind)
    with naming(path / native.CONFIG_FILE):
        if kind == doc_to_lora.KIND:
            return doc_to_lora.DocToLoraConfig.from_json(fields)
        return text_to_lora.TextToLoraConfig.from_json(fields)


def _read_native_tensors(path: Path) -> dict[str, Tensor]:
    file = path / native.WEIGHTS_FILE
    tensors = native.read_tensors(file)
    if native.is_compact(tensors):
        return native.expand_tensors(tensors, source=str(file))
    return tensors


#: In this order: `released` comes last, because it accepts files by their ending alone.
FORMATS = (
    Format(
        name="text_to_lora",
        description="a d2l folder of a Text-to-LoRA network (config.json, model.safetensors)",
        matches=lambda path: _read_kind(path) == text_to_lora.KIND,
        read_config=_read_native_config,
        read_tensors=_read_native_tensors,
    ),
    Format(
        name="released_text",
        description="a released Text-to-LoRA checkpoint (hypermod.pt, args.yaml and "
        "adapter_config.json)",
        matches=released_text.matches,
        read_config=lambda path: released_text.read_released(path).config,
        read_tensors=lambda path: released_text.read_released(path).read_tensors(),
        find_weights=released_text.find_file,
    ),
    Format(
        name="seats",
        description="a d2l folder of a seat network (config.json, model.safetensors, "
        "statistics.safetensors)",
        matches=lambda path: _read_kind(path) == "seats",
        read_config=lambda path: read_seats_config(path / native.CONFIG_FILE),
        read_tensors=_read_native_tensors,
    ),
    Format(
        name="doc_to_lora",
        description="a d2l folder of a Doc-to-LoRA network (config.json, model.safetensors)",
        matches=lambda path: _read_kind(path) == doc_to_lora.KIND,
        read_config=_read_native_config,
        read_tensors=_read_native_tensors,
    ),
    Format(
        name="released",
        description="a released Doc-to-LoRA checkpoint (pytorch_model.bin or its run folder)",
        matches=released.matches,
        read_config=lambda path: released.read_released(path).config,
        read_tensors=lambda path: released.read_released(path).read_tensors(),
        find_weights=released.find_file,
        list_warnings=released.list_warnings,
    ),
)
