"""The Text-to-LoRA network against the recorded output of the original, and against formulas."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import layer_norm, silu

from d2l.errors import CheckpointError
from d2l.hypernets.networks import load_hypernet
from d2l.hypernets.text_to_lora.network import TextToLoraConfig
from tests.hypernets.text_networks import make_config, make_network, make_tensors

GOLDENS = Path(__file__).parents[4] / "shared" / "goldens" / "t2l"
CASES = sorted(path.name for path in GOLDENS.glob("*")) if GOLDENS.is_dir() else []


@pytest.mark.skipif(not CASES, reason="the goldens are not beside the repository")
@pytest.mark.parametrize("case", CASES or ["none"])
def test_recorded_adapters_come_out(case: str) -> None:
    network = load_hypernet(GOLDENS / case, device="cpu")
    inputs = load_file(GOLDENS / case / "inputs.safetensors")
    expected = load_file(GOLDENS / case / "expected.safetensors")
    embeddings = {"vector": inputs["vector.task_emb"][0]}
    embeddings |= {tag: expected[f"{tag}.task_emb"][0] for tag in ("text0", "text1")}
    for tag, embedding in embeddings.items():
        torch.testing.assert_close(
            network.encode(embedding), expected[f"{tag}.encoded"][0], atol=1e-5, rtol=0
        )
        weights = network.generate(embedding)
        prefix = f"{tag}.lora.base_model.model."
        assert {k for k in expected if k.startswith(prefix)} == {
            f"{prefix}{name}.lora_{which}.weight" for name in weights.factors for which in "AB"
        }
        for name, factors in weights.factors.items():
            for which, got in (("A", factors.a), ("B", factors.b)):
                wanted = expected[f"{prefix}{name}.lora_{which}.weight"]
                torch.testing.assert_close(got, wanted, atol=2e-5, rtol=0)


def residual(x, t, name):
    """x + silu(W4 silu(W1 LN(x))), written out."""
    normal = layer_norm(x, x.shape[-1:], t[f"{name}.mlp.0.weight"], t[f"{name}.mlp.0.bias"])
    inner = silu(normal @ t[f"{name}.mlp.1.weight"].T + t[f"{name}.mlp.1.bias"])
    return x + silu(inner @ t[f"{name}.mlp.4.weight"].T + t[f"{name}.mlp.4.bias"])


def norm(x, t, name):
    return layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"])


def write_out(config, t, embedding, module, layer, which, rank):
    """One row of a, or one column of b, step by step."""
    weight, bias = (t[f"task_encoder.mlp.0.{name}"] for name in ("weight", "bias"))
    task = norm(embedding @ weight.T + bias, t, "task_encoder.mlp.1")
    depth = norm(t["layer_depth_encoder.0.weight"][layer], t, "layer_depth_encoder.1")
    index = config.module_order.index(module)
    kind = norm(t["layer_type_encoder.0.weight"][index], t, "layer_type_encoder.1")
    x = torch.cat([task, depth, kind])
    x = silu(x @ t["mixer.1.weight"].T + t["mixer.1.bias"])
    x = silu(x @ t["mixer.4.weight"].T + t["mixer.4.bias"])
    x = residual(x, t, "mlp1")
    position = norm(t["pos_emb.0.weight"][rank], t, "pos_emb.1") if config.autoregressive else None
    if config.shared_head:
        x = residual(x + norm(t[f"out_emb.{module}.{which}"], t, "out_emb_norm"), t, "mlp2")
        x = x if position is None else x + residual(position, t, "mlp2")
    else:
        x = residual(x if position is None else x + position, t, "mlp2")
    x = silu(norm(x, t, "mlp3.0") @ t["mlp3.1.weight"].T + t["mlp3.1.bias"])
    x = silu(x @ t["mlp3.4.weight"].T + t["mlp3.4.bias"])
    y = x @ t[f"heads.{module}.weight"].T
    y = y + t[f"heads.{module}.bias"] if config.head_bias else y
    d_in, d_out = config.module_shapes[module]
    size = d_in if which == "A" else d_out
    if config.shared_head:
        wide = max(d_in, d_out)
        start = 0 if config.autoregressive else rank * wide
        row = y[start : start + size]
    elif config.autoregressive:
        row = y[:d_in] if which == "A" else y[d_in:]
    else:
        start = rank * d_in if which == "A" else config.rank * d_in + rank * d_out
        row = y[start : start + size]

    def constant(name):
        value = t[f"{name}.{which}.{module}"][layer]
        return value[rank] if which == "A" else value[:, rank]

    if config.z_scores:
        row = row * (constant("std_recon_target") + 1e-10) + constant("mean_recon_target")
    if config.adds_offset:
        row = row + constant("AB_offset")
    return row / config.delta_scaling**0.5


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"head_bias": False},
        {"shared_head": True},
        {"autoregressive": True},
        {"shared_head": True, "autoregressive": True},
        {"z_scores": True},
        {"adds_offset": False, "delta_scaling": 10000.0, "shared_head": True},
    ],
)
def test_every_row_follows_the_formula(changes) -> None:
    config = make_config(**changes)
    tensors = make_tensors(config)
    embedding = torch.randn(6, generator=torch.Generator().manual_seed(5))
    weights = make_network(config).generate(embedding)
    for layer in range(2):
        for module in ("q_proj", "v_proj"):
            factors = weights.factors[f"model.layers.{layer}.self_attn.{module}"]
            for rank in range(2):
                for which, got in (("A", factors.a[rank]), ("B", factors.b[:, rank])):
                    wanted = write_out(config, tensors, embedding, module, layer, which, rank)
                    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_scale_is_alpha_over_rank_unless_the_files_own_is_asked_for() -> None:
    config = make_config(rank=4, scale=2.0)
    assert make_network(config).generate(torch.ones(6)).scale == 2.0
    assert config.scaling(own=True) == 4.0
    assert make_config(rank=4, rank_stabilized=False).scaling(own=True) == 2.0


def test_configuration_survives_json() -> None:
    config = make_config(embedder="some/model", delta_scaling=3.5)
    assert TextToLoraConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "rank is out of range, expected 1 to 1024"),
        ({"module_order": ("q_proj", "q_proj")}, "module_order is not a choice of"),
        ({"module_order": ("q_proj", "fc")}, "module_order is not a choice of"),
        ({"d_in": (6,)}, "d_in and d_out do not have one size per target module"),
        ({"latent_size": 10}, "latent_size is not a multiple of 4"),
        ({"scale": float("inf")}, "scale is not a finite number"),
        ({"embeds_question": True, "embedder": "some/model"}, "embeds_question is for networks"),
        ({"delta_scaling": 0.0}, "delta_scaling is not a positive number"),
    ],
)
def test_impossible_configurations_are_refused(changes, message) -> None:
    with pytest.raises(CheckpointError, match=message):
        make_config(**changes)


def test_the_base_is_read_only_where_it_embeds() -> None:
    assert make_config().reading.hidden_states == (2,)
    assert make_config(embedder="some/model").reading.hidden_states == ()
