"""What PEFT is told of an adapter's config, and what is refused before it acts on it."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from d2l.adapters.info import PROVENANCE
from d2l.errors import AdapterError
from tests import tiny
from tests.compiled import PEFT_DEPRECATION, Compile, Compiled
from tests.loaded import QUESTION, change_json, copy_adapter, load, refuse

pytestmark = pytest.mark.usefixtures("one_thread")

FIRST = "model.layers.0.mlp.down_proj"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def done(compiled: Compile) -> Compiled:
    return compiled("llama")


@pytest.fixture
def adapter(done: Compiled, tmp_path: Path) -> Path:
    return copy_adapter(done, tmp_path)


@pytest.fixture
def without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT must not be reached: it would reserve memory, or compute, before it looks."""

    def fail(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("PEFT was reached")

    monkeypatch.setattr(peft, "PeftModelForCausalLM", fail)
    monkeypatch.setattr(peft.PeftModel, "from_pretrained", fail)


def change_tensors(
    adapter: Path, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]
) -> None:
    path = adapter / WEIGHTS
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    save_file(dict(change(tensors)), path, {"format": "pt"})
    if (adapter / PROVENANCE).is_file():
        change_json(adapter / PROVENANCE, weights_sha256=None)  # as of versions without digests


@pytest.mark.usefixtures("without_peft")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 200_000}, f"{CONFIG}: {FIRST} has rank 200000 there, and 6 in {WEIGHTS}"),
        ({"rank_pattern": {"down_proj": 200_000}}, f"{CONFIG}: {FIRST} has rank 200000 there, "),
        ({"rank_pattern": {"down_proj": "x"}}, f"{CONFIG}: {FIRST} has rank 'x' there, and 6 in"),
        ({"peft_type": "NEWER"}, f"{CONFIG}: peft_type is 'NEWER': this is no LoRA adapter"),
        ({"lora_alpha": "x"}, f"{CONFIG}: lora_alpha is 'x', expected a number"),
        ({"target_modules": None}, f"{CONFIG}: target_modules is None, expected names of modules"),
        ({"target_modules": [["a"]]}, "target_modules is [['a']], expected names of modules"),
        ({"target_modules": ["nothing"]}, f"{FIRST}, which {CONFIG} does not speak of"),
        (
            {"target_modules": ["down_proj", "up_proj"]},
            f"{CONFIG} speaks of model.layers.0.mlp.up_proj, and {WEIGHTS} has nothing for it",
        ),
        ({"modules_to_save": [""]}, "modules_to_save is [''], expected names of modules"),
        ({"modules_to_save": ["lm_head"]}, f"lm_head, and {WEIGHTS} has no lm_head.weight"),
        ({"trainable_token_indices": [1, 2]}, "are no lists of at most 0 tokens"),
    ],
)
def test_a_config_that_its_file_does_not_bear_out_is_refused(
    changes: dict[str, Any], message: str, done: Compiled, adapter: Path
) -> None:
    change_json(adapter / CONFIG, **changes)
    error = refuse(lambda: load(done, adapter))
    assert isinstance(error, AdapterError)
    assert message in error.message
    assert "\n" not in f"{error.message}{error.hint}"


@pytest.mark.usefixtures("without_peft")
@pytest.mark.parametrize(
    "changes",
    [
        {"init_lora_weights": "pissa_niter_99999999"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}},
        {"init_lora_weights": ["x"]},
        {"layer_replication": [[0, 1]] * 1000},
        {"target_parameters": ["a"]},
        {"kasa_config": {}, "use_bdlora": {"nblocks": 2}},
    ],
)
def test_what_would_change_the_base_first_is_refused(
    changes: dict[str, Any], done: Compiled, adapter: Path
) -> None:
    change_json(adapter / CONFIG, **changes)
    error = refuse(lambda: load(done, adapter))
    assert "which cannot be asked" in error.message


def test_an_adapters_own_files_are_compared_before_a_base_is_looked_for(
    done: Compiled, adapter: Path, tmp_path: Path
) -> None:
    change_json(adapter / CONFIG, r=200_000)
    error = refuse(lambda: load(done, adapter, base=str(tmp_path / "nowhere")))
    assert "has rank 200000 there" in error.message


@pytest.mark.parametrize(
    "changes",
    [
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "eva", "eva_config": {"rho": 3.0}},
        {"init_lora_weights": "orthogonal", "corda_config": {"verbose": True}},
        {"megatron_core": "antigravity", "megatron_config": {"a": 1}, "task_type": "SEQ_CLS"},
        {"runtime_config": {"ephemeral_gpu_offload": True}, "of_a_newer_peft": {"a": 1}},
    ],
)
def test_what_only_training_heeds_changes_no_answer_and_warns_of_nothing(
    changes: dict[str, Any], done: Compiled, adapter: Path
) -> None:
    change_json(adapter / CONFIG, **changes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(done, adapter).ask(QUESTION) == load(done).ask(QUESTION)


def _none(_: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"x": torch.zeros(1)}


def _shorter(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t for name, t in tensors.items() if ".2." not in name}


def _norm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors | {"base_model.model.model.norm.weight": torch.zeros(32)}


def _whole_numbers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.to(torch.int8) for name, t in tensors.items()}


def _not_a_number(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    tensors[min(tensors)][0, 0] = torch.nan
    return tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_none, f"{WEIGHTS}: no LoRA tensors"),
        (_shorter, f"speaks of model.layers.2.mlp.down_proj, and {WEIGHTS} has nothing for it"),
        (_norm, "base_model.model.model.norm.weight is no LoRA tensor, and"),
        (_whole_numbers, f"{WEIGHTS}: {FIRST} is stored as I8"),
        (_not_a_number, f"{WEIGHTS}: has values that are not finite, for example in "),
    ],
)
def test_a_file_that_is_not_whole_does_not_let_the_base_answer_for_it(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    message: str,
    done: Compiled,
    adapter: Path,
) -> None:
    change_tensors(adapter, change)
    asker = load(done)
    before = asker.ask(QUESTION)
    for put in (lambda: load(done, adapter), lambda: asker.set_adapter(adapter)):
        error = refuse(put)
        assert isinstance(error, AdapterError)
        assert message in error.message
    assert asker.ask(QUESTION) == before
    assert len(asker.model.peft_config) == 1


@pytest.mark.filterwarnings(PEFT_DEPRECATION)
@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True, "target_modules": "all-linear"},
        {"modules_to_save": ["lm_head"], "rank_pattern": {"q_proj": 2}},
        {"trainable_token_indices": [3, 5]},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": r".*\.(q|v)_proj", "exclude_modules": r".*\.1\..*"},
        {"target_modules": ["q_proj"], "layers_to_transform": [0, 2], "use_rslora": True},
    ],
)
def test_whatever_peft_writes_whole_is_loaded_as_peft_loads_it(
    options: dict[str, Any], done: Compiled, tmp_path: Path
) -> None:
    given = {"r": 4, "target_modules": ["q_proj", "up_proj"], "task_type": "CAUSAL_LM"} | options
    model = peft.get_peft_model(tiny.make_causal("llama"), peft.LoraConfig(**given))
    generator = torch.Generator().manual_seed(6)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "magnitude" not in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it writes the embedding, too
        model.save_pretrained(tmp_path / "foreign")
    ids = torch.tensor([[1, 3, 5, 7, 9]])
    with torch.inference_mode():
        expected = model.eval()(ids).logits
        found = load(done, tmp_path / "foreign").model(ids).logits
    assert torch.allclose(found, expected, atol=1e-5)
