"""Checkpoint files to a network's configuration, and then to the network; safe reading only.

Takes local paths; names, aliases and downloads are not known here. `FORMATS` at the foot lists
what can be read.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import nn

from d2l.errors import CheckpointError
from d2l.files.atomic import building, refuse_existing
from d2l.hypernets.doc_to_lora import network as doc_to_lora
from d2l.hypernets.doc_to_lora import released
from d2l.hypernets.doc_to_lora.network import DocToLora, DocToLoraConfig
from d2l.hypernets.formats import native
from d2l.hypernets.formats.int8 import expand_tensors, is_compact
from d2l.hypernets.formats.native import naming
from d2l.hypernets.protocol import HypernetConfig, Hypernetwork
from d2l.hypernets.seats.config import read_config as read_seats_config
from d2l.hypernets.seats.network import load_seats
from d2l.hypernets.text_to_lora import network as text_to_lora
from d2l.hypernets.text_to_lora import released as released_text
from d2l.hypernets.text_to_lora.network import TextToLora, TextToLoraConfig


class Loader(Protocol):
    """Builds the network of a checkpoint; only some formats need the base model for it."""

    def __call__(self, path: Path, *, device: str, base: nn.Module | None) -> Hypernetwork:
        """Read the checkpoint at `path` onto a device."""


@dataclass(frozen=True)
class Format:
    """One kind of checkpoint. `matches` looks at names and small files only."""

    name: str
    description: str
    matches: Callable[[Path], bool]
    read_config: Callable[[Path], HypernetConfig]
    load: Loader
    find_weights: Callable[[Path], Path]  # the file whose digest tells checkpoints apart
    list_warnings: Callable[[Path], list[str]] = lambda _: []


def find_format(path: Path) -> Format:
    """Tell which format a path holds."""
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
    """What the user should know of how a checkpoint is read; nearly always nothing."""
    return find_format(path).list_warnings(path)


def load_hypernet(path: Path, *, device: str, base: nn.Module | None = None) -> Hypernetwork:
    """Read a checkpoint's network onto a device."""
    return find_format(path).load(path, device=device, base=base)


def checkpoint_digest(path: Path) -> str:
    """SHA-256 of the checkpoint's weights file, in hex."""
    weights = find_format(path).find_weights(path)
    with naming(weights), weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text_config(path: Path) -> TextToLoraConfig:
    """Read the configuration of a network that reads task descriptions; refuses all others."""
    config = read_config(path)
    if not isinstance(config, TextToLoraConfig):
        raise CheckpointError(
            f"{path}: is a {config.kind} network, which reads documents and no descriptions",
            hint="use d2l compile, or name a Text-to-LoRA checkpoint",
        )
    return config


def load_text_to_lora(path: Path, *, device: str) -> TextToLora:
    """Read a network that reads task descriptions onto a device; refuses all others."""
    if find_format(path).name == "released_text":
        checkpoint = released_text.read_released(path)
        tensors, file = checkpoint.read_tensors(), checkpoint.file
        config = checkpoint.config
    else:
        config, file = read_text_config(path), path / native.WEIGHTS_FILE
        tensors = native.read_tensors(file)
        if is_compact(tensors):
            tensors = expand_tensors(tensors, source=str(file))
    with naming(file):
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        native.check_shapes(shapes, text_to_lora.expected_shapes(config))
        return text_to_lora.build(config, tensors, device=device)


def convert(source: Path, target: Path, *, force: bool = False) -> Path:
    """Write a released checkpoint as a native folder: the same tensors, bit for bit.

    The folder appears whole or not at all.
    """
    readers: dict[str, Callable[[Path], released.Released | released_text.ReleasedText]] = {
        "released": released.read_released,
        "released_text": released_text.read_released,
    }
    read = readers.get(find_format(source).name)
    if read is None:
        raise CheckpointError(
            f"{source}: is not a released Doc-to-LoRA or Text-to-LoRA checkpoint",
            hint="only these are converted",
        )
    refuse_existing(target, force=force, is_ours=_is_native, error=CheckpointError)
    checkpoint = read(source)
    config = checkpoint.config
    with building(target) as folder:
        native.write_folder(folder, config.kind, config.to_json(), checkpoint.read_tensors())
    return target


