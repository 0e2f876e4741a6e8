import hashlib
import json
import os
import pickle
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from d2l.bases.activations import Activations
from d2l.errors import CheckpointError
from d2l.hypernets.formats.pickles import TensorRecord, read_object, read_tensors
from d2l.hypernets.networks import find_format, list_formats, load_hypernet, read_config
from tests.hypernets.loading import load_golden
from tests.hypernets.networks import (
    make_config,
    make_hidden,
    make_tensors,
    write_native,
    write_released,
    write_zip,
)
from tests.hypernets.programs import FOREIGN
from tests.refusals import refuse

MISFIT = "are the weights and the configuration of the same checkpoint?"


@pytest.fixture
def run(tmp_path):
    """A run folder with one released checkpoint and its arguments."""
    config = make_config()
    file = tmp_path / "run" / "checkpoint-5" / "pytorch_model.bin"
    write_released(file, config, make_tensors(config))
    (tmp_path / "run" / "args.yaml").write_text("max_ctx_chunk_len: 512\n")
    return tmp_path / "run"


@pytest.fixture
def native(run, tmp_path):
    """The same checkpoint in the native format."""
    return write_native(run, tmp_path / "native")


refusal = partial(refuse, CheckpointError)


# ---- formats ------------------------------------------------------------------------------------


def test_formats_are_found(run, native):
    assert find_format(run)[1].name == "released"
    assert find_format(run / "checkpoint-5")[1].name == "released"
    assert find_format(run / "checkpoint-5" / "pytorch_model.bin")[1].name == "released"
    assert find_format(native)[1].name == "doc_to_lora"


def test_other_paths_are_refused(tmp_path):
    missing = tmp_path / "missing"
    assert refusal(find_format, missing) == (f"{missing}: no such file or folder", None)
    message, hint = refusal(find_format, tmp_path)
    assert message == f"{tmp_path}: is not a hypernetwork checkpoint"
    assert hint.startswith("expected one of: ")
    assert all(entry.description in hint for _, entry in list_formats())
    (tmp_path / "config.json").write_text('{"model_type": "gemma2"}')  # a base model
    assert refusal(find_format, tmp_path)[0] == f"{tmp_path}: is not a hypernetwork checkpoint"
    (tmp_path / "notes.txt").touch()
    message, _ = refusal(find_format, tmp_path / "notes.txt")
    assert message == f"{tmp_path / 'notes.txt'}: is not a hypernetwork checkpoint"


# ---- released and native -------------------------------------------------------------------------


def test_a_native_checkpoint_is_the_same_network(run, native):
    assert read_config(native) == read_config(run)
    activations = Activations(make_hidden(make_config()))
    old = load_hypernet(run, device="cpu").generate(activations, 2)
    new = load_hypernet(native, device="cpu").generate(activations, 2)
    for name in old.factors:
        assert torch.equal(old.factors[name].a, new.factors[name].a)
        assert torch.equal(old.factors[name].b, new.factors[name].b)


def test_every_bit_of_the_originals_file_is_read(tmp_path):
    source = load_golden("variant_multi_module").folder
    target = write_native(source, tmp_path / "native")
    file = source / "checkpoint-500" / "pytorch_model.bin"
    records = {n: v for n, v in read_object(file).items() if isinstance(v, TensorRecord)}
    wanted = {n.removeprefix("_orig_mod."): t for n, t in read_tensors(file, records).items()}
    got = load_file(target / "model.safetensors")
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor)
    config = json.loads((target / "config.json").read_text())
    assert {k: config[k] for k in ("format", "version", "kind", "base")} == {
        "format": "d2l",
        "version": 1,
        "kind": "doc_to_lora",
        "base": "tiny-org/mistral-tiny",
    }
    assert sorted(p.name for p in target.iterdir()) == ["config.json", "model.safetensors"]


def test_digest_is_that_of_the_weights_file(run, native):
    for path, file in (
        (run, run / "checkpoint-5" / "pytorch_model.bin"),
        (native, native / "model.safetensors"),
    ):
        assert find_format(path)[1].digest(path) == hashlib.sha256(file.read_bytes()).hexdigest()


# ---- damaged, renamed, mismatched, oversize and hostile checkpoints ------------------------------


def test_hostile_released_checkpoint_is_refused_by_name(tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    path = tmp_path / "pytorch_model.bin"
    write_zip(path, pickle.dumps({"head.weight": Evil()}, protocol=2))
    for read in (read_config, lambda p: load_hypernet(p, device="cpu")):
        assert refusal(read, tmp_path) == (f"{path}: refuses to run `posix.system`", FOREIGN)
    assert not marker.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(run, tmp_path, value):
    config = make_config()
    tensors = make_tensors(config)
    tensors["head.weight"].view(-1)[-1] = value
    write_released(run / "checkpoint-5" / "pytorch_model.bin", config, tensors)
    for folder in (run, write_native(run, tmp_path / "native")):
        message = refusal(load_hypernet, folder, device="cpu")[0]
        assert message.startswith(str(folder))
        assert message.endswith(": NaN or infinite values in head.weight")
