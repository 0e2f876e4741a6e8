"""A seat network's checkpoint → one whose seats have addresses (`hypernets.seats.addresses`).

Weights and second moments are copied: a network without addresses works with them at once, since
what seats hold is imposed either way, and leaks less. Training can follow. Three things are found
here: what tells the opening's words from all else in one layer, by least squares; neurons that the
base hardly misses; and directions (`directions`).
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

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
from d2l.hypernets.seats.addresses import find_layer, read_inputs
from d2l.hypernets.seats.calibration import cut_plain_text, write_memories
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import Seats, load_seats
from d2l.hypernets.seats.seating import solve_answers
from d2l.hypernets.seats.second_moments import FILE_NAME
from d2l.training.seats.directions import choose_directions
from d2l.training.seats.rare_words import choose_leftovers, count_tokens, list_leftovers

_LENGTH = 100.0  # of an address: states of Qwen2.5-0.5B are 11 long in layer 3, and 85 in layer 23
_STEEPNESS = 100.0  # of the gate, in units of a word's own answer
_THRESHOLD = 0.75  # of it, from which a gate opens; ordinary text answered 0.66 at most
_SPARE_SHARE = 0.1  # of a layer's neurons: those that add least to ordinary text
_RIDGE = 1e-3  # of the mean diagonal of second moments
_EPSILON = 1e-4
_STRIDE = 700  # tokens of ordinary text behind one opening


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


@dataclass(frozen=True)
class Gate:
    """What `Addresses` is made of: `detect` (words, hidden), and each word's neuron."""

    detect: Tensor
    neurons: tuple[int, ...]


@torch.no_grad()
def find_gate(seats: Seats, text: Sequence[int], *, layer: int) -> Gate:
    """A gate for each word of an opening, closed for the tokens of `text` and for all other words.

    A gate is what answers 1 to the word, 0 to all others, and as little as possible to text, less
    three quarters of what answers 1 to everything, times a hundred: SiLU(-70) is nothing.
    """
    config, model = seats.config, seats.base_model
    norm, mlp = find_layer(model, layer)
    norm = norm.detach().double()
    opening = config.opening(config.max_seats)
    inputs = read_inputs(model, layer, opening).double() / norm  # (tokens, hidden)
    moments, mean, uses = _watch_text(seats, text, layer=layer)
    cholesky = torch.linalg.cholesky(moments)
    answers = solve_answers(inputs[None], cholesky[None], epsilon=_EPSILON)[0]  # (seats, hidden)
    plain = torch.cholesky_solve(mean[:, None], cholesky)[:, 0]
    constant = plain + answers.T @ (1 - inputs[1:] @ plain)  # 1 to seats, about 1 to text
    words = answers[config.min_seats :]
    detect = _STEEPNESS * (words - _THRESHOLD * constant)
    states = (inputs[1 + config.min_seats :] * norm).float()
    return Gate(detect.float(), _choose_neurons(states @ mlp.up_proj.weight.T, uses))


def _watch_text(seats: Seats, text: Sequence[int], *, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of a layer's normed states of text behind openings: second moments (hidden, hidden) with a
    ridge, and mean (hidden,); and how much each neuron adds to the base's states: (neurons,)."""
    config, model = seats.config, seats.base_model
    norm, mlp = find_layer(model, layer)
    opening = config.opening(config.max_seats)
    moments = torch.zeros(config.hidden, config.hidden, dtype=torch.float64)
    mean, uses = torch.zeros(config.hidden, dtype=torch.float64), torch.zeros(0)
    for start in range(0, len(text), _STRIDE):
        asked = (*config.after_opening, *text[start : start + _STRIDE])
        h = read_inputs(model, layer, (*opening, *asked))[len(opening) :]  # (tokens, hidden)
        inner = mlp.act_fn(mlp.gate_proj(h)) * mlp.up_proj(h)
        used = inner.square().sum(dim=0)
        uses = used if not len(uses) else uses + used
        normed = h.double() / norm.double()
        moments += normed.T @ normed
        mean += normed.sum(dim=0)
    n_tokens = len(text) + len(config.after_opening) * -(-len(text) // _STRIDE)
    moments, mean = moments / n_tokens, mean / n_tokens
    moments.diagonal().add_(_RIDGE * moments.diagonal().mean())
    return moments, mean, uses * mlp.down_proj.weight.square().sum(dim=0)


def _choose_neurons(up: Tensor, uses: Tensor) -> tuple[int, ...]:
    """A neuron for each word, none twice: of those that are used least the one that the word's own
    up_proj, `up` (words, neurons), makes the strongest."""
    n_spare = max(round(_SPARE_SHARE * len(uses)), 2 * len(up))
    spare = uses.argsort()[:n_spare].tolist()
    strengths = up.abs()[:, spare]  # (words, spare neurons)
    chosen = []
    for row in strengths:
        place = int(row.argmax())
        chosen.append(spare[place])
        strengths[:, place] = -1.0
    return tuple(chosen)
