"""A memory in front of a prompt, without seating: what is computed is what imposing it gives."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from d2l.adapters.weights import LoraFactors, LoraWeights, Memory
from d2l.answer.prefix import PrefixMaker, without_seats
from d2l.bases.activations import cache_keyword
from d2l.errors import AdapterError
from d2l.hypernets.options import MergeOptions
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import Seats
from tests import tiny, tiny_seats
from tests.tiny_seats import make_memory

pytestmark = pytest.mark.usefixtures("one_thread")
Load = Callable[[Any, LoraWeights], Any]
OPENING = list(range(5, 18))  # of 12 seats
REST = [2, 1, 30, 31, 40, 33]
LAYERS = [1, 2]


def read(tuned: Any, ids: list[int], cache: Any = None) -> torch.Tensor:
    """Logits of the rest behind an opening, which may stand in a cache."""
    n_before = 0 if cache is None else cache.get_seq_length()
    kept = {} if cache is None else {cache_keyword(tuned.get_base_model()): cache}
    with torch.no_grad():
        return tuned(torch.tensor([ids[n_before:]]), **kept).logits[0, -len(REST) :]


@contextmanager
def hooked(tuned: Any, change: Callable[..., None]) -> Iterator[None]:
    """A block in which `change` sees the layer, module, inputs and outputs of k_proj and v_proj of
    layers with memory."""
    handles = []
    for layer in LAYERS:
        for name in ("k_proj", "v_proj"):
            module = tuned.get_base_model().get_submodule(f"model.layers.{layer}.self_attn.{name}")

            def hook(
                module: Any, inputs: Any, output: torch.Tensor, at: Any = (layer, name)
            ) -> torch.Tensor:
                changed = output.clone()
                change(*at, module, inputs[0], changed)
                return changed

            handles.append(module.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def read_imposed(tuned: Any, memory: Memory, ids: list[int]) -> torch.Tensor:
    """The same where the memory is what comes out of the seats' projections; nothing else of them
    is on."""

    def impose(layer: int, name: str, _module: Any, _inputs: Any, output: torch.Tensor) -> None:
        rows = (memory.keys if name == "k_proj" else memory.values)[LAYERS.index(layer)]
        output[0, 1 : 1 + memory.n_seats] = rows

    with without_seats(tuned), hooked(tuned, impose):
        return read(tuned, ids)


def read_behind(tuned: Any, memory: Memory, opening: list[int]) -> torch.Tensor:
    """The same with the memory in front."""
    cache = PrefixMaker(tuned, opening, n_lead=1, first_layer=1).make_cache([memory])
    with without_seats(tuned):
        return read(tuned, [*opening[: 1 + memory.n_seats], *REST], cache)


def make_random(family: str) -> LoraWeights:
    """An adapter of seats and of an MLP's part, as far as its shapes go."""
    generator, factors = torch.Generator().manual_seed(6), {}
    for name, module in tiny.make_causal(family).named_modules():
        if name.endswith(("k_proj", "v_proj", "down_proj")) and "layers.0" not in name:
            a = torch.randn(3, module.in_features, generator=generator)
            factors[name] = LoraFactors(a, torch.randn(module.out_features, 3, generator=generator))
    return LoraWeights(tiny.base_name(family), 0.1, factors)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])  # biases, and norms of keys
@pytest.mark.parametrize("n_seats", [4, 12])
def test_a_memory_in_front_is_read_as_if_projections_had_given_it(
    family: str, n_seats: int, with_peft: Load
) -> None:
    tuned = with_peft(tiny.make_causal(family), make_random(family))
    memory = make_memory(n_seats, len(LAYERS))
    ids = [*OPENING[: 1 + n_seats], *REST]
    expected = read_imposed(tuned, memory, ids)
    torch.testing.assert_close(read_behind(tuned, memory, OPENING), expected, atol=1e-4, rtol=1e-4)
    with without_seats(tuned):
        assert (read(tuned, ids) - expected).abs().max() > 0.1  # the memory matters


@pytest.mark.parametrize(
    "make_config",
    [tiny_seats.make_config, tiny_seats.make_shared_config, tiny_seats.make_addressed_config],
)
@pytest.mark.parametrize("n_seats", [5, 12])
def test_it_is_the_seated_adapter_but_for_what_its_seats_answer_to_ordinary_text(
    make_config: Callable[[], SeatsConfig], n_seats: int, with_peft: Load
) -> None:
    config, memory = make_config(), make_memory(n_seats, len(LAYERS))
    network, statistics = tiny_seats.make_network(config), tiny_seats.make_statistics(config)
    seats = Seats(config, network, statistics, tiny_seats.make_base())
    weights = seats.assemble([memory], MergeOptions()).weights
    tuned = with_peft(tiny_seats.make_causal(), weights)
    opening = list(config.opening(n_seats))
    ids = [*opening, *REST]

    def plug(_layer: int, _name: str, module: Any, inputs: Any, output: torch.Tensor) -> None:
        output[0, len(opening) :] = module.base_layer(inputs)[0, len(opening) :]

    with hooked(tuned, plug):
        expected = read(tuned, ids)
    got = read_behind(tuned, memory, list(config.opening(config.max_seats)))
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)
    leaking = read(tuned, ids)
    assert (leaking - expected).abs().max() > 1e-2  # the seated adapter's own answers do differ
    torch.testing.assert_close(got, read_imposed(tuned, memory, ids), atol=1e-4, rtol=1e-4)


def test_seats_are_on_again_behind_a_block_that_fails(with_peft: Load) -> None:
    tuned = with_peft(tiny.make_causal("llama"), make_random("llama"))
    ids = [*OPENING, *REST]
    before = read(tuned, ids)
    with pytest.raises(IndexError), without_seats(tuned):
        read(tuned, [10**6])
    assert torch.equal(read(tuned, ids), before)


@pytest.mark.parametrize(("n_seats", "n_layers"), [(13, 2), (4, 1)])
def test_a_memory_must_fit_its_opening(n_seats: int, n_layers: int, with_peft: Load) -> None:
    tuned = with_peft(tiny.make_causal("llama"), make_random("llama"))
    memory = make_memory(n_seats, len(LAYERS))
    maker = PrefixMaker(tuned, OPENING, n_lead=1, first_layer=1)
    with pytest.raises(AdapterError, match=f"a part of {n_seats} seats in {n_layers} layers"):
        maker.make_cache([Memory(memory.keys[:n_layers], memory.values[:n_layers])])
