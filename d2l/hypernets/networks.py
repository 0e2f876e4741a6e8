"""The networks that d2l knows: a checkpoint's name in, an opened `Network` out.

A new network is a folder here with a subclass of `Network`, a row in `NETWORKS`, and a format in
`checkpoints.py`.
"""

from typing import Any

from d2l.errors import CheckpointError
from d2l.hypernets.checkpoints import read_config
from d2l.hypernets.doc_to_lora.compiling import DocToLoraNetwork
from d2l.hypernets.doc_to_lora.network import DocToLoraConfig
from d2l.hypernets.network import AnyNetwork
from d2l.hypernets.registry import find_checkpoint
from d2l.hypernets.seats.compiling import SeatsNetwork
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.text_to_lora.compiling import TextToLoraNetwork
from d2l.hypernets.text_to_lora.network import TextToLoraConfig

#: By the class of a checkpoint's configuration.
NETWORKS: dict[type[Any], type[AnyNetwork]] = {
    SeatsConfig: SeatsNetwork,
    DocToLoraConfig: DocToLoraNetwork,
    TextToLoraConfig: TextToLoraNetwork,
}


def open_network(
    name: str, *, base: str | None = None, embedder: str | None = None, offline: bool = False
) -> AnyNetwork:
    """Find a checkpoint and read its configuration; raises CheckpointError."""
    files = find_checkpoint(name, offline=offline)
    config = read_config(files.path)
    return NETWORKS[type(config)](files, config, base, offline, embedder)


def open_seats(name: str, *, base: str | None = None, offline: bool = False) -> SeatsNetwork:
    """Open a network whose adapters hold a memory; raises CheckpointError for all others."""
    network = open_network(name, base=base, offline=offline)
    if not isinstance(network, SeatsNetwork):
        raise CheckpointError(
            f"{network.files.path}: is a {network.config.kind} network, which has no seats"
        )
    return network
