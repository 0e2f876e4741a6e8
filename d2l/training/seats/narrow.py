"""A seat network's checkpoint → one whose memory lies in fewer of the base's layers.

Such an adapter is smaller. Weights and second moments of the other layers are dropped, the rest is
copied; much is lost at first, and training must follow, for the layers that stay have to take over
what the others held. Keep a low one: what is written there tells the seats of higher layers apart
from ordinary text.
"""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from d2l.errors import CheckpointError, OptionError
from d2l.files.atomic import building
from d2l.hypernets.checkpoints import refuse_checkpoint
from d2l.hypernets.familiarity import FAMILIARITY_FILE
from d2l.hypernets.fit import SEATS, open_network
from d2l.hypernets.formats import native
from d2l.hypernets.formats.int8 import read_file, read_weights
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.second_moments import FILE_NAME

#: Parameters with rows for every layer's heads, one layer's after the other's.
_BY_LAYER = ("group_", "key_correction.", "value_correction.")
_RANGE = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")
_HINT = "write numbers and ranges with commas: 3,9-16"


@dataclass(frozen=True)
class NarrowOptions:
    """Which checkpoint, and the base's layers that shall go on to hold memory."""

    checkpoint: str
    layers: tuple[int, ...]
    base: str | None = None
    offline: bool = False


def narrow(options: NarrowOptions, target: Path, *, force: bool = False) -> SeatsConfig:
    """Write the checkpoint of fewer layers at `target`, in fp32; raises D2LError."""
    network = open_network(
        options.checkpoint, kinds=SEATS, base=options.base, offline=options.offline
    )
    source, config = network.files.path, network.config
    layers = tuple(sorted(set(options.layers)))
    missing = [layer for layer in layers if layer not in config.memory_layers]
    if missing or not layers:
        raise CheckpointError(
            f"no memory in layer {missing[0]}" if missing else "no layer that shall hold memory",
            hint=f"the network has {', '.join(map(str, config.memory_layers))}: name some of them",
        )
    if config.address_neurons and layers[0] != config.first_layer:
        raise CheckpointError(
            f"the seats' addresses are written below layer {config.first_layer}, and that must "
            "stay the first with memory",
            hint=f"name layer {config.first_layer}, too",
        )
    narrowed = replace(config, version=1, first_layer=layers[0], adapted_layers=layers)
    kept = [config.memory_layers.index(layer) for layer in layers]
    refuse = partial(refuse_checkpoint, target, force=force)
    refuse()
    weights = keep_layers(read_weights(source / native.WEIGHTS_FILE), kept, of=config)
    moments = {name: tensor[kept] for name, tensor in read_file(source / FILE_NAME).items()}
    known = source / FAMILIARITY_FILE
    with building(target, refuse) as folder:
        text = json.dumps(asdict(narrowed), indent=1) + "\n"
        (folder / native.CONFIG_FILE).write_text(text, "utf-8")
        save_file(weights, folder / native.WEIGHTS_FILE)
        save_file({name: t.contiguous() for name, t in moments.items()}, folder / FILE_NAME)
        if known.is_file():
            shutil.copyfile(known, folder / FAMILIARITY_FILE)
    return narrowed


def parse_layers(text: str) -> tuple[int, ...]:
    """Numbers of layers from "3,9-16"; raises OptionError."""
    layers: list[int] = []
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None:
            raise OptionError(f"--layers {text}: {part.strip()!r} is no layer", hint=_HINT)
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise OptionError(f"--layers {text}: {part.strip()} counts down", hint=_HINT)
        layers += range(first, last + 1)
    return tuple(layers)


def keep_layers(
    weights: dict[str, Tensor], kept: Sequence[int], *, of: SeatsConfig
) -> dict[str, Tensor]:
    """A network's parameters with those rows alone that belong to the layers at the places `kept`;
    `of` is its configuration, with all layers."""
    result = {}
    for name, tensor in weights.items():
        if name.startswith(_BY_LAYER):
            rows = tensor.view(of.n_adapted_layers, -1, *tensor.shape[1:])
            tensor = rows[torch.tensor(kept)].flatten(0, 1)
        result[name] = tensor.contiguous()
    return result
