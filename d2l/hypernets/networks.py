"""Kinds of networks: a checkpoint's name or files in, an opened or loaded network out.

A new kind is a folder here with a subclass of `Network`, and a line in `list_networks`. A package
can bring one, too: its entry point in the group `d2l.networks` names the subclass.
"""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from torch import nn

from d2l.bases.catalog import ask_base
from d2l.errors import CheckpointError
from d2l.files.hub import Listing, Need
from d2l.hypernets.doc_to_lora.compiling import DocToLoraNetwork
from d2l.hypernets.formats.format import Format
from d2l.hypernets.network import AnyNetwork
from d2l.hypernets.protocol import HypernetConfig
from d2l.hypernets.registry import ALIASES, OWN, CheckpointFiles, ask_checkpoint, find_checkpoint
from d2l.hypernets.seats.compiling import SeatsNetwork
from d2l.hypernets.seats.own import find_own
from d2l.hypernets.seats.own_compiling import OwnNetwork
from d2l.hypernets.shine.compiling import ShineNetwork
from d2l.hypernets.text_to_lora.compiling import TextToLoraNetwork

#: Group of the entry points by which other packages bring networks.
GROUP = "d2l.networks"


@cache
def list_networks() -> tuple[type[AnyNetwork], ...]:
    """List the kinds of networks, in the order in which their formats are tried.

    Doc-to-LoRA comes last: its released format accepts files by their ending alone. Raises
    CheckpointError for an entry point that cannot be imported.
    """
    own = (TextToLoraNetwork, SeatsNetwork, OwnNetwork, ShineNetwork)
    return (*own, *_list_foreign(), DocToLoraNetwork)


def _list_foreign() -> Iterator[type[AnyNetwork]]:
    """Yield the networks of other packages."""
    for entry in sorted(entry_points(group=GROUP)):
        try:
            yield entry.load()
        except (ImportError, AttributeError) as error:
            raise CheckpointError(
                f"{entry.value}: the network {entry.name} cannot be imported ({error})",
                hint="update the package that brings it, or uninstall it",
            ) from error


def list_formats() -> list[tuple[type[AnyNetwork], Format]]:
    """List the formats of all networks, with their networks, in the order of trial."""
    return [(network, entry) for network in list_networks() for entry in network.formats]


def find_format(path: Path) -> tuple[type[AnyNetwork], Format]:
    """Find the network and the format of a checkpoint's files; raises CheckpointError."""
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or folder")
    for network, entry in list_formats():
        if entry.matches(path):
            return network, entry
    raise CheckpointError(
        f"{path}: is not a hypernetwork checkpoint",
        hint="expected one of: " + "; ".join(entry.description for _, entry in list_formats()),
    )


def read_config(path: Path) -> HypernetConfig:
    """Read a checkpoint's configuration; no weights are read."""
    return find_format(path)[1].read_config(path)


def load_hypernet(path: Path, *, device: str, base: nn.Module | None = None) -> Any:
    """Read a network's weights onto a device; raises CheckpointError."""
    network, entry = find_format(path)
    return network.load_hypernet(path, entry, device=device, base=base)


def find_files(
    name: str, *, base: str | None = None, offline: bool = False, need: Need = "weights"
) -> CheckpointFiles:
    """Find the files of a checkpoint; "own" leads to the network of the own keys and values of
    `base`. Raises CheckpointError, or BaseModelError."""
    if name == OWN and base is not None:
        return find_own(base, offline=offline)
    return find_checkpoint(name, offline=offline, weights=need == "weights")


def open_network(
    name: str,
    *,
    base: str | None = None,
    embedder: str | None = None,
    offline: bool = False,
    need: Need = "weights",
) -> AnyNetwork:
    """Find a checkpoint and read its configuration; raises CheckpointError.

    Before its weights are downloaded, the hub is asked for all files. With the `need` "plan" no
    weights are downloaded, of the checkpoint or its base. The name "own" is that of the own keys
    and values of a `base`.
    """
    if need == "weights" and not offline and ask_checkpoint(name) is not None:
        needs, _ = open_to_plan(name, base=base, embedder=embedder)
        for listing in filter(None, needs.values()):
            if listing.refusal is not None:
                raise listing.refusal
    files = find_files(name, base=base, offline=offline, need=need)
    network, entry = find_format(files.path)
    config = entry.read_config(files.path)
    return network(files, config, entry, base, offline, embedder, need)


def open_to_plan(
    name: str, *, base: str | None = None, embedder: str | None = None, offline: bool = False
) -> tuple[dict[str, Listing | None], AnyNetwork | None]:
    """List the checkpoint and its models, each with the files that the hub would have to send
    (None: on disk), and open the network without weights, unless the hub refuses it.

    Downloads only configuration; raises D2LError. With `offline` the hub is not asked.
    """
    own, alias = None if offline else ask_checkpoint(name), ALIASES.get(name)
    needs: dict[str, Listing | None] = {
        name if own is None else str(own.name._replace(revision=None)): own
    }
    if own is not None and own.refusal is not None:  # the base may have terms to accept, too
        network = None
        models = {alias.base: base} if alias and alias.network != TextToLoraNetwork.kind else {}
    else:
        network = open_network(name, base=base, embedder=embedder, offline=offline, need="plan")
        models = network.models
    for model, given in models.items():
        needs[given or model] = None if offline else ask_base(model, given)
    return needs, network


def open_seats(name: str, *, base: str | None = None, offline: bool = False) -> SeatsNetwork:
    """Open a seat network; raises CheckpointError for others."""
    network = open_network(name, base=base, offline=offline)
    if not isinstance(network, SeatsNetwork):
        raise CheckpointError(
            f"{network.files.path}: is a {network.config.kind} network, which has no seats"
        )
    return network
