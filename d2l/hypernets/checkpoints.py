"""Checkpoint files to a network's configuration, and then to the network; safe reading only.

Takes local paths; names, aliases and downloads are not known here. The tables at the foot list what
can be read: networks that read documents, and those that read task descriptions.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor, nn

from d2l.errors import CheckpointError
from d2l.files.atomic import building
from d2l.files.ownership import refuse_existing
from d2l.hypernets.doc_to_lora import network as doc_to_lora
from d2l.hypernets.doc_to_lora import released
from d2l.hypernets.doc_to_lora.network import DocToLora, DocToLoraConfig
from d2l.hypernets.formats import native
from d2l.hypernets.formats.native import expand_tensors, is_compact, naming
from d2l.hypernets.protocol import HypernetConfig, Hypernetwork
from d2l.hypernets.seats.config import read_config as read_seats_config
from d2l.hypernets.seats.network import load_seats
from d2l.hypernets.text_to_lora import network as text_to_lora
from d2l.hypernets.text_to_lora import released as released_text
from d2l.hypernets.text_to_lora.network import TextToLora, TextToLoraConfig
from d2l.progress import log_time

_log = logging.getLogger(__name__)

#: All that d2l writes into a checkpoint folder; that of a run holds more, which is not replaced.
_FILES = (
    native.CONFIG_FILE,
    native.WEIGHTS_FILE,
    "statistics.safetensors",
    "familiarity.safetensors",
    "README.md",
)


Config_co = TypeVar("Config_co", bound=HypernetConfig, covariant=True)
Network_co = TypeVar("Network_co", covariant=True)


@dataclass(frozen=True)
class LoadContext:
    """Where a checkpoint lies and its network goes; the base, which only some networks need."""

    path: Path
    device: str
    base: nn.Module | None = None


@dataclass(frozen=True)
class Format(Generic[Config_co, Network_co]):
    """One kind of checkpoint. `matches` looks at names and small files only."""

    name: str
    description: str
    matches: Callable[[Path], bool]
    read_config: Callable[[Path], Config_co]
    load: Callable[[LoadContext], Network_co]
    find_weights: Callable[[Path], Path]  # the file whose digest tells checkpoints apart
    list_warnings: Callable[[Path], list[str]] = lambda _: []


def find_format(path: Path) -> Format[HypernetConfig, object]:
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
    """Read a network that reads documents onto a device; refuses all others."""
    entry = _take(
        path,
        DOCUMENT_FORMATS,
        "{path}: is a {kind} network, which reads task descriptions and no documents",
        "use t2l make, or name another checkpoint",
    )
    with log_time(_log, "loaded the network from %s", path):
        return entry.load(LoadContext(path, device, base))


def checkpoint_digest(path: Path) -> str:
    """SHA-256 of the checkpoint's weights file, in hex."""
    weights = find_format(path).find_weights(path)
    with naming(weights), weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text_config(path: Path) -> TextToLoraConfig:
    """Read the configuration of a network that reads task descriptions; refuses all others."""
    return _take_task(path).read_config(path)


def load_text_to_lora(path: Path, *, device: str) -> TextToLora:
    """Read a network that reads task descriptions onto a device; refuses all others."""
    return _take_task(path).load(LoadContext(path, device))


def _take_task(path: Path) -> Format[TextToLoraConfig, TextToLora]:
    return _take(
        path,
        TASK_FORMATS,
        "{path}: is a {kind} network, which reads documents and no descriptions",
        "use d2l compile, or name a Text-to-LoRA checkpoint",
    )


def _take(
    path: Path, formats: Sequence[Format[Config_co, Network_co]], refusal: str, hint: str
) -> Format[Config_co, Network_co]:
    """The format of `path` as one of these; `refusal` may name its {path} and {kind}."""
    found = find_format(path)
    for entry in formats:
        if entry.name == found.name:
            return entry
    kind = found.read_config(path).kind
    raise CheckpointError(refusal.format(path=path, kind=kind), hint=hint)


def refuse_checkpoint(target: Path, *, force: bool) -> None:
    """Raise CheckpointError unless a checkpoint folder may be written at `target`."""
    refuse_existing(target, force=force, own_names=_own_names, error=CheckpointError)


