from functools import partial

import pytest
import torch

from d2l.errors import CheckpointError
from d2l.hypernets.doc_to_lora import released
from d2l.hypernets.doc_to_lora.released import read_chunk_tokens, read_released
from d2l.hypernets.networks import load_hypernet
from tests.hypernets.networks import make_config, make_tensors, write_released
from tests.hypernets.programs import refuse_path

UNUSABLE = "the original code cannot run it either, or never released one like it"
LAYERS = "layer_indices are not 0 to 2, every layer of the base"
READS = "layer_to_layer_ctx_encoder is False, expected True"
INDICES = "layer_indices is not a short list of whole numbers"
ENCODERS = "encoder_type is not one of per_layer_activations, early_exit, embed_only"
SIZES = "feature_sizes are not sizes of the target modules"
BASE = "base_model_name_or_path is 3, expected str"
OTHER = "expected a Doc-to-LoRA checkpoint, not other weights"
MISFIT = "are the weights and the configuration of the same checkpoint?"


def write(tmp_path, config=None, tensors=None, **changes):
    path = tmp_path / "pytorch_model.bin"
    config = config or make_config()
    write_released(path, config, make_tensors(config) if tensors is None else tensors, **changes)
    return path


refusal = partial(refuse_path, read_released)


# ---- where the file is --------------------------------------------------------------------------


def test_finds_the_file_itself_its_folder_and_a_run_folder(tmp_path):
    file = tmp_path / "run" / "checkpoint-7" / "pytorch_model.bin"
    write_released(file, make_config(), make_tensors(make_config()))
    for path in (file, file.parent, tmp_path / "run"):
        assert released.matches(path)
        assert released.find_file(path) == file
    assert not released.matches(tmp_path)


def test_newest_of_several_checkpoints_is_read_and_named(tmp_path):
    for step in (900, 20000, 1000):
        file = tmp_path / f"checkpoint-{step}" / "pytorch_model.bin"
        file.parent.mkdir()
        file.touch()
    (tmp_path / "checkpoint-last").mkdir()
    assert released.find_file(tmp_path).parent.name == "checkpoint-20000"
    warning = f"{tmp_path} holds 3 checkpoints; reading checkpoint-20000"
    assert released.list_warnings(tmp_path) == [warning]
    for path in (tmp_path / "checkpoint-900", tmp_path / "checkpoint-900" / "pytorch_model.bin"):
        assert released.list_warnings(path) == []


# ---- the configuration --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"target_modules": ("down_proj", "q_proj", "v_proj")},
        {"encoder_type": "early_exit", "encoder_layer": 2},
        {"encoder_type": "embed_only", "use_bias": False},
        {"per_layer_pre_head": False, "n_pre_head_blocks": 2},
        {"n_blocks": 3, "n_self_attention": 1, "shared_weights": True},
        {"encoder": "other/model", "encoder_quantized": True},
    ],
)
def test_configuration_is_translated(tmp_path, changes):
    config = make_config(**changes)
    assert read_released(write(tmp_path, config)).config == config


def test_fields_that_older_files_lack_have_the_originals_defaults(tmp_path):
    config = make_config(n_pre_head_blocks=4)
    absent = dict.fromkeys(["num_pre_head_layers", "use_bias", "use_per_rank_bias"], ...)
    assert read_released(write(tmp_path, config, **absent)).config == config
    absent = dict.fromkeys(["num_pre_head_layers", "use_bias", "use_per_rank_bias"])
    assert read_released(write(tmp_path, config, **absent)).config == config


def test_encoder_that_is_the_base_is_no_other_encoder(tmp_path):
    config = make_config()
    path = write(tmp_path, config, ctx_encoder_model_name_or_path=config.base)
    assert read_released(path).config.encoder is None


def test_compiled_prefix_is_dropped(tmp_path):
    tensors = {f"_orig_mod.{n}": t for n, t in make_tensors(make_config()).items()}
    records = read_released(write(tmp_path, tensors=tensors)).records
    assert set(records) == set(make_tensors(make_config()))


