"""Kinds of networks: a checkpoint's name or files in, an opened or loaded network out.

A new kind is a folder here with a subclass of `Network`, and a line in `list_networks`. A package
can bring one, too: its entry point in the group `d2l.networks` names the subclass.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath
from typing import Any

from torch import nn

from d2l.bases.catalog import ask_base
from d2l.errors import CheckpointError
from d2l.files import hub
from d2l.hypernets.doc_to_lora.compiling import DocToLoraNetwork
from d2l.hypernets.formats.format import Format
from d2l.hypernets.formats.outline import write_outline
from d2l.hypernets.kv.describing import find_kv
from d2l.hypernets.kv.network import KvNetwork
from d2l.hypernets.network import AnyNetwork
from d2l.hypernets.protocol import HypernetConfig
from d2l.hypernets.registry import ALIASES, Alias, CheckpointFiles, is_kv, locate
from d2l.hypernets.seats.compiling import SeatsNetwork
from d2l.hypernets.seats.seated import SeatedNetwork
from d2l.hypernets.shine.compiling import ShineNetwork
from d2l.hypernets.text_to_lora.compiling import TextToLoraNetwork

#: Entry points of other packages' networks.
GROUP = "d2l.networks"
#: Endings of pickles of tensors, whose outlines are enough for a plan.
PICKLES = (".bin", ".pt", ".pth")
#: Folders of checkpoints that were opened without their weights, removed when the program ends.
_OUTLINES: list[tempfile.TemporaryDirectory[str]] = []


@cache
def list_networks() -> tuple[type[AnyNetwork], ...]:
    """List the kinds of networks, in the order in which their formats are tried.

    Doc-to-LoRA comes last: its released format accepts files by their ending alone. Raises
    CheckpointError for an entry point that cannot be imported.
    """
    own = (TextToLoraNetwork, SeatsNetwork, KvNetwork, ShineNetwork)
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


def find_checkpoint(
    name: str, *, base: str | None = None, offline: bool = False, weights: bool = True
) -> CheckpointFiles:
    """Find a checkpoint, or download it; "kv" is the network that a `base` is by itself. Without
    `weights` only its configuration is downloaded, into a folder for this run.

    Raises CheckpointError, or BaseModelError.
    """
    if is_kv(name) and base is not None:
        return find_kv(base, offline=offline)
    place = locate(name)
    if isinstance(place, hub.HubName):
        place = fetch_checkpoint(place, offline=offline, weights=weights)
    return CheckpointFiles(name, place)


def cached_checkpoint(name: hub.HubName) -> Path | None:
    """Find a hub checkpoint's folder if all of it is on disk; opens no socket."""
    folder = hub.find_folder(name)
    if folder is None:
        return None
    found = {path.name for pattern in ("*", "*/*") for path in folder.glob(pattern)}
    is_whole = any(found.issuperset(entry.weights) for _, entry in list_formats())
    return folder if is_whole else None


def list_aliases() -> Iterator[tuple[Alias, Path | None]]:
    """Yield every alias with the path of its files, if all of them are on disk."""
    for alias in ALIASES.values():
        place = locate(alias.name)
        yield alias, place if isinstance(place, Path) else cached_checkpoint(place)


def ask_checkpoint(name: str) -> hub.Listing | None:
    """List the files of a checkpoint that the hub would have to send; None if it is on disk.
    Downloads nothing; raises CheckpointError."""
    place = None if is_kv(name) else locate(name)
    if not isinstance(place, hub.HubName) or cached_checkpoint(place):
        return None
    return _ask(place)


def fetch_checkpoint(name: hub.HubName, *, offline: bool, weights: bool = True) -> Path:
    """Download (or find) a checkpoint from the hub, or without `weights` its configuration; return
    the local folder. Raises CheckpointError."""
    folder = cached_checkpoint(name)
    if folder is not None:
        return folder
    if offline:
        hub.refuse_missing(name, CheckpointError)
    listing = _ask(name)
    if listing.refusal is not None:
        raise listing.refusal
    known = {file for _, entry in list_formats() for file in entry.weights}
    heavy = [path for path in listing.sizes if PurePosixPath(path).name in known]
    texts = [path for path in listing.sizes if path not in heavy]
    folder = hub.fetch(name, texts, offline=False, error_type=CheckpointError) if texts else None
    if weights:  # they come last, so with them all files are there
        return hub.fetch(name, heavy, offline=False, error_type=CheckpointError)
    pickled = [path for path in heavy if PurePosixPath(path).suffix in PICKLES]
    if pickled:
        return _outline(listing, pickled, folder)
    assert folder is not None  # the configuration of a native checkpoint
    return folder


