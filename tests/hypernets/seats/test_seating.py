import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from d2l.adapters.weights import LoraWeights, Memory
from d2l.bases.models import find_base, load_frozen
from d2l.bases.tokenizers import BaseTokenizer
from d2l.errors import BaseModelError, MergeError, ShapeError
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.fp32_pass import run_exact
from d2l.hypernets.seats.seating import Seating, find_projection, seat_memory
from d2l.hypernets.seats.shared import SharedLora
from tests import tiny
from tests.slow import slow_after
from tests.tiny_seats import (
    make_base,
    make_causal,
    make_config,
    make_memory,
    make_network,
    make_shared_config,
    make_statistics,
    record_inputs,
)
from tests.tools.seat_goldens import Compiled, ask, norm_error, tensor_errors

N_SEATS = 9
OPENING = make_config().opening(N_SEATS)
ALL_CASES = ("note", "short", "page", "long", "merged")


def seat(
    base: nn.Module,
    memory: Memory | None = None,
    opening: Sequence[int] = OPENING,
    shared: SharedLora | None = None,
    value_ridge: float = 0.0,
) -> LoraWeights:
    return seat_memory(
        memory or make_memory(),
        base,
        seating=Seating(make_statistics(), make_config().solve_epsilon, shared, value_ridge),
        opening=opening,
        base="tiny/seats-base",
    )


def watch_projections(model: nn.Module, ids: Sequence[int]) -> dict[str, Tensor]:
    """Outputs of every k_proj and v_proj on these tokens, by module name."""
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(
            lambda _m, _i, output, name=name: seen.__setitem__(name, output[0])
        )
        for name, module in model.named_modules()
        if name.endswith(("k_proj", "v_proj"))
    ]
    with torch.no_grad():
        model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen


def test_seats_get_their_keys_and_values_through_peft_and_the_sink_keeps_its_own(
    with_peft: Callable[[Any, LoraWeights], Any],
) -> None:
    causal, memory = make_causal(), make_memory()
    bare = watch_projections(causal, OPENING)
    model = with_peft(causal, seat(make_base(), memory))
    check_projections(model, memory, bare)


def test_seats_get_them_beside_shared_lora(with_peft: Callable[[Any, LoraWeights], Any]) -> None:
    causal, memory = make_causal(), make_memory()
    shared = make_network(make_shared_config()).shared
    assert shared is not None
    weights = seat(make_base(), memory, shared=shared)
    alone = with_peft(causal, replace(weights, factors=shared.factors(rank=N_SEATS)))
    bare = watch_projections(alone, OPENING)
    bare = {name.removeprefix("base_model.model."): states for name, states in bare.items()}
    alone.unload()
    both = replace(weights, factors={**weights.factors, **shared.factors(rank=N_SEATS)})
    check_projections(with_peft(causal, both), memory, bare)


def check_projections(model: Any, memory: Memory, bare: dict[str, Tensor]) -> None:
    """Seats have the memory's keys and values; the sink, and layer 0, what they have bare."""
    prompt = [*OPENING, 40, 41, 42]
    seen = watch_projections(model, prompt)
    for layer in range(3):
        for name, wanted in (("k_proj", memory.keys), ("v_proj", memory.values)):
            got = seen[f"base_model.model.model.layers.{layer}.self_attn.{name}"]
            own = bare[f"model.layers.{layer}.self_attn.{name}"]
            # fp32 factors whose entries are some ten times those of the result
            close = partial(torch.testing.assert_close, rtol=0.0, atol=2e-4)
            close(got[0], own[0])
            if layer == 0:  # not adapted
                close(got[: len(OPENING)], own)
            else:
                close(got[1 : len(OPENING)], wanted[layer - 1])


