"""Fewer seats: real ones, of every part, the strongest of it, head by head."""

import torch

from d2l.adapters.weights import Memory
from d2l.change.seats import thin_out

HEADS, DIM = 2, 3


def make_memory(n_seats: int, layers: int = 2) -> Memory:
    chance = torch.Generator().manual_seed(3)
    shape = (layers, n_seats, HEADS * DIM)
    return Memory(torch.randn(shape, generator=chance), torch.randn(shape, generator=chance))


def test_every_stretch_keeps_its_strongest_seat_in_each_layer_and_head() -> None:
    memory = make_memory(7)
    small = thin_out(memory, 3, heads=HEADS)
    assert small.n_seats == 3
    different = set()
    for layer in range(2):
        for head in range(HEADS):
            part = slice(head * DIM, (head + 1) * DIM)
            values = memory.values[layer, :, part]
            away = [float((value - values.mean(0)).norm()) for value in values]
            for seat, stretch in enumerate(((0, 1), (2, 3, 4), (5, 6))):  # ends at 7/3 and 14/3
                best = max(stretch, key=away.__getitem__)
                assert torch.equal(small.values[layer, seat, part], values[best])
                assert torch.equal(small.keys[layer, seat, part], memory.keys[layer, best, part])
                different.add((seat, best))
    assert len(different) > 3  # heads do choose for themselves


def test_as_many_seats_as_there_are_is_the_memory_itself() -> None:
    memory = make_memory(4)
    assert thin_out(memory, 4, heads=HEADS) is memory
    assert thin_out(memory, 9, heads=HEADS) is memory


def test_one_seat_is_the_strongest_of_all() -> None:
    memory = make_memory(5)
    memory.values[:, 3] += 50.0
    small = thin_out(memory, 1, heads=HEADS)
    assert torch.equal(small.values[:, 0], memory.values[:, 3])
    assert torch.equal(small.keys[:, 0], memory.keys[:, 3])
