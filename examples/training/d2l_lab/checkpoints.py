"""Checkpoint folders that the laboratory writes: other folders are not replaced."""

from pathlib import Path

from d2l.errors import CheckpointError
from d2l.files.ownership import refuse_existing
from d2l.hypernets.networks import read_config

_FILES = ("config.json", "model.safetensors", "statistics.safetensors", "README.md")


def refuse_checkpoint(target: Path, *, force: bool) -> None:
    """Raise CheckpointError unless a checkpoint folder may be written at `target`."""
    refuse_existing(target, force=force, own_names=_own_names, error=CheckpointError)


def _own_names(folder: Path) -> tuple[str, ...] | None:
    """List the files of a checkpoint folder; None for other folders."""
    try:
        read_config(folder)
    except CheckpointError:
        return None
    return _FILES
