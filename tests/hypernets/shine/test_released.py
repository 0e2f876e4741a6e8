"""Files of a released SHINE checkpoint: read, refused, converted, and asked of the hub."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from d2l.compiler import preflight
from d2l.errors import CheckpointError
from d2l.hypernets.networks import find_format, load_hypernet, read_config
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.registry import ALIASES, Alias
from d2l.hypernets.shine.network import ShineConfig
from tests import tiny
from tests.command import Command
from tests.files.hub_server import REPO, serve_hub
from tests.hypernets import shine_reference as reference
from tests.hypernets.networks import write_native
from tests.refusals import refuse

BASE = tiny.base_name("qwen3")
FILES = ("metanetwork.pth", "metalora.pth", "mem_tokens.pt")
refusal = partial(refuse, CheckpointError, read_config)


@pytest.fixture
def objects():
    """The objects of the three files."""
    return reference.make_checkpoint(tiny.make_causal("qwen3"))


@pytest.fixture
def folder(tmp_path, objects):
    return reference.write_checkpoint(tmp_path / "network", objects, BASE)


def test_sizes_come_from_the_tensors_and_the_rest_is_the_releases(folder):
    config = read_config(folder)
    assert config == ShineConfig(
        base=BASE,
        n_layers=3,
        hidden=32,
        d_in=(32, 32, 32, 32, 32, 32, 64),
        d_out=(32, 16, 16, 32, 64, 64, 32),
        n_memory=32,
        meta_rank=3,
        n_mixers=2,
        n_heads=4,
        feed_forward=24,
        scale=0.001,
    )
    assert config.rank == 2
    assert config.target_modules == tuple(sorted(config.module_shapes))
    (folder / "shine.json").unlink()
    released = read_config(folder)
    assert (released.base, released.n_heads, released.scale) == ("Qwen/Qwen3-8B", 32, 0.001)


def test_a_folder_is_a_checkpoint_and_one_of_its_files_is_none(folder):
    assert find_format(folder)[1].name == "released_shine"
    assert "has no hypernet_config" in refusal(folder / "metanetwork.pth")[0]


def test_memory_tokens_and_meta_lora_are_taken_over(folder, objects):
    network = load_hypernet(folder, device="cpu")
    assert torch.equal(network.mem_tokens, objects[2])
    for layer, pairs in objects[1].items():
        for name, pair in (pairs["attention"] | pairs["mlp"]).items():
            for side in "AB":
                assert torch.equal(network.metalora[layer][f"{name}_proj"][side], pair[side])
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_native_checkpoint_is_the_same_network(folder, tmp_path):
    native = write_native(folder, tmp_path / "native")
    assert read_config(native) == read_config(folder)
    old, new = (load_hypernet(path, device="cpu").state_dict() for path in (folder, native))
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, _: n.pop("token_pe"), "its tensors are not those of a SHINE network"),
        (lambda n, _: n.update({"couple_layers.0.weight": torch.ones(2)}), "unexpected couple_la"),
        (lambda n, _: n.pop("transformer_layers.1.linear1.bias"), "missing transformer_layers.1"),
        (lambda n, _: n.update(layer_pe=torch.ones(3, 30)), "n_heads does not divide hidden"),
        (lambda n, _: n.update(token_pe=torch.ones(31, 32)), "no whole number of ranks"),
        (lambda _, p: p.pop(2), "missing metalora.2."),
        (lambda _, p: p.update({3: p[2]}), "unexpected metalora.3."),
        (lambda _, p: p[1]["mlp"]["up"].update(C=torch.ones(2)), "unexpected metalora.1.up_proj.C"),
        (lambda _, p: p[1]["attention"]["q"].update(A=torch.ones(1, 3, 32)), "shape metalora.1.q"),
    ],
)
def test_other_tensors_are_refused_before_they_are_read(tmp_path, objects, change, message):
    change(*objects[:2])
    folder = reference.write_checkpoint(tmp_path / "network", objects, BASE)
    assert message in refusal(folder)[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "lr"}, 'shine.json: expected method "rl", layers first'),
        ({"layer_first": False}, 'shine.json: expected method "rl", layers first'),
        ({"m2p_heads": 3}, "n_heads does not divide hidden"),
        ({"m2p_heads": 0}, "n_heads is out of range"),
        ({"scale": 0.0}, "scale is not a positive number"),
        ({"heads": 4}, 'unknown field "heads" of shine.json'),
    ],
)
def test_other_settings_are_refused(tmp_path, objects, settings, message):
    folder = reference.write_checkpoint(tmp_path / "network", objects, BASE, **settings)
    assert message in refusal(folder)[0]


def test_a_file_that_is_missing_or_hostile_is_named(folder):
    (folder / "mem_tokens.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert refusal(folder)[0].startswith(f"{folder / 'mem_tokens.pt'}: is a Git LFS pointer")
    (folder / "metalora.pth").unlink()
    assert refusal(folder)[0].startswith(f"{folder / 'metalora.pth'}: cannot be read")


# ---- the hub ------------------------------------------------------------------------------------


def test_a_plan_of_an_alias_reads_the_outlines_of_all_three_files(
    folder: Path, working_folder: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    tiny.write_base(working_folder / BASE, "qwen3")
    Path("note.txt").write_text(tiny.DOCUMENT)
    stored = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setitem(ALIASES, "tiny", Alias("tiny", "shine", BASE, "none", 1, REPO))
    words = ("compile", "note.txt", "-o", "note.lora", "--checkpoint", "tiny", "--device", "cpu")
    with serve_hub(stored, working_folder / "hub", monkeypatch) as hub:
        planned = command(*words, "--dry-run", "--json")
        assert planned.code == 0, planned.err
        assert hub.asked == {"shine.json"}
        done = command(*words, "--json")
        assert done.code == 0, done.err
        assert hub.asked == {"shine.json", *FILES}
        plan, made = (json.loads(told.out) for told in (planned, done))
        assert (made["rank"], made["adapter_bytes"]) == (plan["rank"], plan["adapter_bytes"])


def test_preflight_counts_all_three_files(
    folder: Path, working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write_base(working_folder / BASE, "qwen3")
    monkeypatch.setattr(preflight.devices, "is_cuda", lambda _: True)
    monkeypatch.setattr("torch.cuda.get_device_name", str)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (10**12, 10**12))
    found = preflight.list_needs(CompileOptions(str(folder), device="cpu", offline=True))
    assert found.network is not None
    ((length, needed),) = found.memory.items()
    assert length == 2380
    files = sum((folder / name).stat().st_size for name in FILES)
    assert needed == files + preflight.estimate_memory(found.network, length, "cpu")
