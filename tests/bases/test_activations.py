"""Expected values come straight from transformers: the whole model's states, and the projections
of a layer's normed input by a matrix product of our own."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from d2l.bases.activations import ActivationEncoder, Activations
from d2l.bases.families import FAMILIES, Reading
from d2l.bases.models import BaseFiles, load_frozen
from d2l.progress import TOLD
from tests import tiny

SAME = {"atol": 2e-5, "rtol": 1e-4}  # fp32 sums in another order
WINDOW = 16  # of the tiny Gemma's sliding attention


def draw_ids(n_tokens: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(8, tiny.vocab_size(), (n_tokens,), generator=generator).tolist()


def make_encoder(family: str, reading: Reading) -> ActivationEncoder:
    """Reads with the decoder below the tiny causal model of a family."""
    causal = tiny.make_causal(family)
    causal.set_attn_implementation(FAMILIES[family].attention)
    return ActivationEncoder(causal.model, reading)


@torch.no_grad()
def read_states(family: str, ids: Sequence[int]) -> tuple[Tensor, ...]:
    """All hidden states of the causal model, each (tokens, hidden)."""
    causal = tiny.make_causal(family)
    causal.set_attn_implementation("eager")
    states = causal(torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states
    return tuple(state[0] for state in states)


@torch.no_grad()
def project(family: str, states: Sequence[Tensor], layer: int, module: str) -> Tensor:
    """What k_proj or v_proj of a layer makes of the state before it: (tokens, kv_heads * dim)."""
    block = tiny.make_causal(family).model.layers[layer]
    inputs = states[layer]
    scale = block.input_layernorm.weight
    if family == "gemma2":  # Gemma's norms are stored as their difference from one
        scale = 1 + scale
    epsilon = tiny.make_causal(family).config.rms_norm_eps
    normed = inputs / (inputs.pow(2).mean(-1, keepdim=True) + epsilon).sqrt() * scale
    return torch.nn.functional.linear(
        normed, getattr(block.self_attn, module).weight, getattr(block.self_attn, module).bias
    )


def assert_equal_activations(got: Activations, expected: Activations) -> None:
    torch.testing.assert_close(got.hidden, expected.hidden, **SAME)
    for name in ("keys", "values"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), **SAME)


def test_each_projection_that_is_read_is_told_as_a_step_of_the_chunk() -> None:
    seen: list[tuple[int, int]] = []
    token = TOLD.set(lambda done, total, *_: seen.append((done, total)))
    make_encoder("llama", Reading(tiny.N_LAYERS, (0,), (0, 1)))(draw_ids(8))
    TOLD.reset(token)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_those_of_the_whole_model(family: str) -> None:
    ids = draw_ids(40)
    indices = (0, 2, 1, tiny.N_LAYERS)
    encoder, held = make_encoder(family, Reading(tiny.N_LAYERS, indices)), list[Tensor]()
    encoder.model.register_forward_hook(lambda _module, _ids, out: held.extend(out.hidden_states))
    got = encoder(ids)
    assert [s.data_ptr() for s in got.states] == [held[i].data_ptr() for i in indices]  # no copies
    states = read_states(family, ids)
    assert got.hidden.shape == (4, 40, tiny.HIDDEN)
    torch.testing.assert_close(got.hidden, torch.stack([states[i] for i in indices]), **SAME)
    assert (got.keys, got.values) == (None, None)


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_and_values_are_projections_of_the_normed_state_before_a_layer(family: str) -> None:
    ids = draw_ids(40)
    got = make_encoder(family, Reading(tiny.N_LAYERS, (0,), key_value_layers=(2, 0)))(ids)
    states = read_states(family, ids)
    for name, module in (("keys", "k_proj"), ("values", "v_proj")):
        expected = torch.stack([project(family, states, layer, module) for layer in (2, 0)])
        torch.testing.assert_close(getattr(got, name), expected, **SAME)


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_early_layers_alone_give_the_same_states(
    family: str, n_layers: int, tmp_path: Path
) -> None:
    files = BaseFiles("tiny", tiny.write_base(tmp_path / "base", family))
    model = load_frozen(files, device="cpu", dtype=torch.float32, n_layers=n_layers)
    assert len(model.layers) == n_layers
    ids = draw_ids(40)
    reading = Reading(n_layers, tuple(range(n_layers)), key_value_layers=(n_layers - 1,))
    got, states = ActivationEncoder(model, reading)(ids), read_states(family, ids)
    torch.testing.assert_close(got.hidden, torch.stack(states[:n_layers]), **SAME)
    expected = project(family, states, n_layers - 1, "k_proj")
    torch.testing.assert_close(got.keys, expected[None], **SAME)


@pytest.mark.parametrize("skip", [1, 7, WINDOW - 1, WINDOW, WINDOW + 1, 39])
@pytest.mark.parametrize("family", FAMILIES)
def test_skipped_tokens_are_context_that_is_read_but_not_kept(family: str, skip: int) -> None:
    """Also where the context is longer than the window of a layer with sliding attention."""
    ids, layers = draw_ids(40), tuple(range(tiny.N_LAYERS))
    whole = make_encoder(family, Reading(tiny.N_LAYERS, (0, 1, 2, 3), layers))(ids)
    assert whole.keys is not None
    assert whole.values is not None
    expected = Activations(whole.hidden[:, skip:], whole.keys[:, skip:], whole.values[:, skip:])
    encode = make_encoder(family, Reading(tiny.N_LAYERS, (0, 1, 2, 3), layers, skip_tokens=skip))
    assert_equal_activations(encode(ids), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_chunks_that_share_a_context_do_not_see_each_other(family: str) -> None:
    context, layers = draw_ids(20, seed=1), tuple(range(tiny.N_LAYERS))
    chunks = [context + draw_ids(n, seed=n) for n in (30, 5, 12)]
    reading = Reading(tiny.N_LAYERS, (1, 3), layers, skip_tokens=20)
    encode = make_encoder(family, reading)
    together = [encode(chunk) for chunk in (*chunks, chunks[0])]
    alone = [make_encoder(family, reading)(chunk) for chunk in (*chunks, chunks[0])]
    for got, expected in zip(together, alone, strict=True):
        assert_equal_activations(got, expected)


@pytest.mark.parametrize("skip", [0, 20])
@pytest.mark.parametrize("family", FAMILIES)
def test_chunks_that_are_read_together_do_not_see_each_other(family: str, skip: int) -> None:
    """Nor the padding behind the shorter ones."""
    context, layers = draw_ids(20, seed=1), tuple(range(tiny.N_LAYERS))
    chunks = [context + draw_ids(n, seed=n) for n in (30, 5, 12)]
    encode = make_encoder(family, Reading(tiny.N_LAYERS, (1, 3), layers, skip_tokens=skip))
    alone = [encode(chunk) for chunk in chunks]
    for got, expected in zip(encode.read_together(chunks), alone, strict=True):
        assert_equal_activations(got, expected)


def test_chunks_of_other_contexts_are_not_read_together() -> None:
    encode = make_encoder("llama", Reading(tiny.N_LAYERS, (3,), skip_tokens=9))
    with pytest.raises(ValueError, match="same leading tokens"):
        encode.read_together([draw_ids(12, seed=1), draw_ids(12, seed=2)])


def test_another_context_is_read_anew() -> None:
    tail = draw_ids(10, seed=3)
    reading = Reading(tiny.N_LAYERS, (3,), (0, 2), skip_tokens=6)
    encode = make_encoder("llama", reading)
    first = encode([*draw_ids(6, seed=4), *tail])
    other = [*draw_ids(6, seed=5), *tail]
    second = encode(other)
    assert_equal_activations(second, make_encoder("llama", reading)(other))
    assert (first.hidden - second.hidden).abs().max() > 0.01


def test_context_is_read_once() -> None:
    encode = make_encoder("llama", Reading(tiny.N_LAYERS, (3,), skip_tokens=9))
    lengths: list[int] = []
    encode.model.embed_tokens.register_forward_hook(
        lambda _module, inputs, _output: lengths.append(inputs[0].shape[1])
    )
    context = draw_ids(9)
    for n_tokens in (4, 8, 4):
        encode([*context, *draw_ids(n_tokens)])
    assert lengths == [9, 4, 8, 4]


def test_later_tokens_do_not_change_earlier_ones() -> None:
    encode = make_encoder("qwen3", Reading(tiny.N_LAYERS, (3,), (1,)))
    ids = draw_ids(30)
    whole, start = encode(ids), encode(ids[:11])
    torch.testing.assert_close(whole.hidden[:, :11], start.hidden, **SAME)
    assert whole.keys is not None
    torch.testing.assert_close(whole.keys[:, :11], start.keys, **SAME)


def test_hooks_are_removed_even_where_reading_fails() -> None:
    encode = make_encoder("llama", Reading(tiny.N_LAYERS, (0,), (0, 1, 2)))
    with pytest.raises(IndexError):
        encode([10**6])  # no such token
    encode([10, 11])
    hooked = [n for n, m in encode.model.named_modules() if "_proj" in n and m._forward_hooks]
    assert hooked == []


def test_reading_leaves_no_gradient_and_does_not_touch_the_base() -> None:
    encode = make_encoder("mistral", Reading(tiny.N_LAYERS, (0, 3), (0,), skip_tokens=2))
    before = {name: tensor.clone() for name, tensor in encode.model.state_dict().items()}
    got = encode(draw_ids(8))
    assert not got.hidden.requires_grad
    after = encode.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
