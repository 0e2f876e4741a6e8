"""Checkpoint folders that d2l writes: their protection, and released networks as such folders.

Local paths in; `networks` reads checkpoints, `registry` knows names, aliases and downloads.
"""

from functools import partial
from pathlib import Path

from d2l.errors import CheckpointError
from d2l.files.atomic import building
from d2l.files.ownership import refuse_existing
from d2l.hypernets.formats import native
from d2l.hypernets.formats.fields import EveryLayer
from d2l.hypernets.formats.format import read_kind
from d2l.hypernets.networks import find_format, list_networks

#: All files that d2l writes into a checkpoint folder. Folders of runs hold more.
_FILES = (
    native.CONFIG_FILE,
    native.WEIGHTS_FILE,
    "statistics.safetensors",
    "README.md",
)


def refuse_checkpoint(target: Path, *, force: bool) -> None:
    """Raise CheckpointError unless a checkpoint folder may be written at `target`."""
    refuse_existing(target, force=force, own_names=_own_names, error=CheckpointError)


def _own_names(folder: Path) -> tuple[str, ...] | None:
    """List the files of d2l's own checkpoint folders; None for other folders."""
    try:
        is_own = read_kind(folder) in {network.kind for network in list_networks()}
    except CheckpointError:
        return None
    return _FILES if is_own else None


def convert(source: Path, target: Path, *, force: bool = False) -> Path:
    """Write a released checkpoint as a native folder: the same tensors, bit for bit.

    The folder appears whole or not at all. Raises CheckpointError.
    """
    _, entry = find_format(source)
    if entry.is_native:
        raise CheckpointError(
            f"{source}: is not a released Doc-to-LoRA or Text-to-LoRA checkpoint",
            hint="name one, or the folder of a run of d2l-lab train",
        )
    refuse = partial(refuse_checkpoint, target, force=force)
    refuse()
    config = entry.read_config(source)
    assert isinstance(config, EveryLayer)  # like all released networks
    with building(target, refuse) as folder:
        native.write_folder(folder, config.kind, config.to_json(), entry.read_tensors(source))
    return target