def _ask(name: hub.HubName) -> hub.Listing:
    """List the files of a checkpoint; of several in the folder of a run, those of the newest."""
    files = {file for _, entry in list_formats() for file in entry.files}
    listing = hub.ask(name, sorted(files), error_type=CheckpointError, depth=1)
    found = {path: re.match(r"checkpoint-([0-9]{1,18})/", path) for path in listing.sizes}
    steps = {path: int(match[1]) for path, match in found.items() if match}
    last = max(steps.values(), default=0)
    kept = {p: n for p, n in listing.sizes.items() if steps.get(p, last) == last}
    return listing._replace(sizes=kept)


def _outline(listing: hub.Listing, paths: Sequence[str], texts: Path | None) -> Path:
    """Make a folder with the texts of a checkpoint, and the outlines of its files of weights."""
    _OUTLINES.append(tempfile.TemporaryDirectory(prefix="d2l-"))
    folder = Path(_OUTLINES[-1].name, (listing.name.subfolder or listing.name.repo).split("/")[-1])
    if texts is not None:
        shutil.copytree(texts, folder)
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with hub.open_remote(listing, path, CheckpointError) as source:
            write_outline(source, folder / path)
    return folder


def open_network(
    name: str,
    *,
    base: str | None = None,
    embedder: str | None = None,
    offline: bool = False,
    need: hub.Need = "weights",
) -> AnyNetwork:
    """Find a checkpoint and read its configuration; raises CheckpointError.

    Before its weights are downloaded, the hub is asked for all files. With the `need` "plan" no
    weights are downloaded, of the checkpoint or its base. The name "kv" is that of the network
    that a `base` is by itself.
    """
    if need == "weights" and not offline and ask_checkpoint(name) is not None:
        needs, _ = list_needs(name, base=base, embedder=embedder)
        for listing in filter(None, needs.values()):
            if listing.refusal is not None:
                raise listing.refusal
    return _open(name, base, embedder, offline, need)


def list_needs(
    name: str,
    *,
    base: str | None = None,
    embedder: str | None = None,
    offline: bool = False,
    need: hub.Need = "plan",
) -> tuple[dict[str, hub.Listing | None], AnyNetwork | None]:
    """List the checkpoint and its models, each with the files that the hub would have to send
    (None: on disk), and open the network, unless the hub refuses it: without weights if any files
    are missing, else for `need`. `fetch_weights` downloads them.

    Downloads only configuration; raises D2LError. With `offline` the hub is not asked.
    """
    own, alias = None if offline else ask_checkpoint(name), ALIASES.get(name)
    needs = {name if own is None else str(own.name._replace(revision=None)): own}
    network, models = None, {} if alias is None else {alias.base: base}
    if own is None or own.refusal is None:  # else the base may have terms to accept, too
        network = _open(name, base, embedder, offline, "plan")
        models = network.models
    for model, given in models.items():
        needs[given or model] = None if offline else ask_base(model, given)
    if network is not None and not any(needs.values()):
        network = replace(network, need=need)
    return needs, network


def fetch_weights(network: AnyNetwork) -> AnyNetwork:
    """Download the weights of a network that was opened without, and of its models; raises
    CheckpointError."""
    if network.need == "weights":
        return network
    files = find_checkpoint(network.files.name, base=network.given, offline=network.offline)
    return replace(network, files=files, need="weights")


def _open(
    name: str, base: str | None, embedder: str | None, offline: bool, need: hub.Need
) -> AnyNetwork:
    files = find_checkpoint(name, base=base, offline=offline, weights=need == "weights")
    network, entry = find_format(files.path)
    config = entry.read_config(files.path)
    return network(files, config, entry, base, offline, embedder, need)


def open_seats(
    name: str, *, base: str | None = None, made_on: str | None = None, offline: bool = False
) -> SeatedNetwork[Any]:
    """Open a seat network; raises CheckpointError for others. `made_on`: the base of an adapter,
    which "kv" needs if no other `base` is given."""
    base = made_on if is_kv(name) and base is None else base
    network = open_network(name, base=base, offline=offline)
    if not isinstance(network, SeatedNetwork):
        raise CheckpointError(
            f"{network.files.path}: is a {network.config.kind} network, which has no seats"
        )
    return network
