"""A released SHINE checkpoint: its three files, its configuration and its tensors.

A folder in; a ShineConfig and tensors by name out. The files hold tensors alone.
Sizes come from their shapes, all else is constant in the release (MuLabPKU/SHINE, script
pretrain_group_4layer_8lora_128metalora) or stands in a `shine.json` beside them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from d2l.errors import CheckpointError
from d2l.hypernets.formats import pickles
from d2l.hypernets.formats.fields import naming, read_json, read_typed
from d2l.hypernets.formats.native import UNUSABLE, check_shapes, get_shapes, make_empty
from d2l.hypernets.formats.pickles import TensorRecord
from d2l.hypernets.shine.network import MODULES, Shine, ShineConfig

#: Files of a checkpoint, with the beginnings of their tensors' names.
FILES = {"metanetwork.pth": "", "metalora.pth": "metalora", "mem_tokens.pt": "mem_tokens"}
SETTINGS = "shine.json"
#: Tensors and their axes that show the sizes of a network.
_SIZES = {
    "n_layers": ("layer_pe", 0),
    "hidden": ("layer_pe", 1),
    "n_memory": ("token_pe", 0),
    "meta_rank": ("metalora.0.q_proj.A", 2),
    "feed_forward": ("transformer_layers.0.linear1.weight", 0),
}


@dataclass(frozen=True)
class _Settings:
    """Settings that no tensor shows, with the values of the release."""

    base_model: str = "Qwen/Qwen3-8B"
    m2p_heads: int = 32
    scale: float = 0.001
    method: str = "rl"
    layer_first: bool = True


def find_file(folder: Path) -> Path:
    """Find the file that identifies a checkpoint."""
    return folder / next(iter(FILES))


def matches(path: Path) -> bool:
    """True if a path may be the folder of a released checkpoint, by names alone."""
    return find_file(path).is_file()


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read the tensors onto the CPU as they are stored."""
    read = _list_files(folder)
    return {n: t for file, part in read for n, t in pickles.read_tensors(file, part).items()}


def read_config(folder: Path) -> ShineConfig:
    """Read the configuration, and check the shapes of all tensors; fast for any size of file."""
    shapes = {
        name: record.shape for _, part in _list_files(folder) for name, record in part.items()
    }
    settings = _Settings()
    with naming(folder):
        if (folder / SETTINGS).is_file():
            values = read_json(folder / SETTINGS)
            settings = _Settings(**read_typed(_Settings, values, kind=SETTINGS))
        if (settings.method, settings.layer_first) != ("rl", True):
            raise CheckpointError(f'{SETTINGS}: expected method "rl", layers first', hint=UNUSABLE)
        try:
            config = ShineConfig(
                base=settings.base_model,
                d_in=tuple(shapes[f"metalora.0.{name}.A"][1] for name in MODULES),
                d_out=tuple(shapes[f"metalora.0.{name}.B"][2] for name in MODULES),
                n_mixers=sum(name.endswith(".linear1.weight") for name in shapes),
                n_heads=settings.m2p_heads,
                scale=settings.scale,
                **{size: shapes[name][axis] for size, (name, axis) in _SIZES.items()},
            )
        except (KeyError, IndexError) as error:
            raise CheckpointError("its tensors are not those of a SHINE network") from error
        check_shapes(shapes, get_shapes(make_empty(Shine, config).state_dict()))
    return config


def _list_files(folder: Path) -> Iterator[tuple[Path, dict[str, TensorRecord]]]:
    """Yield each file with the positions of its tensors."""
    for name, prefix in FILES.items():
        file = folder / name
        records = pickles.list_tensors(pickles.read_object(file))
        yield file, {_name(f"{prefix}.{key}"): record for key, record in records.items()}


def _name(key: str) -> str:
    """Name a tensor as in the network: a meta-LoRA's "attention.q" is its q_proj."""
    return re.sub(r"\.(attention|mlp)\.(\w+)\.", r".\2_proj.", key.strip("."))
