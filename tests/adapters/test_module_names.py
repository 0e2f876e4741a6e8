"""Names of modules, of every form that adapters come with."""

import pytest

from d2l.adapters.module_names import ModuleName, join, list_layers, list_short, parse, parse_key

Q = "model.layers.3.self_attn.q_proj"


@pytest.mark.parametrize(
    ("name", "expected", "short"),
    [
        (Q, ModuleName(3, "model", "self_attn.q_proj"), "q_proj"),
        ("layers.0.mlp", ModuleName(0, "", "mlp"), "mlp"),
        (
            "model.language_model.layers.31.mlp.up_proj",
            ModuleName(31, "model.language_model", "mlp.up_proj"),
            "up_proj",
        ),
        ("lm_head", ModuleName(None, None, "lm_head"), "lm_head"),
        ("model.embed_tokens", ModuleName(None, None, "model.embed_tokens"), "embed_tokens"),
        ("model.layers.3", ModuleName(None, None, "model.layers.3"), "3"),
        ("model.layers.3.", ModuleName(None, None, "model.layers.3."), ""),
        ("model.layers.x.mlp", ModuleName(None, None, "model.layers.x.mlp"), "mlp"),
        ("model.layers.²." + "mlp", ModuleName(None, None, "model.layers.².mlp"), "mlp"),
        ("", ModuleName(None, None, ""), ""),
    ],
)
def test_names_are_taken_apart(name: str, expected: ModuleName, short: str) -> None:
    assert parse(name) == expected
    assert parse(name).short == short


def test_only_the_decoders_own_layers_are_those_of_adapters_of_d2l() -> None:
    assert parse(Q).in_decoder
    assert join(3, parse(Q).path) == Q
    assert not any(
        parse(name).in_decoder
        for name in ("lm_head", "layers.0.mlp", "vision.layers.0.mlp", "model.x.layers.0.mlp")
    )


def test_numbers_that_no_layer_has_are_no_layers() -> None:
    name = f"model.layers.{'9' * 5000}.mlp"  # Python refuses to read so long a number
    assert parse(name).layer is None


def test_modules_and_layers_are_listed_once_in_order() -> None:
    names = [join(10, "mlp.up_proj"), "lm_head", Q, join(10, "self_attn.q_proj")]
    assert list_short(names) == ["lm_head", "q_proj", "up_proj"]
    assert list_layers(names) == [3, 10]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (f"base_model.model.{Q}.lora_A.weight", (Q, "A")),
        (f"{Q}.lora_B.default.weight", (Q, "B")),
        ("lm_head.lora_A.weight", ("lm_head", "A")),
        (f"{Q}.lora_magnitude_vector", None),
        ("model.embed_tokens.lora_embedding_A", None),
    ],
)
def test_keys_of_factors_are_taken_apart(key: str, expected: tuple[str, str] | None) -> None:
    assert parse_key(key) == expected
