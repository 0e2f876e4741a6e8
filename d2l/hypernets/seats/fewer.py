"""Fewer seats: the most telling keys and values of a memory, for an opening that has no more room.

Memories in, a smaller memory out; knows nothing of documents.
"""

from itertools import pairwise

import torch
from torch import Tensor

from d2l.adapters.weights import Memory


def thin_out(memory: Memory, n_seats: int, *, heads: int) -> Memory:
    """The memory with `n_seats` of its seats, chosen in every layer and head for itself; all of
    them where it has no more.

    The seats are divided into `n_seats` stretches, as even as can be, so that every part of the
    document is left; of each stretch a head keeps the seat whose value is farthest from the mean of
    all: it changes most what reads it. Keys and values stay as they are, and together. To average
    neighbors loses far more: the mean of two keys is near to no question.
    """
    layers, n_old, size = memory.keys.shape
    if n_seats >= n_old:
        return memory
    by_head = (layers, n_old, heads, size // heads)
    values = memory.values.reshape(by_head)
    away = (values - values.mean(1, keepdim=True)).norm(dim=-1)
    ends = [round(n_old * part / n_seats) for part in range(n_seats + 1)]
    best = [away[:, start:stop].argmax(1) + start for start, stop in pairwise(ends)]
    chosen = torch.stack(best, dim=1)[..., None]  # (layers, n_seats, heads, 1)

    def take(given: Tensor) -> Tensor:
        index = chosen.expand(-1, -1, -1, size // heads)
        return given.reshape(by_head).gather(1, index).reshape(layers, n_seats, size)

    return Memory(take(memory.keys), take(memory.values))
