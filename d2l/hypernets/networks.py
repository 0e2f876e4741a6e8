"""The networks that d2l knows: a checkpoint's name in, an opened `Network` out.

A new network is a folder here with a subclass of `Network`, a row in `NETWORKS`, and a format in
`checkpoints.py`.
"""

from typing import Any

from d2l.bases.catalog import ask_base
from d2l.errors import CheckpointError
from d2l.files.hub import Listing, Need
from d2l.hypernets.checkpoints import read_config
from d2l.hypernets.doc_to_lora.compiling import DocToLoraNetwork
from d2l.hypernets.doc_to_lora.network import DocToLoraConfig
from d2l.hypernets.network import AnyNetwork
from d2l.hypernets.registry import ALIASES, ask_checkpoint, find_checkpoint
from d2l.hypernets.seats.compiling import SeatsNetwork
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.text_to_lora.compiling import TextToLoraNetwork
from d2l.hypernets.text_to_lora.network import KIND as TEXT_TO_LORA
from d2l.hypernets.text_to_lora.network import TextToLoraConfig

#: By the class of a checkpoint's configuration.
NETWORKS: dict[type[Any], type[AnyNetwork]] = {
    SeatsConfig: SeatsNetwork,
    DocToLoraConfig: DocToLoraNetwork,
    TextToLoraConfig: TextToLoraNetwork,
}


def open_network(
    name: str,
    *,
    base: str | None = None,
    embedder: str | None = None,
    offline: bool = False,
    need: Need = "weights",
) -> AnyNetwork:
    """Find a checkpoint and read its configuration; raises CheckpointError.

    Before its weights are fetched, the hub is asked for all that will be. With the `need` "plan" no
    weights are fetched, of the checkpoint or its base.
    """
    if need == "weights" and not offline and ask_checkpoint(name) is not None:
        needs, _ = open_to_plan(name, base=base, embedder=embedder)
        for listing in filter(None, needs.values()):
            if listing.refusal is not None:
                raise listing.refusal
    files = find_checkpoint(name, offline=offline, weights=need == "weights")
    config = read_config(files.path)
    return NETWORKS[type(config)](files, config, base, offline, embedder, need)


def open_to_plan(
    name: str, *, base: str | None = None, embedder: str | None = None, offline: bool = False
) -> tuple[dict[str, Listing | None], AnyNetwork | None]:
    """The checkpoint and the models that it reads with, each with what the hub would have to send
    of it (None: on disk), and the network without weights, unless the hub refuses it.

    Only configuration is fetched; raises D2LError. With `offline` nothing is asked.
    """
    own, alias = None if offline else ask_checkpoint(name), ALIASES.get(name)
    needs: dict[str, Listing | None] = {
        name if own is None else str(own.name._replace(revision=None)): own
    }
    if own is not None and own.refusal is not None:  # the base's terms are to be accepted, too
        network = None
        models = {alias.base: base} if alias and alias.network != TEXT_TO_LORA else {}
    else:
        network = open_network(name, base=base, embedder=embedder, offline=offline, need="plan")
        models = network.models
    for model, given in models.items():
        needs[given or model] = None if offline else ask_base(model, given)
    return needs, network


def open_seats(name: str, *, base: str | None = None, offline: bool = False) -> SeatsNetwork:
    """Open a network whose adapters hold a memory; raises CheckpointError for all others."""
    network = open_network(name, base=base, offline=offline)
    if not isinstance(network, SeatsNetwork):
        raise CheckpointError(
            f"{network.files.path}: is a {network.config.kind} network, which has no seats"
        )
    return network
