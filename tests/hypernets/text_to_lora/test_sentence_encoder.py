"""The sentence encoder: BERT's form against transformers, GTE's against its formula."""

import dataclasses
import math

import pytest
import torch
import transformers
from torch.nn.functional import gelu, layer_norm

from d2l.errors import BaseModelError, CheckpointError
from d2l.hypernets.text_to_lora.sentence_encoder import (
    EncoderConfig,
    TextEncoder,
    build_encoder,
    make_rotation,
    read_encoder_config,
)

BERT = {
    "model_type": "bert",
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}
GTE = BERT | {
    "model_type": "new",
    "position_embedding_type": "rope",
    "rope_theta": 500.0,
    "rope_scaling": {"type": "ntk", "factor": 2.0},
    "layer_norm_type": "layer_norm",
    "pack_qkv": True,
    "logn_attention_scale": False,
}
IDS = torch.tensor([3, 17, 42, 8, 8, 5])


def make_tensors(config: EncoderConfig) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = {name: t.shape for name, t in TextEncoder(config).state_dict().items()}
    return {name: torch.randn(s, generator=generator) * 0.5 for name, s in shapes.items()}


def test_bert_equals_transformers() -> None:
    torch.manual_seed(4)
    config = transformers.BertConfig(**BERT, initializer_range=0.4)
    model = transformers.BertModel(config).eval()
    for prefix in ("", "bert."):  # files of a task's model have the second
        tensors = {prefix + name: tensor for name, tensor in model.state_dict().items()}
        encoder = build_encoder(read_encoder_config(BERT), tensors, device="cpu")
        with torch.no_grad():
            wanted = model(IDS[None]).last_hidden_state[0]
        torch.testing.assert_close(encoder(IDS), wanted, atol=1e-5, rtol=0)


def turn(state: torch.Tensor, config: EncoderConfig) -> torch.Tensor:
    """Rotary embedding as complex numbers: halves are real and imaginary parts."""
    size = state.shape[-1]
    frequencies = torch.tensor(
        [
            1
            / (config.rope_theta * config.rope_factor) ** (2 * i / size)
            / config.rope_factor ** (2 / size)
            for i in range(size // 2)
        ],
        dtype=torch.float64,
    )
    angles = torch.arange(len(state), dtype=torch.float64)[:, None] * frequencies
    numbers = torch.complex(state[:, : size // 2], state[:, size // 2 :])
    turned = numbers * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], dim=-1)


def test_gte_follows_its_formula() -> None:
    config = read_encoder_config(GTE)
    tensors = make_tensors(config)
    got = build_encoder(config, {f"new.{k}": v for k, v in tensors.items()}, device="cpu")(IDS)
    t = {name: tensor.double() for name, tensor in tensors.items()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return layer_norm(x, (16,), t[f"{name}.weight"], t[f"{name}.bias"], 1e-12)

    x = t["embeddings.word_embeddings.weight"][IDS]
    x = norm(x + t["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(2):
        p = f"encoder.layer.{layer}"
        packed = x @ t[f"{p}.attention.qkv_proj.weight"].T + t[f"{p}.attention.qkv_proj.bias"]
        heads = []
        for head in range(2):
            q, k, v = (packed[:, 16 * i + 8 * head : 16 * i + 8 * head + 8] for i in range(3))
            scores = turn(q, config) @ turn(k, config).T / math.sqrt(8)
            heads.append(scores.softmax(-1) @ v)
        mixed = torch.cat(heads, -1) @ t[f"{p}.attention.o_proj.weight"].T
        x = norm(x + mixed + t[f"{p}.attention.o_proj.bias"], f"{p}.attn_ln")
        both = x @ t[f"{p}.mlp.up_gate_proj.weight"].T
        inner = both[:, :24] * gelu(both[:, 24:])
        x = norm(
            x + inner @ t[f"{p}.mlp.down_proj.weight"].T + t[f"{p}.mlp.down_proj.bias"],
            f"{p}.mlp_ln",
        )
    torch.testing.assert_close(got.double(), x, atol=1e-4, rtol=0)


def test_positions_matter_to_gte() -> None:
    config = read_encoder_config(GTE)
    encoder = build_encoder(config, make_tensors(config), device="cpu")
    assert not torch.allclose(encoder(IDS)[0], encoder(IDS[[0, 2, 1, 3, 4, 5]])[0], atol=1e-3)


def test_ntk_scaling_slows_every_frequency() -> None:
    config = dataclasses.replace(read_encoder_config(GTE), rope_theta=160000.0)
    plain = dataclasses.replace(config, rope_factor=1.0)
    scaled, unscaled = (make_rotation(c, 2, torch.device("cpu"))[1, 1, :4] for c in (config, plain))
    assert bool((scaled.asin() < unscaled.clamp(max=0.999999).asin()).all())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "xlnet"}, "embedders of type 'xlnet' are not supported"),
        ({"vocab_size": 0}, "vocab_size is not a number from 1 to 2097152"),
        ({"hidden_size": "16"}, "hidden_size is not a number from 1 to 32768"),
        ({"num_attention_heads": 3}, "hidden_size is not an even multiple of num_attention_heads"),
        ({"hidden_act": "relu"}, "hidden_act is not 'gelu'"),
        ({"layer_norm_eps": None}, "layer_norm_eps is not a small number"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "rope_scaling is not plain ntk"),
        ({"rope_scaling": {"type": "ntk"}}, "factor of rope_scaling is not a number of 1 or more"),
        ({"logn_attention_scale": True}, "logn_attention_scale is not False"),
    ],
)
def test_what_is_not_built_in_is_refused(changes, message) -> None:
    with pytest.raises(BaseModelError) as raised:
        read_encoder_config(GTE | changes)
    assert raised.value.message == message


def test_weights_that_do_not_fit_are_named() -> None:
    config = read_encoder_config(GTE)
    tensors = make_tensors(config)
    tensors.pop("encoder.layer.1.attn_ln.bias")
    with pytest.raises(CheckpointError, match=r"missing encoder.layer.1.attn_ln.bias"):
        build_encoder(config, tensors, device="cpu")
    wide = make_tensors(dataclasses.replace(config, intermediate_size=25))
    with pytest.raises(CheckpointError, match=r"down_proj.weight is \(16, 25\), expected"):
        build_encoder(config, wide, device="cpu")
