from dataclasses import replace

import pytest
import torch

from d2l.adapters.merge_methods import compress
from d2l.adapters.weights import LoraFactors, Memory
from d2l.bases.activations import Activations
from d2l.bases.families import Reading
from d2l.errors import BaseModelError, CheckpointError, MergeError, OptionError
from d2l.hypernets.doc_to_lora.network import DocToLoraConfig, build, expected_shapes
from d2l.hypernets.networks import load_hypernet
from d2l.hypernets.options import MergeOptions
from tests.hypernets.loading import NAMES, compute_logits, load_golden
from tests.hypernets.networks import make_config, make_hidden, make_network, make_tensors
from tests.hypernets.reference import compute_factors

PARENTS = {"down_proj": "mlp", "q_proj": "self_attn", "v_proj": "self_attn"}
EXACT = 2e-5  # float32, sums in another order than the original's
ENCODERS = "encoder_type is not one of per_layer_activations, early_exit, embed_only"
LOGITS = 5e-4  # rounding, amplified by a random-weight base

VARIANTS = {
    "per_layer": {},
    "modules": {"target_modules": ("down_proj", "q_proj", "v_proj")},
    "early_exit": {"encoder_type": "early_exit", "encoder_layer": 2},
    "early_exit_modules": {
        "encoder_type": "early_exit",
        "encoder_layer": 1,
        "target_modules": ("q_proj", "v_proj"),
    },
    "embed_only": {"encoder_type": "embed_only"},
    "shared_pre_head": {"per_layer_pre_head": False, "n_pre_head_blocks": 2},
    "three_pre_heads": {"n_pre_head_blocks": 3},
    "no_pre_head": {"n_pre_head_blocks": 0},
    "self_attention": {"n_blocks": 2, "n_self_attention": 2},
    "shared_weights": {"n_blocks": 3, "n_self_attention": 1, "shared_weights": True},
    "no_bias": {"use_bias": False},
}


def delta(weights, name):
    return weights.scale * weights.factors[name].b @ weights.factors[name].a


