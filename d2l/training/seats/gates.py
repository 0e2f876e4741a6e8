"""Gates that open for one word of an opening each, and the neurons that they lie on.

A gate is a row over the normed states of the layer below all memory (`hypernets.seats.addresses`).
Few words get the rows of least squares. Many would need as many ranks in every adapter, so their
rows are learned within few directions, where they need not tell more apart than open and closed.
Inputs of one layer in, rows out; knows nothing of memories.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from d2l.hypernets.seats.addresses import find_layer, read_inputs
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import Seats
from d2l.hypernets.seats.seating import solve_answers

_STEEPNESS = 100.0  # of a gate, in units of a word's own answer
_THRESHOLD = 0.75  # of it, from which a gate opens; ordinary text answered 0.66 at most
_OPEN = _STEEPNESS * (1 - _THRESHOLD)
_RANK = 64  # of the gates of more words than that, together
_STEPS, _BATCH = 300, 6_000
_WORST, _WATCHED = 3_000, 25  # states that open gates most are in every batch, found so often
_DIRECTION_RATE, _CODE_RATE = 2e-3, 0.05  # the second in units of a code's mean absolute value
_OWN, _DECAY = 20.0, 0.02  # weights of a word's own answer and of the rows' length
_WEIGHTS = (30.0, 10.0)  # of a word and of a token of the head, where one of text has 1
_WHITE_RIDGE = 10.0
_SPARE_SHARE = 0.1  # of a layer's neurons: those that add least to ordinary text
_RIDGE = 1e-3  # of the mean diagonal of second moments
_EPSILON = 1e-4
_STRIDE = 700  # tokens behind one opening
_PIECES, _ALIKE = 12_000, 12  # of the vocabulary: drawn at random, and next to each word


@dataclass(frozen=True)
class Gate:
    """What `Addresses` is made of: `detect` (words, hidden), each word's neuron, and the rank of
    `detect` where that is lower than one for each word; else 0."""

    detect: Tensor
    neurons: tuple[int, ...]
    rank: int = 0


class _States(NamedTuple):
    """Normed states as they enter an MLP, the norm's own weight not yet multiplied: float64."""

    opening: Tensor  # (sink, head and words, hidden)
    text: Tensor  # (tokens, hidden), ordinary text behind openings
    moments: Tensor  # (hidden, hidden), of text, with a ridge


@torch.no_grad()
def find_gate(
    seats: Seats,
    text: Sequence[int],
    *,
    layer: int,
    rank: int = _RANK,
    seed: int = 0,
) -> Gate:
    """A gate for each word of an opening, closed for the tokens of `text` and for all other words.

    A gate answers 25 or more to its word and is far below zero for all else: SiLU(-25) is nothing.
    The rows of more words than `rank` have that rank together.
    """
    config, model = seats.config, seats.base_model
    norm, mlp = find_layer(model, layer)
    norm = norm.detach().double()
    states, uses = _watch_text(seats, text, layer=layer)
    words = (states.opening[1 + config.min_seats :] * norm).float()
    neurons = _choose_neurons(words @ mlp.up_proj.weight.T, uses)
    if len(words) <= rank:
        return Gate(_solve(states, n_head=config.min_seats).float(), neurons)
    pieces = _read_pieces(seats, layer=layer, seed=seed)
    detect = _learn(states, pieces, n_head=config.min_seats, rank=rank, seed=seed)
    return Gate(detect.float(), neurons, rank)


def _solve(states: _States, *, n_head: int) -> Tensor:
    """What answers 1 to its word, 0 to all others, and as little as possible to text, less three
    quarters of what answers 1 to everything, times a hundred: (words, hidden)."""
    seen, cholesky = states.opening, torch.linalg.cholesky(states.moments)
    answers = solve_answers(seen[None], cholesky[None], epsilon=_EPSILON)[0]  # (seats, hidden)
    plain = torch.cholesky_solve(states.text.mean(dim=0)[:, None], cholesky)[:, 0]
    constant = plain + answers.T @ (1 - seen[1:] @ plain)  # 1 to seats, about 1 to text
    return _STEEPNESS * (answers[n_head:] - _THRESHOLD * constant)