def test_stored_half_precision_is_run_in_float32(tmp_path):
    tensors = {n: t.bfloat16() for n, t in make_tensors(make_config()).items()}
    path = write(tmp_path, tensors=tensors)
    assert read_released(path).read_tensors()["head.weight"].dtype == torch.bfloat16
    network = load_hypernet(path, device="cpu")
    assert {p.dtype for p in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_rank_gen": False}, "per_rank_gen is False, expected True"),
        ({"extra_modules": ["norm"]}, "extra_modules is set, expected none"),
        ({"use_token_mixing": True}, "use_token_mixing is True, expected False"),
        ({"use_light_weight_lora": True}, "use_light_weight_lora is True, expected False"),
        ({"use_per_rank_bias": True}, "use_per_rank_bias is True, expected False"),
        ({"aggregator_type": "pooler"}, 'aggregator_type is "pooler", expected "perceiver"'),
        ({"num_extra_modules": 1}, "num_extra_modules is 1, expected 0"),
        ({"layer_indices": torch.tensor([0, 2, 1])}, LAYERS),
        ({"layer_indices": torch.arange(2)}, LAYERS),
        ({"lora_r": 4}, "aggregator's lora_r is 4, expected 2"),
        ({"num_modules": 2}, "aggregator's num_modules is 2, expected 1"),
        ({"output_size": 7}, "aggregator's output_size is 7, expected 6"),
        ({"layer_to_layer_ctx_encoder": False}, READS),
        ({"ctx_encoder_last_layer": 9}, "ctx_encoder_last_layer is 9, expected 3"),
    ],
)
def test_configurations_that_the_original_cannot_run_are_refused(tmp_path, changes, message):
    assert refusal(write(tmp_path, **changes)) == (message, UNUSABLE)


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"layer_indices": None}, INDICES, None),
        ({"layer_indices": torch.zeros(600, dtype=torch.int64)}, INDICES, None),
        ({"ctx_encoder_type": "pooled"}, ENCODERS, None),
        ({"latent_size": "6"}, 'latent_size is "6", expected int', None),
        ({"latent_size": ...}, "latent_size is missing, expected int", None),
        ({"num_blocks": 10**12}, "n_blocks is out of range, expected 1 to 128", None),
        ({"lora_alpha": True}, "lora_alpha is True, expected float", None),
        ({"target_modules": "down_proj"}, "target_modules is not a set of names", None),
        ({"target_modules": {"up_proj"}}, SIZES, None),
        ({"feature_sizes": ({}, {})}, SIZES, None),
        ({"entries": {"hypernet_config": None}}, "has no hypernet_config", OTHER),
        ({"entries": {"optimizer": {}}}, 'unknown entry "optimizer"', "name the pytorch_model.bin"),
        ({"entries": {"state": {}}}, 'unknown entry "state"', "name the pytorch_model.bin"),
        ({"entries": {"base_model_name_or_path": 3}}, BASE, None),
    ],
)
def test_unusable_configurations_are_refused(tmp_path, changes, message, hint):
    assert refusal(write(tmp_path, **changes)) == (message, hint)


# ---- the tensors --------------------------------------------------------------------------------


def test_missing_unexpected_and_misshapen_tensors_are_reported(tmp_path):
    tensors = make_tensors(make_config())
    tensors["extra"] = tensors.pop("bias_A.down_proj")
    tensors["head.weight"] = tensors["head.weight"][:, :, :5]
    message = (
        "tensors do not fit the configuration: missing bias_A.down_proj; unexpected extra; "
        "shape head.weight is (3, 6, 5), expected (3, 6, 20)"
    )
    assert refusal(write(tmp_path, tensors=tensors)) == (message, MISFIT)


def test_two_tensors_of_one_name_and_integers_are_refused(tmp_path):
    tensors = make_tensors(make_config())
    path = write(tmp_path, tensors={**tensors, "_orig_mod.head.weight": torch.ones(1)})
    assert refusal(path) == ('has two tensors of the name "head.weight"', None)
    whole = tensors["head.weight"].long()
    path = write(tmp_path, tensors={**tensors, "head.weight": whole})
    with pytest.raises(CheckpointError) as raised:
        load_hypernet(path, device="cpu")
    assert raised.value.message == f"{path}: head.weight is torch.int64, expected a float type"


# ---- args.yaml ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("lr: 1\nmax_ctx_chunk_len: 512\n", 512),
        ("max_ctx_chunk_len: -1\n", None),
        ("max_ctx_chunk_len: 0\n", None),
        ("max_ctx_chunk_len: null\n", None),
        ("max_ctx_chunk_len: [1]\n", None),
        ("other: 1\n", None),
        ("", None),
        ("max_ctx_chunk_len: {\n", None),
        ("max_ctx_chunk_len: 512\r\nx: 1\r\n", 512),
        ("max_ctx_chunk_len: 512", 512),
        ("\x00", None),
        (
            "eval_strategy: !!python/object/apply:transformers.trainer_utils.IntervalStrategy\n"
            "- steps\nmax_ctx_chunk_len: 256\n",
            256,
        ),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\nmax_ctx_chunk_len: 64\n", 64),
        ("a: " + "[" * 1_000_000, None),
        ("text: |\n  max_ctx_chunk_len: 7\nmax_ctx_chunk_len: 8\n", 8),
        ("xmax_ctx_chunk_len: 7\n", None),
        ("max_ctx_chunk_len: 99999999999\n", None),
    ],
)
def test_chunk_limit_comes_from_the_arguments_beside_or_above(tmp_path, text, limit):
    (tmp_path / "args.yaml").write_text(text)
    assert read_chunk_tokens(tmp_path / "pytorch_model.bin") == limit
    assert read_chunk_tokens(tmp_path / "checkpoint-3" / "pytorch_model.bin") == limit
    assert read_chunk_tokens(tmp_path / "elsewhere" / "pytorch_model.bin") is None


def test_arguments_are_found_from_a_relative_path(tmp_path, monkeypatch):
    (tmp_path / "args.yaml").write_text("max_ctx_chunk_len: 512\n")
    path = write(tmp_path / "checkpoint-3")
    monkeypatch.chdir(path.parent)
    assert read_released(released.Path("pytorch_model.bin")).config.chunk_tokens == 512


def test_hostile_arguments_run_nothing(tmp_path):
    marker = tmp_path / "ran"
    (tmp_path / "args.yaml").write_text(
        f"a: !!python/object/apply:os.system ['touch {marker}']\n"
        f"b: !!python/object/new:type {{args: [x, [], {{}}]}}\n"
        f"c: !!python/name:os.system\nmax_ctx_chunk_len: 512\n"
    )
    assert read_released(write(tmp_path)).config.chunk_tokens == 512
    assert not marker.exists()


def test_huge_arguments_are_not_read(tmp_path):
    (tmp_path / "args.yaml").write_text("max_ctx_chunk_len: 512\n" + "#" * (1 << 20))
    assert read_chunk_tokens(tmp_path / "pytorch_model.bin") is None
