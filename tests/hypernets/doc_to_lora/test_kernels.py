"""What a chunk costs on a GPU: operations, and memory. Counted on the CPU, as if it were one."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from d2l.bases import devices
from d2l.bases.families import Reading
from d2l.hypernets.doc_to_lora import network as doc_to_lora
from d2l.hypernets.doc_to_lora.perceiver import MLP_RATIO
from tests import tiny
from tests.bases.test_activations import draw_ids, make_encoder
from tests.hypernets.networks import make_config, make_hidden, make_tensors
from tests.slow import slow_after

N_TOKENS, WIDTH = 40, 512


class Meter(TorchDispatchMode):
    """Counts operations that make a tensor, and the bytes of those that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.made = self.live = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves(args) if torch.is_tensor(t)}
        for tensor in filter(torch.is_tensor, tree_leaves(out)):
            storage = tensor.untyped_storage()
            if storage._cdata not in given:  # else a view
                self.made += 1
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._free, storage.nbytes())
        return out

    def _free(self, n_bytes: int) -> None:
        self.live -= n_bytes


@pytest.fixture
def as_gpu(monkeypatch):
    monkeypatch.setattr(devices, "is_cuda", lambda _: True)


def measure(n_layers):
    config = make_config(n_layers=n_layers, n_blocks=2, feature_size=WIDTH)
    network = doc_to_lora.build(config, make_tensors(config), device="cpu")
    hidden = make_hidden(config, N_TOKENS).bfloat16()
    with torch.no_grad(), Meter() as meter:
        network(hidden)
    return meter


@pytest.mark.usefixtures("as_gpu")
def test_more_layers_are_no_more_operations_and_no_more_memory_than_the_bound(monkeypatch):
    few, many = measure(4), measure(8)
    assert few.made == many.made < 250
    # The same where two layers fit at a time: twice the operations, and memory of two.
    widest = 2 * MLP_RATIO * WIDTH * N_TOKENS
    monkeypatch.setattr(doc_to_lora, "WIDEST", widest)
    few, more = measure(4), measure(8)
    assert few.made < more.made < 2 * few.made
    assert few.peak <= more.peak < 1.1 * few.peak
    assert 3 * 2 * widest < more.peak < 2 * 3 * 2 * widest < many.peak


@pytest.mark.parametrize("family", slow_after(2, *tiny.FAMILIES))
def test_chunks_side_by_side_are_hardly_more_operations_than_one(family: str) -> None:
    encode = make_encoder(family, Reading(tiny.N_LAYERS, (1, 3)))
    chunks = [draw_ids(30, seed=seed) for seed in range(4)]
    with Meter() as one:
        encode.read_together(chunks[:1])
    with Meter() as four:
        encode.read_together(chunks)
    assert one.made <= four.made < 1.2 * one.made


def test_matrices_that_were_cast_once_are_worth_those_of_autocast(monkeypatch):
    config = make_config(n_blocks=2)
    tensors, hidden = make_tensors(config), make_hidden(config).bfloat16()
    plain = doc_to_lora.build(config, tensors, device="cpu")
    monkeypatch.setattr(devices, "is_cuda", lambda _: True)
    low = doc_to_lora.build(config, tensors, device="cpu")
    cast = {name for name, tensor in low.named_parameters() if tensor.dtype == torch.bfloat16}
    assert cast == {
        f"aggregator.perceiver.{name}.weight"
        for name, module in low.aggregator["perceiver"].named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert torch.equal(low.perceive(hidden), plain.perceive(hidden))