def _learn(states: _States, pieces: Tensor, *, n_head: int, rank: int, seed: int) -> Tensor:
    """Rows (words, hidden) of `rank` directions together: above 1 for their words and below -1 for
    all else, by a squared hinge, times 25. States are whitened by the moments of text first."""
    generator = torch.Generator().manual_seed(seed)
    cholesky = torch.linalg.cholesky(states.moments)

    def whiten(rows: Tensor) -> Tensor:
        white: Tensor = torch.linalg.solve_triangular(cholesky, rows.mT, upper=False)
        return white.mT.float()

    opening, closed = whiten(states.opening), whiten(torch.cat([states.text, pieces]))
    head, words = opening[: 1 + n_head], opening[1 + n_head :]
    directions, codes = _begin(words, head, closed, rank)
    parameters = [
        {"params": [directions], "lr": _DIRECTION_RATE},
        {"params": [codes], "lr": _CODE_RATE * float(codes.detach().abs().mean())},
    ]
    optimizer = torch.optim.Adam(parameters)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, 2 * (1 - step / _STEPS))
    )
    itself, worst = torch.eye(len(words), dtype=torch.bool), torch.empty(0, dtype=torch.long)
    for step in range(_STEPS):
        if step % _WATCHED == 0:
            answers = (closed @ directions.mT) @ codes.mT
            worst = answers.amax(dim=1).topk(min(_WORST, len(closed))).indices
        drawn = torch.cat([torch.randint(len(closed), (_BATCH,), generator=generator), worst])
        with torch.enable_grad():
            optimizer.zero_grad()
            parts = (words, head, closed[drawn])
            own, *others = ((part @ directions.mT) @ codes.mT for part in parts)
            others.append(own.masked_fill(itself, -1.0))
            loss = _OWN * (1 - own.diagonal()).relu().square().sum()
            loss = loss + sum((1 + one).relu().square().sum() for one in others)
            loss = loss + _DECAY * (codes @ directions).square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    rows = (codes @ directions).detach().double()  # (words, hidden), of whitened states
    plain: Tensor = torch.linalg.solve_triangular(cholesky.mT, rows.mT, upper=True)
    return _OPEN * plain.mT


def _begin(words: Tensor, head: Tensor, closed: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Directions (rank, hidden) that the rows of least squares (1 for a word, -1 for all else) use
    most, and codes (words, rank) that are the same fitted within them."""
    seen = torch.cat([words, head, closed])
    wanted = -torch.ones(len(seen), len(words))
    wanted[: len(words)].fill_diagonal_(1.0)
    weights = torch.ones(len(seen), 1)
    weights[: len(words)], weights[len(words) : len(words) + len(head)] = _WEIGHTS
    rows = _fit(seen, wanted, weights)
    directions = torch.linalg.svd(rows, full_matrices=False).Vh[:rank].contiguous()
    codes = _fit(seen @ directions.mT, wanted, weights)
    return directions.requires_grad_(True), codes.requires_grad_(True)


def _fit(seen: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Rows (words, d) that answer `wanted` (states, words) to `seen` (states, d), nearly."""
    gram = seen.mT @ (weights * seen) + _WHITE_RIDGE * torch.eye(seen.shape[1])
    rows: Tensor = torch.linalg.solve(gram, seen.mT @ (weights * wanted))
    return rows.mT.contiguous()


def _watch_text(seats: Seats, text: Sequence[int], *, layer: int) -> tuple[_States, Tensor]:
    """States of a layer for the opening and for text behind it, and how much each neuron adds to
    the base's states on that text: (neurons,)."""
    config, model = seats.config, seats.base_model
    norm, mlp = find_layer(model, layer)
    norm = norm.detach().double()
    opening = config.opening(config.max_seats)
    uses, found = torch.zeros(len(mlp.down_proj.weight[0])), []
    for start in range(0, len(text), _STRIDE):
        asked = (*config.after_opening, *text[start : start + _STRIDE])
        h = read_inputs(model, layer, (*opening, *asked))
        behind = h[len(opening) :]  # (tokens, hidden)
        inner = mlp.act_fn(mlp.gate_proj(behind)) * mlp.up_proj(behind)
        uses += inner.square().sum(dim=0)
        found.append(behind.double() / norm)
    states = torch.cat(found)
    moments = states.mT @ states / len(states)
    moments.diagonal().add_(_RIDGE * moments.diagonal().mean())
    seen = h[: len(opening)].double() / norm  # the opening is the same before every text
    return _States(seen, states, moments), uses * mlp.down_proj.weight.square().sum(dim=0)


def _read_pieces(seats: Seats, *, layer: int, seed: int) -> Tensor:
    """States behind openings of what texts to come may hold: float64 (pieces, hidden)."""
    config = seats.config
    model: Any = seats.base_model
    norm = find_layer(model, layer)[0].detach().double()
    opening = config.opening(config.max_seats)
    drawn = _draw_pieces(model.get_input_embeddings().weight, config, seed=seed)
    found = []
    for start in range(0, len(drawn), _STRIDE):
        asked = (*config.after_opening, *drawn[start : start + _STRIDE])
        h = read_inputs(model, layer, (*opening, *asked))[len(opening) :]
        found.append(h[len(config.after_opening) :].double() / norm)
    return torch.cat(found)


def _draw_pieces(embeddings: Tensor, config: SeatsConfig, *, seed: int) -> list[int]:
    """Ids of a vocabulary that are none of the opening's, in no order: those whose embeddings are
    next to its words', twice, as these open gates first; and others at random."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(embeddings.float(), dim=-1)
    own = set(config.opening(config.max_seats))
    most = min(_ALIKE + 1, len(vectors))
    near = (vectors[list(config.opening_words)] @ vectors.mT).topk(most).indices
    order = torch.randperm(len(vectors), generator=generator)[:_PIECES]
    near = torch.unique(near)
    drawn = torch.cat([near, near, order])
    drawn = drawn[torch.randperm(len(drawn), generator=generator)]
    return [piece for piece in drawn.tolist() if piece not in own]


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