def check_answers(
    weights: LoraWeights,
    memory: Memory,
    base: nn.Module,
    config: SeatsConfig,
    shared: SharedLora | None = None,
    atol: float = 1e-5,
) -> None:
    """Every row of A answers 1 to its own seat and 0 to the sink and to other seats."""
    opening = config.opening(memory.n_seats)
    inputs = record_inputs(
        memory, base, opening=opening, layers=config.memory_layers, shared=shared
    )
    for index, states in enumerate(inputs):
        layer = config.first_layer + index
        keys = weights.factors[f"model.layers.{layer}.self_attn.k_proj"]
        values = weights.factors[f"model.layers.{layer}.self_attn.v_proj"]
        answers = states @ keys.a.to(torch.float64).T  # (tokens, seats)
        expected = torch.eye(len(opening), dtype=torch.float64)[:, 1:]
        # what epsilon leaves, and rounding to fp32
        torch.testing.assert_close(answers, expected, rtol=0, atol=atol)
        assert torch.equal(keys.a, values.a)


def test_a_answers_its_own_seat_only() -> None:
    base, memory = make_base(), make_memory()
    check_answers(seat(base, memory), memory, base, make_config())


def test_factors_are_those_of_the_formula() -> None:
    """A and B once more as the formula is written, with a dense inverse of C."""
    base, memory, statistics = make_base(), make_memory(), make_statistics()
    weights = seat(base, memory)
    inputs = record_inputs(memory, base, opening=OPENING, layers=(1, 2))
    for index in range(2):
        h, inverse = inputs[index], torch.linalg.inv(statistics.second_moment(1 + index))
        gram = h @ inverse @ h.T + 1e-6 * torch.eye(len(h), dtype=torch.float64)
        a = (torch.linalg.inv(gram) @ h @ inverse)[1:]
        weight = base.get_parameter(f"layers.{1 + index}.self_attn.v_proj.weight").double()
        b = (memory.values[index] - h[1:] @ weight.T).T
        got = weights.factors[f"model.layers.{1 + index}.self_attn.v_proj"]
        torch.testing.assert_close(got.a, a.float(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(got.b, b.float(), rtol=1e-5, atol=1e-6)


def test_higher_layers_see_what_is_imposed_below() -> None:
    base, memory = make_base(), make_memory()
    other = Memory(memory.keys, memory.values * torch.tensor([2.0, 1.0])[:, None, None])
    first = record_inputs(memory, base, opening=OPENING, layers=(1, 2))
    second = record_inputs(other, base, opening=OPENING, layers=(1, 2))
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[1], second[1], atol=1e-3)


def test_adapters_fit_every_adapted_layer_and_share_no_storage() -> None:
    weights = seat(make_base())
    assert sorted(weights.factors) == [
        f"model.layers.{layer}.self_attn.{name}"
        for layer in (1, 2)
        for name in ("k_proj", "v_proj")
    ]
    assert (weights.rank, weights.scale, weights.base) == (N_SEATS, 1.0, "tiny/seats-base")
    tensors = [t for f in weights.factors.values() for t in (f.a, f.b)]
    assert all(t.is_contiguous() and t.dtype == torch.float32 for t in tensors)
    assert len({t.untyped_storage().data_ptr() for t in tensors}) == len(tensors)


@pytest.mark.parametrize("shares", [False, True])
def test_a_base_in_bf16_is_seated_as_its_copy_in_fp32_and_left_as_it_was(shares: bool) -> None:
    rounded = make_base().to(torch.bfloat16)
    shared = make_network(make_shared_config()).shared if shares else None
    assert shared is None or isinstance(shared, SharedLora)
    layers = list(rounded.layers)
    weights = seat(rounded, shared=shared)
    exact = seat(copy.deepcopy(rounded).to(torch.float32), shared=shared)
    for name, factors in exact.factors.items():
        assert torch.equal(weights.factors[name].a, factors.a)
        assert torch.equal(weights.factors[name].b, factors.b)
    assert list(rounded.layers) == layers
    assert all(parameter.dtype == torch.bfloat16 for parameter in rounded.parameters())
    assert not any(module._forward_hooks for module in rounded.modules())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_layers_of_every_family_run_in_fp32_one_by_one(bases: Path, family: str) -> None:
    files = find_base(str(bases / f"{family}-tiny"), offline=True)
    rounded = load_frozen(files, device="cpu", dtype=torch.bfloat16)
    whole = copy.deepcopy(rounded).to(torch.float32)
    seen: list[list[Tensor]] = [[], []]
    for model, states in zip((rounded, whole), seen, strict=True):
        for layer in model.layers:
            layer.mlp.register_forward_hook(
                lambda _module, _inputs, output, states=states: states.append(output)
            )
    with torch.no_grad():
        run_exact(rounded, [3, 5, 7, 9])
        whole(torch.tensor([[3, 5, 7, 9]]), use_cache=False)
    assert len(seen[0]) == len(rounded.layers)
    for ours, theirs in zip(*seen, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)


def test_hooks_are_removed_even_when_the_pass_fails() -> None:
    base = make_base()
    with pytest.raises(IndexError):
        record_inputs(make_memory(), base, opening=[1, 10_000], layers=(1, 2))
    assert not any(module._forward_hooks for module in base.modules())


def test_a_memory_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="9 seats for an opening of 9 tokens"):
        seat(make_base(), opening=OPENING[:-1])
    with pytest.raises(ShapeError, match="memory of 1 layers, statistics of 2"):
        seat(make_base(), make_memory(layers=1))


