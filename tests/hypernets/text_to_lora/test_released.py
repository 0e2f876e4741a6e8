"""Released Text-to-LoRA folders: found, translated, refused where they are not as expected."""

import pickle
import zipfile

import pytest
import torch

from d2l.errors import CheckpointError
from d2l.hypernets.networks import find_format, load_hypernet, open_network, read_config
from d2l.hypernets.text_to_lora import released as released_text
from d2l.hypernets.text_to_lora.released import read_arguments, read_released
from tests.hypernets import networks
from tests.hypernets.networks import write_native
from tests.hypernets.text_networks import make_config, make_tensors, write_released

NO_WORDS = "it knows no descriptions"
CONFIGS = [
    {},
    {"head_bias": False, "shared_head": True},
    {"autoregressive": True},
    {"shared_head": True, "autoregressive": True},
    {"z_scores": True, "embedder": "tiny-org/gte-tiny"},
    {"adds_offset": False, "delta_scaling": 10000.0},
    {"rank_stabilized": False, "module_order": ("q_proj", "v_proj"), "d_out": (5, 3)},
]


def refusal(function, *arguments, **options):
    with pytest.raises(CheckpointError) as raised:
        function(*arguments, **options)
    assert "\n" not in raised.value.message
    return raised.value.message


@pytest.mark.parametrize("changes", CONFIGS)
def test_files_are_translated(tmp_path, changes) -> None:
    config = make_config(**changes)
    folder = write_released(tmp_path / "run", config)
    for path in (folder, folder / "hypermod.pt"):
        assert find_format(path)[1].name == "released_text"
        assert read_config(path) == config


@pytest.mark.parametrize("changes", CONFIGS)
def test_the_native_format_keeps_every_tensor_and_the_adapters(tmp_path, changes) -> None:
    config = make_config(**changes)
    folder = write_released(tmp_path / "run", config)
    native = write_native(folder, tmp_path / "native")
    assert find_format(native)[1].name == "text_to_lora"
    assert read_config(native) == config
    embedding = torch.ones(6)
    first, second = (load_hypernet(p, device="cpu").generate(embedding) for p in (folder, native))
    assert first.scale == second.scale
    for name, factors in first.factors.items():
        assert torch.equal(factors.a, second.factors[name].a)
        assert torch.equal(factors.b, second.factors[name].b)
    assert [len(find_format(path)[1].digest(path)) for path in (native, folder)] == [64, 64]
    again = write_native(folder, tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (again / name).read_bytes() == (native / name).read_bytes()


def test_a_base_that_is_named_as_a_folder_is_the_same_base(tmp_path) -> None:
    config = make_config()
    folder = write_released(tmp_path, config, model_dir=f"{config.base}/")
    assert read_released(folder).config.base == config.base


def test_a_network_of_descriptions_reads_no_documents(tmp_path) -> None:
    folder = write_released(tmp_path / "run", make_config())
    assert refusal(open_network(str(folder)).require, "documents") == (
        f"{folder}: is a text_to_lora network, which reads task descriptions and no documents"
    )
    file = tmp_path / "d2l" / "pytorch_model.bin"
    config = networks.make_config()
    networks.write_released(file, config, networks.make_tensors(config))
    wanted = f"{file}: is a doc_to_lora network, which reads documents and no descriptions"
    assert refusal(open_network(str(file)).require, "descriptions") == wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"training_task": "dpo"}, 'args.yaml: training_task is "dpo", expected "sft" or "recon"'),
        ({"training_task": ...}, 'args.yaml: training_task is missing, expected "sft" or "recon"'),
        ({"shared_AB_head": "may"}, 'args.yaml: shared_AB_head is "may", expected true or false'),
        ({"use_one_hot_task_emb": True}, f"args.yaml: use_one_hot_task_emb is true: {NO_WORDS}"),
        ({"autoreg_gen": True}, "args.yaml: autoreg_gen without learnable_pos_emb"),
        (
            {"training_task": "recon", "pred_z_score": True},
            "args.yaml: pred_z_score without factorized",
        ),
        (
            {"training_task": "recon", "delta_w_scaling": "wide"},
            'args.yaml: delta_w_scaling is "wide", expected a number',
        ),
        ({"emb_model": ...}, "args.yaml: emb_model is missing, expected the name of a model or ''"),
    ],
)
def test_arguments_that_no_network_had_are_refused(tmp_path, arguments, message) -> None:
    folder = write_released(tmp_path, make_config(), **arguments)
    assert refusal(read_released, folder) == f"{folder}/{message}"


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"r": 0}, "r is 0, expected a positive whole number"),
        ({"r": "8"}, 'r is "8", expected a positive whole number'),
        ({"lora_alpha": None}, "lora_alpha is missing, expected a number"),
        ({"use_dora": True}, "use_dora is set, expected plain LoRA"),
        (
            {"target_modules": ["q_proj"]},
            "target_modules are not the modules of the weights, v_proj, q_proj",
        ),
    ],
)
def test_adapter_configurations_are_checked(tmp_path, adapter, message) -> None:
    folder = write_released(tmp_path, make_config(), adapter=adapter)
    assert refusal(read_released, folder) == f"{folder}/adapter_config.json: {message}"


