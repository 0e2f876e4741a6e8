"""A seat network's checkpoint → one whose seats have addresses (`hypernets.seats.addresses`).

Weights and second moments are copied: a network without addresses works with them at once, since
what seats hold is imposed either way, and leaks less. Training can follow. Found are words that
texts do not hold (`rare_words`), gates that open for them alone (`gates`), and directions
(`directions`).
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from d2l.bases.models import load_frozen
from d2l.bases.tokenizers import BaseTokenizer
from d2l.datasets.questions import read_documents
from d2l.errors import CheckpointError
from d2l.files.atomic import building
from d2l.hypernets.checkpoints import refuse_checkpoint
from d2l.hypernets.familiarity import FAMILIARITY_FILE
from d2l.hypernets.fit import SEATS, open_network
from d2l.hypernets.formats import native
from d2l.hypernets.formats.int8 import read_file
from d2l.hypernets.seats.calibration import cut_plain_text, write_memories
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import Seats, load_seats
from d2l.hypernets.seats.second_moments import FILE_NAME
from d2l.training.seats.directions import choose_directions
from d2l.training.seats.gates import find_gate
from d2l.training.seats.rare_words import choose_leftovers, count_tokens, list_leftovers

_LENGTH = 100.0  # of an address: states of Qwen2.5-0.5B are 11 long in layer 3, and 85 in layer 23


@dataclass(frozen=True)
class AddressOptions:
    """Which checkpoint, and files of documents to find words with that texts do not hold; without
    any, the words stay. With `seats` it has so many at most, for which there must be words."""

    checkpoint: str
    data: tuple[Path, ...] = ()
    seats: int | None = None
    base: str | None = None
    offline: bool = False
    seed: int = 0


def address(
    options: AddressOptions,
    target: Path,
    *,
    watch: Callable[[int, int], object] = lambda done, total: None,  # noqa: ARG005
    force: bool = False,
) -> SeatsConfig:
    """Write the checkpoint with addresses at `target`, its weights as they are stored; addresses
    that it has are replaced. Raises D2LError."""
    network = open_network(
        options.checkpoint, kinds=SEATS, base=options.base, offline=options.offline
    )
    source, config, base = network.files.path, network.config, network.base
    _check(options, config)
    refuse = partial(refuse_checkpoint, target, force=force)
    refuse()
    model = load_frozen(base, device="cpu", dtype=torch.float32, n_layers=config.layers)
    loaded = load_seats(source, model)
    loaded.network.shared, config = None, replace(config, address_neurons=())
    if options.data:
        n_words = (options.seats or config.max_seats) - config.min_seats
        config = _change_words(
            config, options.data, network.tokenizer, n_words, base.config.vocab_size
        )
    seats = _open_with(loaded, config)
    plain = cut_plain_text(network.tokenizer, limit=config.chunk_tokens)
    memories = write_memories(seats, plain)
    directions = choose_directions(seats, memories, seed=options.seed, watch=watch)
    gate = find_gate(seats, [i for piece in plain for i in piece], layer=config.first_layer - 1)
    config = replace(
        config,
        version=1,
        intermediate=int(base.config.intermediate_size),
        address_neurons=gate.neurons,
        gate_rank=gate.rank,
    )
    tensors = read_file(source / native.WEIGHTS_FILE)
    tensors = {name: one for name, one in tensors.items() if not name.startswith("shared.")}
    found = {"shared.detect": gate.detect, "shared.directions": _LENGTH * directions}
    tensors |= {name: tensor.to(torch.bfloat16) for name, tensor in found.items()}
    with building(target, refuse) as folder:
        text = json.dumps(asdict(config), indent=1) + "\n"
        (folder / native.CONFIG_FILE).write_text(text, "utf-8")
        save_file({n: t.contiguous() for n, t in tensors.items()}, folder / native.WEIGHTS_FILE)
        for name in (FILE_NAME, FAMILIARITY_FILE):
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    return config


def _check(options: AddressOptions, config: SeatsConfig) -> None:
    """Refuse a network whose seats cannot have addresses, or not so many; raises D2LError."""
    if config.shared_rank:
        raise CheckpointError("the network has a shared LoRA, in whose place addresses would be")
    if config.first_layer == 0:
        raise CheckpointError("the network has memory in layer 0, and addresses must lie below")
    seats = options.seats
    if seats is None or seats == config.max_seats:
        return
    if not options.data:
        raise CheckpointError(
            f"{seats} seats, but the opening has words for {config.max_seats}",
            hint="give --data FILE, texts that tell which other words there may be",
        )
    if not config.min_seats < seats < config.hidden:
        raise CheckpointError(
            f"{seats} seats, but this network can have {config.min_seats + 1} to "
            f"{config.hidden - 1}"
        )


def _open_with(seats: Seats, config: SeatsConfig) -> Seats:
    """The same network with the opening of `config`."""
    return Seats(config, seats.network, seats.statistics, seats.base_model)


def _change_words(
    config: SeatsConfig,
    data: Sequence[Path],
    tokenizer: BaseTokenizer,
    n_words: int,
    n_pieces: int,
) -> SeatsConfig:
    """An opening of so many words that none of these documents holds."""
    texts = [document.text for path in data for document in read_documents(path)]
    pieces = [tokenizer.decode([number]) for number in range(n_pieces)]
    found = choose_leftovers(
        list_leftovers(pieces, *count_tokens(texts, tokenizer)),
        pieces=pieces,
        before=config.opening_head_text,
        tokenizer=tokenizer,
    )
    if len(found) < n_words:
        raise CheckpointError(
            f"only {len(found)} pieces of the base's vocabulary are left over, and the opening "
            f"would have {n_words} words",
            hint="ask for fewer seats, or leave --data out: the words stay as they are",
        )
    words = tuple(found[:n_words])
    text = "".join(pieces[word] for word in words)
    return replace(
        config,
        opening_words=words,
        opening_words_text=text,
        max_seats=config.min_seats + n_words,
        dense_seats=min(config.dense_seats, config.min_seats + n_words),
    )