# ---- against the original's numbers -------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_golden_latents_factors_and_logits(name):
    golden = load_golden(name)
    network = load_hypernet(golden.folder, device="cpu")
    config = network.config
    for case in ("one", "three"):
        chunks = golden.read_chunks(case, config)
        if case == "one":
            features = golden.expected["one.ctx_features"]
            assert_near(chunks[0].hidden, features.view_as(chunks[0].hidden))
            with torch.no_grad():
                latents = network.perceive(chunks[0].hidden)
            assert_near(latents, golden.expected["one.latents"][0])
        parts = [network.generate(chunk, config.rank) for chunk in chunks]
        for i, part in enumerate(parts):
            assert_factors(part, golden.expected, f"{case}.chunk", i)
        merged = network.assemble(parts, MergeOptions()).weights
        assert merged.rank == (len(parts) + config.use_bias) * config.rank
        assert_factors(merged, golden.expected, f"{case}.merged", 0)
        logits = compute_logits(golden.root / config.base, golden.inputs["query_ids"], merged)
        torch.testing.assert_close(logits, golden.expected[f"{case}.logits"], atol=LOGITS, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_golden_strengths_are_linear_in_the_delta(name):
    golden = load_golden(name)
    network = load_hypernet(golden.folder, device="cpu")
    chunks = golden.read_chunks("three", network.config)
    parts = [network.generate(chunk, network.config.rank) for chunk in chunks]
    # The original multiplies A and B of the learned part, and A only of the chunks.
    strengths = golden.inputs["three.scalers"].tolist()
    chunk_scaled = [with_strength(p, s) for p, s in zip(parts, strengths, strict=True)]
    learned = golden.strengths["bias_scaler"] ** 2 if network.config.use_bias else 1.0
    options = MergeOptions(bias_scale=learned)
    merged = network.assemble(chunk_scaled, options).weights
    for factor_name in merged.factors:
        layer, module = factor_name.split(".")[2], factor_name.split(".")[-1]
        a = golden.expected[f"three_scaled.merged.{module}.A"][0, int(layer)]
        b = golden.expected[f"three_scaled.merged.{module}.B"][0, int(layer)]
        wanted = network.config.scale * b.T @ a
        torch.testing.assert_close(delta(merged, factor_name), wanted, atol=LOGITS, rtol=1e-4)
    assert_last_logits(golden, network, merged, "three_scaled")
    # The user's scaling multiplies A and B of every chunk: its square is the strength.
    options = MergeOptions(scale=golden.strengths["user_defined_scaling"] ** 2)
    merged = network.assemble(parts, options).weights
    assert_last_logits(golden, network, merged, "three_uds")


def with_strength(part, strength):
    factors = {n: LoraFactors(f.a * strength, f.b) for n, f in part.factors.items()}
    return replace(part, factors=factors)


def assert_last_logits(golden, network, merged, case):
    ids = golden.inputs["query_ids"]
    logits = compute_logits(golden.root / network.config.base, ids, merged)[:, -1]
    wanted = golden.expected[f"{case}.last_logits"]
    torch.testing.assert_close(logits, wanted, atol=LOGITS, rtol=0)


def assert_near(got, wanted):
    torch.testing.assert_close(got, wanted, atol=EXACT, rtol=0)


def assert_factors(weights, expected, prefix, row):
    for name, factors in weights.factors.items():
        layer, module = int(name.split(".")[2]), name.split(".")[-1]
        a = expected[f"{prefix}.{module}.A"][row, layer]
        b = expected[f"{prefix}.{module}.B"][row, layer]
        assert_near(factors.a, a[: factors.rank])
        assert_near(factors.b, b[: factors.rank].T)
        assert not a[factors.rank :].any()  # padding of a batch
        assert not b[factors.rank :].any()


# ---- against the formulas -----------------------------------------------------------------------


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_generated_factors_follow_the_published_formulas(changes):
    config = make_config(**changes)
    tensors = make_tensors(config)
    hidden = make_hidden(config)
    weights = build(config, tensors, device="cpu").generate(Activations(hidden), config.rank)
    wanted = compute_factors(config, tensors, hidden)
    assert weights.base == config.base
    assert weights.scale == config.scale
    assert len(weights.factors) == config.n_layers * len(config.target_modules)
    for module, (a, b) in wanted.items():
        for layer in range(config.n_layers):
            factors = weights.factors[f"model.layers.{layer}.{PARENTS[module]}.{module}"]
            torch.testing.assert_close(factors.a, a[layer].float(), atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(factors.b, b[layer].T.float(), atol=1e-4, rtol=1e-4)
            for factor in (factors.a, factors.b):
                assert factor.is_contiguous()
                assert not factor.requires_grad


@pytest.mark.parametrize(
    ("n_layers", "hidden", "inner", "n_blocks", "n_values"),
    [
        (26, 2304, 9216, 8, 309_468_064),
        (26, 2304, 9216, 9, 315_237_792),  # the released gemma_demo
        (32, 4096, 14336, 9, 574_214_656),
        (36, 2560, 9728, 9, 421_001_792),  # the released qwen_4b_d2l
    ],
)
def test_released_configurations_have_their_parameters(n_layers, hidden, inner, n_blocks, n_values):
    config = replace(
        make_config(n_layers=n_layers, rank=8, latent_size=512, n_latent_queries=8),
        d_in=(inner,),
        d_out=(hidden,),
        feature_size=hidden,
        n_blocks=n_blocks,
    )
    shapes = expected_shapes(config)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == n_values
    if n_blocks == 9:
        assert len(shapes) == 140
        assert sum(name.startswith("aggregator.") for name in shapes) == 127


def test_hidden_states_in_bfloat16_are_read_in_float32():
    config = make_config()
    hidden = make_hidden(config).bfloat16()
    network = make_network(config)
    low = network.generate(Activations(hidden), 2)
    high = network.generate(Activations(hidden.float()), 2)
    for name, factors in low.factors.items():
        assert factors.a.dtype == torch.float32
        assert torch.equal(factors.a, high.factors[name].a)
        assert torch.equal(factors.b, high.factors[name].b)


def test_generate_below_the_own_rank_gives_the_nearest_weights():
    config = make_config(rank=3)
    network = make_network(config)
    activations = Activations(make_hidden(config))
    full = network.generate(activations, 3)
    assert network.generate(activations, 99).rank == 3
    low = network.generate(activations, 1)
    assert low.rank == 1
    wanted, _ = compress(full, 1)
    assert all(torch.equal(low.factors[n].b, wanted.factors[n].b) for n in low.factors)


def test_generate_refuses_activations_of_another_model():
    network = make_network(make_config())
    with pytest.raises(BaseModelError) as raised:
        network.generate(Activations(torch.zeros(3, 5, 16)), 2)
    assert raised.value.message == "hidden states are 16 wide, this checkpoint reads 8"
    assert raised.value.hint == "it was made for tiny-org/tiny"
    for shape in ((2, 5, 8), (3, 0, 8)):
        with pytest.raises(BaseModelError) as raised:
            network.generate(Activations(torch.zeros(shape)), 2)
        assert raised.value.message == f"hidden states are {shape}, expected (3, tokens, 8)"


def test_generate_refuses_to_write_values_that_are_not_numbers():
    config = make_config()
    hidden = make_hidden(config)
    hidden[1, 2, 3] = float("inf")
    with pytest.raises(BaseModelError, match="not finite numbers"):
        make_network(config).generate(Activations(hidden), 2)


# ---- assemble -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "of_chunks", "of_learned"),
    [
        (MergeOptions(scale=-0.5, bias_scale=3.0), -0.5, 3.0),
        (MergeOptions(method="average"), 0.5, 1.0),
    ],
)
def test_assemble_adds_the_learned_part_once_and_in_full(options, of_chunks, of_learned):
    config = make_config()
    tensors = make_tensors(config)
    network = build(config, tensors, device="cpu")
    parts = [network.generate(Activations(make_hidden(config, seed=s)), 2) for s in (1, 2)]
    merged = network.assemble(parts, options).weights
    assert merged.rank == 6
    for layer in range(3):
        name = f"model.layers.{layer}.mlp.down_proj"
        learned = tensors["bias_B.down_proj"][layer].T @ tensors["bias_A.down_proj"][layer]
        chunks = sum(delta(part, name) for part in parts)
        wanted = of_chunks * chunks + of_learned * config.scale * learned
        torch.testing.assert_close(delta(merged, name), wanted, atol=1e-4, rtol=1e-4)


def test_assemble_without_a_learned_part_is_the_chunks_alone():
    config = make_config(use_bias=False)
    network = make_network(config)
    part = network.generate(Activations(make_hidden(config)), 2)
    merged = network.assemble([part], MergeOptions()).weights
    assert config.bias_rank == 0
    assert all(torch.equal(merged.factors[n].a, part.factors[n].a) for n in part.factors)
    assert all(torch.equal(merged.factors[n].b, part.factors[n].b) for n in part.factors)


def test_assemble_refuses_unknown_methods_and_memories():
    network = make_network(make_config())
    with pytest.raises(OptionError) as raised:
        network.assemble([], MergeOptions(method="svd"))
    assert raised.value.message == "unknown merge method 'svd'"
    assert raised.value.hint == "choose concat, average"
    plain = make_network(make_config(use_bias=False))
    with pytest.raises(OptionError, match="this network has no learned bias to scale"):
        plain.assemble([], MergeOptions(bias_scale=0.5))
    with pytest.raises(MergeError, match="not seat memories"):
        network.assemble([Memory(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))], MergeOptions())