def test_rank_that_the_tensors_do_not_have_is_refused(tmp_path) -> None:
    folder = write_released(tmp_path, make_config(), adapter={"r": 3})
    message = refusal(read_released, folder)
    assert message.startswith(f"{folder}/hypermod.pt: tensors do not fit the configuration: shape")


@pytest.mark.parametrize("name", ["args.yaml", "adapter_config.json"])
def test_missing_files_are_named(tmp_path, name) -> None:
    folder = write_released(tmp_path, make_config())
    (folder / name).unlink()
    assert refusal(read_released, folder) == f"{folder}/{name}: no such file"


def test_damaged_and_foreign_weights_are_refused(tmp_path) -> None:
    folder = write_released(tmp_path, make_config())
    file = folder / "hypermod.pt"
    whole = file.read_bytes()
    tensors = make_tensors(make_config())
    file.write_bytes(whole[: len(whole) // 2])
    assert refusal(read_released, folder).startswith(f"{file}: ")
    write_released(folder, make_config(), {k: v for k, v in tensors.items() if "mlp2" not in k})
    assert "missing mlp2" in refusal(read_released, folder)
    write_released(folder, make_config(), tensors | {"surprise": torch.zeros(2)})
    assert "unexpected surprise" in refusal(read_released, folder)
    write_released(folder, make_config(), tensors | {"steps": torch.zeros(2).long()})
    assert refusal(read_released, folder).startswith(f'{file}: "steps" is torch.int64')


class Hostile:
    """Runs a command when a careless reader unpickles it."""

    def __reduce__(self):
        import os

        return os.system, ("touch owned",)


def test_hostile_pickle_runs_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_released(tmp_path / "run", make_config())
    with zipfile.ZipFile(folder / "hypermod.pt", "w") as archive:
        archive.writestr("hypermod/data.pkl", pickle.dumps({"heads": Hostile()}, protocol=2))
    assert "refuses to run" in refusal(read_released, folder)
    assert not (tmp_path / "owned").exists()


def test_arguments_are_one_line_values(tmp_path) -> None:
    path = tmp_path / "args.yaml"
    path.write_text(
        "a: 'it''s'\nb: \"two words\"\nc: 1.0e+04\nd: -3\ne: null\nf: True\ng:\n- x\n"
        "h: !!python/object/apply:os.system ['touch owned']\nnested:\n  a: 9\ni: org/model\n",
        "utf-8",
    )
    found = read_arguments(path)
    hostile = found.pop("h")
    values = ("it's", "two words", 1e4, -3, None, True, "org/model")
    assert found == dict(zip("abcdefi", values, strict=True))
    assert isinstance(hostile, str)
    path.write_bytes(b"x" * (released_text.MAX_ARGUMENTS_BYTES + 1))
    assert "is larger than" in refusal(read_arguments, path)


@pytest.mark.parametrize(
    "value",
    ["[" * 900_000, "&a [" + "*a," * 200_000, "9" * 900_000, '"' + "\\" * 9],
    ids=["deep", "aliases", "digits", "escapes"],
)
def test_bombs_of_arguments_stay_text(tmp_path, value):
    path = tmp_path / "args.yaml"
    path.write_text(f"a: {value}\nb: *a\nrank: 8\n")
    assert read_arguments(path) == {"a": value, "b": "*a", "rank": 8}
