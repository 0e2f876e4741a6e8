"""Formats of checkpoints: files of one kind of network, told apart, read and identified."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from d2l.files.cache import file_digest
from d2l.hypernets.formats import native, pickles
from d2l.hypernets.formats.fields import naming, read_json
from d2l.hypernets.protocol import HypernetConfig

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Format:
    """A format of checkpoints. `matches` reads names and small files only.

    `find_weights` finds the file whose digest identifies a checkpoint. `weights` and `texts` are
    the names of its files: no others are downloaded, and a download with all weights is whole.
    """

    name: str
    description: str
    matches: Callable[[Path], bool]
    read_config: Callable[[Path], HypernetConfig]
    read_tensors: Callable[[Path], dict[str, Tensor]]
    find_weights: Callable[[Path], Path] = lambda path: path / native.WEIGHTS_FILE
    list_warnings: Callable[[Path], list[str]] = lambda _: []
    weights: tuple[str, ...] = (native.WEIGHTS_FILE,)
    texts: tuple[str, ...] = (native.CONFIG_FILE,)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files."""
        return self.weights + self.texts

    def list_files(self, path: Path) -> list[str]:
        """List where a checkpoint's files may be: names in its folder, or in one below."""
        if path.is_file():
            return [path.name, *self.texts]
        found = (file for name in self.files for file in (path / name, *path.glob(f"*/{name}")))
        return [file.relative_to(path).as_posix() for file in found]

    def digest(self, path: Path) -> str:
        """SHA-256 of a checkpoint's weights file, in hex."""
        weights = self.find_weights(path)
        with naming(weights):
            return file_digest(weights)


@dataclass(frozen=True)
class Released:
    """A released checkpoint, checked: its configuration, and the place of each of the network's
    tensors in its file."""

    file: Path
    config: HypernetConfig
    records: Mapping[str, pickles.TensorRecord]

    def read_tensors(self) -> dict[str, Tensor]:
        """Read the tensors that the network uses onto the CPU as they are stored."""
        return pickles.read_tensors(self.file, self.records)


def native_format(
    kind: str,
    title: str,
    from_json: Callable[[Mapping[str, object]], HypernetConfig],
    *beside: str,
) -> Format:
    """Make the format of a d2l folder: `from_json` makes the configuration of config.json's
    fields; `beside` are names of further files."""

    def read_config(path: Path) -> HypernetConfig:
        fields = native.read_fields(path, kind)
        with naming(path / native.CONFIG_FILE):
            return from_json(fields)

    return Format(
        name=kind,
        description=f"a d2l folder of a {title} network (config.json, model.safetensors)",
        matches=lambda path: read_kind(path) == kind,
        read_config=read_config,
        read_tensors=_read_tensors,
        texts=(native.CONFIG_FILE, *beside),
    )


def _read_tensors(path: Path) -> dict[str, Tensor]:
    file = path / native.WEIGHTS_FILE
    tensors = native.read_tensors(file)
    if native.is_compact(tensors):
        return native.expand_tensors(tensors, source=str(file))
    return tensors


def load_checked(
    path: Path, entry: Format, build: Callable[..., Network], *, device: str
) -> Network:
    """Read a checkpoint's tensors, and build its network; raises CheckpointError, which names the
    file, for tensors of other names or shapes and for values that are not finite."""
    config, tensors = entry.read_config(path), entry.read_tensors(path)
    with naming(entry.find_weights(path)):
        native.check_finite(tensors)
        return build(config, tensors, device=device)


def read_kind(path: Path) -> object:
    """Read the kind of network from a d2l folder's config.json; a damaged file is an error."""
    file = path / native.CONFIG_FILE
    fields = read_json(file) if file.is_file() else {}
    return fields.get("network", fields.get("kind"))
