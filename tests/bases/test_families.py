from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn

from d2l.bases.families import ATTENTION, FAMILIES, MLP, find_family, module_path
from d2l.errors import BaseModelError
from tests import tiny

#: Sizes of public models, by hand from their config.json, and the widths of queries and keys.
PUBLIC = {
    "gemma2": ((2304, 9216, 8, 4, 256), (2048, 1024)),
    "mistral": ((4096, 14336, 32, 8, None), (4096, 1024)),
    "qwen2": ((896, 4864, 14, 2, None), (896, 128)),
    "qwen3": ((2560, 9728, 32, 8, 128), (4096, 1024)),
    "llama": ((576, 1536, 9, 3, None), (576, 192)),
}
SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")


def linear_layers(model: transformers.PreTrainedModel) -> dict[str, tuple[int, int]]:
    """Every linear layer of the decoder's blocks by its name, with (d_in, d_out)."""
    return {
        name: (layer.in_features, layer.out_features)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and ".layers." in name
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_module_paths_and_shapes_are_those_of_the_real_model(name: str) -> None:
    model = tiny.make_causal(name)
    family = FAMILIES[name]
    described = {
        module_path(layer, module): family.module_shape(model.config, module)
        for layer in range(model.config.num_hidden_layers)
        for module in (*ATTENTION, *MLP)
    }
    assert described == linear_layers(model)


@pytest.mark.parametrize("name", FAMILIES)
def test_shapes_are_those_of_a_public_model(name: str) -> None:
    sizes, (queries, keys) = PUBLIC[name]
    hidden, inner = sizes[:2]
    config = SimpleNamespace(**dict(zip((*SIZES, "head_dim"), sizes, strict=True)))
    shapes = {m: FAMILIES[name].module_shape(config, m) for m in (*ATTENTION, *MLP)}
    assert shapes == {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }


def test_without_key_value_heads_every_head_has_its_own() -> None:
    config = SimpleNamespace(hidden_size=12, intermediate_size=20, num_attention_heads=3)
    assert FAMILIES["llama"].module_shape(config, "k_proj") == (12, 12)


def test_paths_are_below_the_causal_model() -> None:
    assert module_path(3, "down_proj") == "model.layers.3.mlp.down_proj"
    assert module_path(0, "k_proj") == "model.layers.0.self_attn.k_proj"


@pytest.mark.parametrize("name", FAMILIES)
def test_attention_is_one_that_computes_what_the_family_defines(name: str) -> None:
    """The implementation named gives the logits of plain, unfused attention."""
    family, model = FAMILIES[name], tiny.make_causal(name)
    ids = torch.arange(10, 60)[None]
    logits = {}
    for implementation in ("eager", family.attention):
        model.set_attn_implementation(implementation)
        with torch.no_grad():
            logits[implementation] = model(ids).logits
    torch.testing.assert_close(
        logits[family.attention], logits["eager"], atol=1e-4, rtol=1e-4
    )  # fp32 sums in another order


def test_tiny_bases_cover_every_family() -> None:
    assert sorted(tiny.FAMILIES) == sorted(FAMILIES)


@pytest.mark.parametrize("model_type", ["bert", "", "Llama", "llama ", "gemma"])
def test_unknown_type_is_refused(model_type: str) -> None:
    with pytest.raises(BaseModelError) as raised:
        find_family(model_type)
    assert raised.value.message == f"base models of type {model_type!r} are not supported"
    assert raised.value.hint == "supported: gemma2, llama, mistral, qwen2, qwen3"


@pytest.mark.parametrize("module", ["lm_head", "", "mlp.down_proj"])
def test_unknown_module_is_refused(module: str) -> None:
    with pytest.raises(BaseModelError) as raised:
        FAMILIES["qwen3"].module_shape(tiny.make_causal("qwen3").config, module)
    assert raised.value.message == f"the qwen3 family has no module {module!r}"
    assert raised.value.hint == (
        "known modules: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    )


# ---- templates ----------------------------------------------------------------------------------


def test_affixes_of_public_models_are_those_of_the_original() -> None:
    """Recorded from the original's table, which lists them by the name of the model."""
    listed = {name: dict(family.affixes) for name, family in FAMILIES.items() if family.affixes}
    assert listed == {
        "gemma2": {"google/gemma-2-2b-it": ((2, 106, 1645, 110), (107, 108, 106, 2516, 108))},
        "mistral": {
            "mistralai/Mistral-7B-Instruct-v0.2": (
                (1, 733, 16289, 28793, 28705, 13, 13),
                (733, 28748, 16289, 28793),
            )
        },
        "qwen3": {
            "Qwen/Qwen3-4B-Instruct-2507": (
                (151644, 8948, 198, 151645, 198, 151644, 872, 198),
                (151645, 198, 151644, 77091, 198),
            )
        },
    }


def test_templates_are_the_public_ones() -> None:
    """Rendered by the public chat templates around a document that reads DOCUMENT."""
    rendered = {
        name: f"{family.document_template.before}DOCUMENT{family.document_template.after}"
        for name, family in FAMILIES.items()
        if family.document_template is not None
    }
    assert rendered == {
        "gemma2": "<bos><start_of_turn>user\n\n\nDOCUMENT<end_of_turn>\n<start_of_turn>model\n",
        "mistral": "<s> [INST] \n\nDOCUMENT [/INST] ",
        "qwen3": (
            "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nDOCUMENT<|im_end|>\n"
            "<|im_start|>assistant\n"
        ),
    }