def _own_names(folder: Path) -> tuple[str, ...] | None:
    """The files of d2l's own checkpoint folders; None for a folder whose config.json is not that
    of a network of d2l."""
    try:
        is_own = _is_seats(folder) or _read_kind(folder) in (doc_to_lora.KIND, text_to_lora.KIND)
    except CheckpointError:
        return None
    return _FILES if is_own else None


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
            hint="name one, or the folder of a run of d2l train",
        )

    def refuse() -> None:
        refuse_checkpoint(target, force=force)

    refuse()
    checkpoint = read(source)
    config = checkpoint.config
    with building(target, refuse) as folder:
        native.write_folder(folder, config.kind, config.to_json(), checkpoint.read_tensors())
    return target


def _read_released_config(path: Path) -> DocToLoraConfig:
    return released.read_released(path).config


def _load_released(context: LoadContext) -> DocToLora:
    checkpoint = released.read_released(context.path)
    tensors = checkpoint.read_tensors()
    with naming(checkpoint.file):
        return doc_to_lora.build(checkpoint.config, tensors, device=context.device)


def _read_kind(path: Path) -> object:
    """The kind in a native folder's header; a damaged config.json is an error."""
    config = path / native.CONFIG_FILE
    return native.read_json(config).get("kind") if config.is_file() else None


def _read_native_config(path: Path) -> DocToLoraConfig:
    fields = native.read_fields(path, doc_to_lora.KIND)
    with naming(path / native.CONFIG_FILE):
        return DocToLoraConfig.from_json(fields)


def _load_native(context: LoadContext) -> DocToLora:
    config = _read_native_config(context.path)
    weights = context.path / native.WEIGHTS_FILE
    tensors = native.read_tensors(weights)
    with naming(weights):
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        native.check_shapes(shapes, doc_to_lora.expected_shapes(config))
        return doc_to_lora.build(config, tensors, device=context.device)


def _read_native_text_config(path: Path) -> TextToLoraConfig:
    fields = native.read_fields(path, text_to_lora.KIND)
    with naming(path / native.CONFIG_FILE):
        return TextToLoraConfig.from_json(fields)


def _load_native_text(context: LoadContext) -> TextToLora:
    config, file = _read_native_text_config(context.path), context.path / native.WEIGHTS_FILE
    tensors = native.read_tensors(file)
    if is_compact(tensors):
        tensors = expand_tensors(tensors, source=str(file))
    return _build_text(config, tensors, file, context.device)


def _load_released_text(context: LoadContext) -> TextToLora:
    checkpoint = released_text.read_released(context.path)
    tensors = checkpoint.read_tensors()
    return _build_text(checkpoint.config, tensors, checkpoint.file, context.device)


def _build_text(
    config: TextToLoraConfig, tensors: Mapping[str, Tensor], file: Path, device: str
) -> TextToLora:
    with naming(file):
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        native.check_shapes(shapes, text_to_lora.expected_shapes(config))
        return text_to_lora.build(config, tensors, device=device)


def _find_native_weights(path: Path) -> Path:
    return path / native.WEIGHTS_FILE


def _is_seats(path: Path) -> bool:
    config = path / native.CONFIG_FILE
    return config.is_file() and native.read_json(config).get("network") == "seats"


def _load_seats(context: LoadContext) -> Hypernetwork:
    """The network goes where the base is, which takes part in the seating."""
    assert context.base is not None  # the pipeline loads the base first
    return load_seats(context.path, context.base)


#: Networks that read documents.
DOCUMENT_FORMATS: tuple[Format[HypernetConfig, Hypernetwork], ...] = (
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
        name="released",
        description="a released Doc-to-LoRA checkpoint (pytorch_model.bin or its run folder)",
        matches=released.matches,
        read_config=_read_released_config,
        load=_load_released,
        find_weights=released.find_file,
        list_warnings=released.list_warnings,
    ),
)
#: Networks that read task descriptions.
TASK_FORMATS: tuple[Format[TextToLoraConfig, TextToLora], ...] = (
    Format(
        name="text_to_lora",
        description="a d2l folder of a Text-to-LoRA network (config.json, model.safetensors)",
        matches=lambda path: _read_kind(path) == text_to_lora.KIND,
        read_config=_read_native_text_config,
        load=_load_native_text,
        find_weights=_find_native_weights,
    ),
    Format(
        name="released_text",
        description="a released Text-to-LoRA checkpoint (hypermod.pt, args.yaml and "
        "adapter_config.json)",
        matches=released_text.matches,
        read_config=lambda path: released_text.read_released(path).config,
        load=_load_released_text,
        find_weights=released_text.find_file,
    ),
)
#: In this order: the last one, `released`, takes files by their ending alone.
FORMATS: tuple[Format[HypernetConfig, object], ...] = (*TASK_FORMATS, *DOCUMENT_FORMATS)
