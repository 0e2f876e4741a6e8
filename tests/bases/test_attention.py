"""Attention in blocks of rows, against transformers' "eager" attention of tiny Gemma 2 models."""

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from d2l.bases import attention
from d2l.bases.activations import cache_keyword
from d2l.bases.families import BLOCKS

pytestmark = pytest.mark.usefixtures("one_thread")
WINDOW = 100


def make_model(n_key_heads: int = 2, dtype: torch.dtype = torch.float32) -> Any:
    config = transformers.Gemma2Config(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=4,  # every second one has the window
        num_attention_heads=4,
        num_key_value_heads=n_key_heads,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=WINDOW,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.Gemma2ForCausalLM(config).eval().to(dtype)


def draw_ids(n_tokens: int) -> Tensor:
    generator = torch.Generator().manual_seed(n_tokens)
    return torch.randint(1, 97, (2, n_tokens), generator=generator)


def read_both(model: Any, read: Any) -> tuple[Tensor, Tensor]:
    """What a function gives of a model with eager attention, and in blocks."""
    results = []
    for name in ("eager", BLOCKS):
        model.set_attn_implementation(name)
        results.append(read(model))
    return results[0], results[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_key_heads", [1, 2, 4])
@pytest.mark.parametrize(("n_tokens", "rows"), [(7, 512), (129, 128), (300, 64), (700, 512)])
def test_blocks_give_the_bits_of_eager_attention(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    n_key_heads: int,
    n_tokens: int,
    rows: int,
) -> None:
    monkeypatch.setattr(attention, "ROWS", rows)
    model, ids = make_model(n_key_heads, dtype), draw_ids(n_tokens)
    mask = torch.ones_like(ids)
    mask[1, : n_tokens // 3] = 0
    with torch.inference_mode():
        for some in (None, mask):
            eager, ours = read_both(model, lambda m, some=some: m(ids, attention_mask=some).logits)
            seen = mask.bool() if some is not None else torch.ones_like(ids).bool()
            assert torch.equal(eager[seen], ours[seen])


@pytest.mark.parametrize("is_padded", [False, True])
def test_blocks_read_on_behind_a_cache(monkeypatch: pytest.MonkeyPatch, is_padded: bool) -> None:
    """Layers with a window keep fewer keys than the others."""
    monkeypatch.setattr(attention, "ROWS", 64)
    model, ids = make_model(), draw_ids(300)
    mask = torch.ones_like(ids)
    mask[1, : 40 * is_padded] = 0

    def read_on(model: Any) -> Tensor:
        keyword, cache, logits, seen = cache_keyword(model), None, None, 0
        for end in (150, 299, 300):
            options = {keyword: cache} if cache is not None else {}
            output = model(
                ids[:, seen:end], attention_mask=mask[:, :end], use_cache=True, **options
            )
            cache, logits, seen = getattr(output, keyword), output.logits, end
        assert logits is not None
        return logits

    with torch.inference_mode():
        eager, ours = read_both(model, read_on)
    assert torch.equal(eager, ours)


def test_blocks_pass_gradients_on() -> None:
    ids, model = draw_ids(130), make_model()

    def find_gradient(model: Any) -> Tensor:
        model.zero_grad()
        model(ids).logits.square().mean().backward()
        gradient: Tensor = model.model.layers[0].self_attn.k_proj.weight.grad.clone()
        return gradient

    eager, ours = read_both(model, find_gradient)
    torch.testing.assert_close(ours, eager)


class Largest(TorchDispatchMode):
    """Numbers of the largest tensor that an operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.numbers = max(self.numbers, made.numel())
        return made


def test_no_tensor_has_the_square_of_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "ROWS", 64)
    model, ids = make_model(), draw_ids(1200)[:1]
    model.set_attn_implementation(BLOCKS)
    with torch.no_grad(), Largest() as largest:
        model.model(ids, use_cache=False)
    assert largest.numbers < 1200**2