# ---- configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_config_survives_json(changes):
    config = make_config(**changes, chunk_tokens=512)
    assert DocToLoraConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("changes", "reading"),
    [
        ({}, Reading(2, (0, 1, 2))),
        ({"encoder_type": "early_exit", "encoder_layer": 2}, Reading(2, (2,))),
        ({"encoder_type": "embed_only"}, Reading(1, (0,))),
    ],
)
def test_reading_follows_the_encoder_type(changes, reading):
    assert make_config(**changes).reading == reading


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": 1}, 'unknown field "extra" of doc_to_lora'),
        ({"rank": ...}, 'missing field "rank" of doc_to_lora'),
        ({"rank": "2"}, "field rank is not of type int"),
        ({"rank": True}, "field rank is not of type int"),
        ({"use_bias": 1}, "field use_bias is not of type bool"),
        ({"encoder": 3}, "field encoder is not of type str | None"),
        ({"d_in": [12.5]}, "field d_in is not of type tuple"),
        ({"rank": 0}, "rank is out of range, expected 1 to 1024"),
        ({"n_blocks": 10**9}, "n_blocks is out of range, expected 1 to 128"),
        ({"n_layers": 1}, "n_layers is out of range, expected 2 to 512"),
        ({"d_in": [0]}, "size of a target module is out of range, expected 1 to 1048576"),
        ({"d_in": [12, 12]}, "d_in and d_out do not have one size per target module"),
        (
            {"target_modules": ["lm_head"]},
            "target_modules are not a sorted choice of "
            "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj",
        ),
        ({"encoder_type": "pooled"}, ENCODERS),
        ({"encoder_layer": 2}, "encoder_layer is for encoder_type early_exit only"),
        ({"chunk_tokens": 0}, "chunk_tokens is out of range, expected 1 to 1073741824"),
        ({"scale": float("nan")}, "scale is not a finite number"),
    ],
)
def test_config_refuses_values_that_cannot_be(changes, message):
    values = {**make_config().to_json(), **changes}
    values = {name: value for name, value in values.items() if value is not ...}
    with pytest.raises(CheckpointError) as raised:
        DocToLoraConfig.from_json(values)
    assert raised.value.message == message


def test_build_refuses_different_weights_for_layers_that_share_them():
    config = make_config(n_blocks=3, shared_weights=True)
    tensors = make_tensors(config)
    name = "aggregator.perceiver.encoder.layers.2.mlp.up_proj.weight"
    tensors[name] = tensors[name] + 1
    with pytest.raises(CheckpointError) as raised:
        build(config, tensors, device="cpu")
    assert raised.value.message == (
        f"{name} differs from {name.replace('.2.', '.1.')}, but blocks share their weights"
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_runs_only_the_perceiver_in_bfloat16():
    config = make_config(n_blocks=2)
    tensors = make_tensors(config)
    hidden = make_hidden(config)
    network = build(config, tensors, device="cuda")
    weights = network.generate(Activations(hidden.cuda().bfloat16()), 2)
    wanted = build(config, tensors, device="cpu").generate(Activations(hidden.bfloat16()), 2)
    with torch.no_grad():
        latents = network.perceive(hidden.cuda())
        exact = network.project(latents)["down_proj"][0].cpu()
        double = build(config, tensors, device="cpu").project(latents.cpu())["down_proj"][0]
    torch.testing.assert_close(exact, double, atol=1e-5, rtol=1e-5)  # float32 on both
    for name, factors in weights.factors.items():
        assert factors.a.device.type == "cpu"
        distance = (factors.a - wanted.factors[name].a).norm() / wanted.factors[name].a.norm()
        assert distance < 0.1  # bfloat16 perceiver, fp32 reference