def _read_released_config(path: Path) -> DocToLoraConfig:
    return released.read_released(path).config


def _load_released(path: Path, *, device: str, base: nn.Module | None) -> DocToLora:
    del base  # Doc-to-LoRA reads the base's activations only
    checkpoint = released.read_released(path)
    tensors = checkpoint.read_tensors()
    with naming(checkpoint.file):
        return doc_to_lora.build(checkpoint.config, tensors, device=device)


def _read_kind(path: Path) -> object:
    """The kind in a native folder's header; a damaged config.json is an error."""
    config = path / native.CONFIG_FILE
    return native.read_json(config).get("kind") if config.is_file() else None


def _is_native(path: Path) -> bool:
    return _read_kind(path) in (doc_to_lora.KIND, text_to_lora.KIND)


def _read_native_config(path: Path) -> DocToLoraConfig:
    fields = native.read_fields(path, doc_to_lora.KIND)
    with naming(path / native.CONFIG_FILE):
        return DocToLoraConfig.from_json(fields)


def _load_native(path: Path, *, device: str, base: nn.Module | None) -> DocToLora:
    del base
    config = _read_native_config(path)
    weights = path / native.WEIGHTS_FILE
    tensors = native.read_tensors(weights)
    with naming(weights):
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        native.check_shapes(shapes, doc_to_lora.expected_shapes(config))
        return doc_to_lora.build(config, tensors, device=device)


def _read_native_text_config(path: Path) -> TextToLoraConfig:
    fields = native.read_fields(path, text_to_lora.KIND)
    with naming(path / native.CONFIG_FILE):
        return TextToLoraConfig.from_json(fields)


def _refuse_documents(path: Path, *, device: str, base: nn.Module | None) -> Hypernetwork:
    del device, base
    raise CheckpointError(
        f"{path}: is a Text-to-LoRA network, which reads task descriptions and no documents",
        hint="use t2l make, or name another checkpoint",
    )


def _find_native_weights(path: Path) -> Path:
    return path / native.WEIGHTS_FILE


def _is_seats(path: Path) -> bool:
    config = path / native.CONFIG_FILE
    return config.is_file() and native.read_json(config).get("network") == "seats"


def _load_seats(path: Path, *, device: str, base: nn.Module | None) -> Hypernetwork:
    del device  # the network goes where the base is, which takes part in the seating
    assert base is not None  # the pipeline loads the base first
    return load_seats(path, base)


FORMATS: tuple[Format, ...] = (
    Format(
        name="seats",
        description="a d2l folder of a seat network (config.json, model.safetensors, "
        "statistics.safetensors)",
        matches=_is_seats,
        read_config=lambda path: read_seats_config(path / native.CONFIG_FILE),
        load=_load_seats,
        find_weights=_find_native_weights,
    ),
    Format(
        name="doc_to_lora",
        description="a d2l folder of a Doc-to-LoRA network (config.json, model.safetensors)",
        matches=lambda path: _read_kind(path) == doc_to_lora.KIND,
        read_config=_read_native_config,
        load=_load_native,
        find_weights=_find_native_weights,
    ),
    Format(
        name="text_to_lora",
        description="a d2l folder of a Text-to-LoRA network (config.json, model.safetensors)",
        matches=lambda path: _read_kind(path) == text_to_lora.KIND,
        read_config=_read_native_text_config,
        load=_refuse_documents,
        find_weights=_find_native_weights,
    ),
    Format(
        name="released_text",
        description="a released Text-to-LoRA checkpoint (hypermod.pt, args.yaml and "
        "adapter_config.json)",
        matches=released_text.matches,
        read_config=lambda path: released_text.read_released(path).config,
        load=_refuse_documents,
        find_weights=released_text.find_file,
    ),
    Format(
        name="released",
        description="a released Doc-to-LoRA checkpoint (pytorch_model.bin or its run folder)",
        matches=released.matches,
        read_config=_read_released_config,
        load=_load_released,
        find_weights=released.find_file,
        list_warnings=released.list_warnings,
    ),
)
