"""Second moments of a base's attention inputs, measured for a seat network.

A network on its base and some plain text in, moments out. Seats are solved with moments, which hold
for one set of weights. A base with the same function but other weights (quantized differently, or
with norms and matrices rescaled against each other, as in AWQ) has the same keys, values and
residual stream, so memories fit it unchanged; but its attention inputs differ.

Texts are read behind openings of all lengths with imposed memories, like questions later: moments
of the base alone would miss how memories change the states of the layers above. No leak is added,
so the result does not depend on earlier moments.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from d2l.adapters.weights import Memory
from d2l.bases.activations import ActivationEncoder
from d2l.bases.tokenizers import BaseTokenizer
from d2l.hypernets.seats.network import Seats, join_memories
from d2l.hypernets.seats.seating import Watch, run_imposed
from d2l.hypernets.seats.second_moments import read_statistics
from d2l.progress import Progress, silent

_TEXT = Path(__file__).parents[1] / "builtin" / "plain_text.txt"
#: Tokens of plain text: more of them change moments too little to affect seats.
N_TOKENS = 13_000
_KEPT = 12  # memories to combine for each text


def read_plain_text() -> list[str]:
    """Read the package's plain text, a paragraph an entry."""
    lines = _TEXT.read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def cut_plain_text(
    tokenizer: BaseTokenizer, *, limit: int, n_tokens: int = N_TOKENS
) -> list[list[int]]:
    """Cut the first `n_tokens` of the package's plain text into pieces of at most `limit`."""
    pieces: list[list[int]] = []
    for line in read_plain_text():
        ids = tokenizer.encode(line)
        for start in range(0, len(ids), limit):
            if n_tokens <= 0:
                return pieces
            pieces.append(ids[start : start + min(limit, n_tokens)])
            n_tokens -= len(pieces[-1])
    return pieces


def measure_moments(
    seats: Seats, pieces: Sequence[Sequence[int]], *, watch: Progress = silent
) -> Tensor:
    """Measure the mean of x xᵀ over all tokens behind openings: float64 (layers, d_in, d_in).

    `pieces`: token ids of plain text; each piece is a question. On two CPU cores
    13,000 tokens take three minutes with a base of 0.5 B parameters.
    """
    config, chance = seats.config, random.Random(0)
    totals = torch.zeros(config.n_adapted_layers, config.hidden, config.hidden, dtype=torch.float64)
    n_tokens = 0
    memories = write_memories(seats, pieces)
    for piece in watch(pieces, "measuring the base"):
        n_seats = chance.randint(config.min_seats, config.max_seats)
        memory = combine_memories(memories, n_seats, chance)
        opening = config.opening(memory.n_seats)
        asked = (*config.after_opening, *piece, *config.before_answer)
        inputs: list[Tensor] = []

        def keep(name: str, given: Tensor, _: Tensor, inputs: list[Tensor] = inputs) -> None:
            if name == "k_proj":  # v_proj has the same inputs
                inputs.append(given)

        with torch.no_grad():
            run_imposed(
                memory.top(config.n_adapted_layers),
                seats.base_model,
                opening=(*opening, *asked),
                layers=config.memory_layers,
                shared=seats.shared,
                watch=Watch(keep, exact=seats.network is not None),
            )
        for layer, given in enumerate(inputs):
            x = given[len(opening) :].to(torch.float32)  # (tokens, d_in)
            totals[layer] += (x.mT @ x).cpu().to(torch.float64)
        n_tokens += len(asked)
    return totals / max(n_tokens, 1)


def with_moments(seats: Seats, path: Path) -> Seats:
    """Give the network second moments for another base; `path` is the file of those measured on it.
    Raises CheckpointError for a damaged file.

    A base with the same function has the correlations of the base of training, but inputs of other
    sizes. If the network knows the sizes of plain text's inputs in training, its own moments are
    rescaled by the ratio: they come from more text, and of more kinds. Otherwise the measured
    moments are used.

    The ridge is rescaled with each input's size: a base whose inputs are scaled by S has the second
    moment S C S, and its ridge must change likewise, or the same memory would be seated
    differently.
    """
    config, own = seats.config, seats.statistics
    statistics = read_statistics(
        path, layers=config.memory_layers, d_in=config.hidden, ridge=config.statistics_ridge
    )
    if own is None:
        return Seats(config, seats.network, statistics, seats.base_model)
    if own.plain_scale is not None:
        ratio = statistics.scale.to(torch.float64) / own.plain_scale  # (layers, d_in)
        scale = (own.scale * ratio).to(torch.float32)
        statistics = replace(statistics, correlation=own.correlation, scale=scale)
    sizes = own.scale.to(torch.float64).square()  # (layers, d_in)
    ridge = own.ridge * sizes.mean(dim=1, keepdim=True)
    ridge = ridge * statistics.scale.to(torch.float64).square() / sizes
    return Seats(config, seats.network, replace(statistics, ridge_diagonal=ridge), seats.base_model)


def write_memories(seats: Seats, pieces: Sequence[Sequence[int]]) -> list[Memory]:
    """Write memories of some pieces, with as many seats as the network gives such a text."""
    config = seats.config
    encode = ActivationEncoder(seats.base_model, config.reading)
    return [
        seats.generate(
            encode([*config.read_opening, *piece]), max(int(len(piece) / config.tokens_per_seat), 1)
        )
        for piece in pieces[:: max(len(pieces) // _KEPT, 1)]
    ]


def combine_memories(memories: Sequence[Memory], n_seats: int, chance: random.Random) -> Memory:
    """Combine random seats of `memories` into a memory of exactly `n_seats`."""
    drawn: list[Memory] = []
    while sum(memory.n_seats for memory in drawn) < n_seats:
        drawn.append(chance.choice(memories))
    joined = join_memories(drawn)
    return Memory(joined.keys[:, :n_seats].contiguous(), joined.values[:, :n_seats].contiguous())