def test_states_that_cannot_be_told_apart_are_refused() -> None:
    memory = make_memory()
    with pytest.raises(MergeError, match="cannot be told apart, or the memory is not finite"):
        seat(make_base(), Memory(memory.keys, memory.values * float("nan")))


def test_a_quantized_base_is_refused() -> None:
    base = make_base()
    base.layers[1].self_attn.k_proj = nn.Identity()
    with pytest.raises(BaseModelError, match=r"layers\.1\.self_attn\.k_proj is quantized or not"):
        find_projection(base, 1, "k_proj")


# Goldens


@pytest.mark.parametrize("name", slow_after(1, *ALL_CASES))
def test_memory_and_adapter_are_those_of_the_prototype(
    compile_original: Callable[[str], Compiled],
    shared_seats: Path,
    cases: dict[str, Any],
    name: str,
) -> None:
    compiled = compile_original(name)
    for got, expected in zip(compiled.centers, cases[name]["seat_centres"], strict=True):
        assert got == pytest.approx(expected, abs=1e-9)
    errors = tensor_errors(compiled.assembled, shared_seats / "goldens", name)
    assert errors["memory"] < 2e-5  # fp32 sums in another order; 1.2e-6 seen
    # how well a second implementation agreed with the prototype, with a margin
    assert errors["a"] < 5e-5
    assert errors["b"] < 2e-5
    assert norm_error(compiled.assembled, cases[name]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_CASES)
def test_peft_answers_as_the_prototype(
    compile_original: Callable[[str], Compiled],
    shared_seats: Path,
    smollm2_causal: Any,
    smollm2_tokenizer: BaseTokenizer,
    with_peft: Callable[[Any, LoraWeights], Any],
    cases: dict[str, Any],
    name: str,
) -> None:
    expected = load_file(shared_seats / "goldens" / f"{name}.safetensors")
    model = with_peft(smollm2_causal, compile_original(name).assembled.weights)
    for index, question in enumerate(cases[name]["questions"]):
        answer = ask(model, smollm2_tokenizer, question["prompt_ids"], question["reference"])
        if (key := f"logits.{index}") in expected:
            # C solved in fp32 would be off by 3.5e-3 at least
            torch.testing.assert_close(answer.logits, expected[key], rtol=0, atol=2e-3)
        assert answer.nll == pytest.approx(question["nll"], abs=5e-4)
        assert answer.text == question["answer"]
        assert answer.logits.topk(5).indices.tolist() == question["top5"]
