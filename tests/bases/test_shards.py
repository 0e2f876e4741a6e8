"""A base's shards, rewritten one by one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2l.bases.models import BaseFiles
from d2l.bases.shards import list_shards, list_tensors, rewrite
from d2l.errors import BaseModelError
from tests import tiny


def write_shards(folder: Path, n_shards: int) -> None:
    """Cut the weights into shards, as transformers writes large ones."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, weight_map = sorted(tensors), {}
    for index in range(n_shards):
        shard = f"model-0000{index + 1}-of-0000{n_shards}.safetensors"
        part = {name: tensors[name] for name in names[index::n_shards]}
        save_file(part, folder / shard, {"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    index_file = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index_file))


def write_sharded(folder: Path) -> BaseFiles:
    """A tiny base in three shards."""
    write_shards(tiny.write_base(folder, "llama"), 3)
    return BaseFiles("tiny", folder)


def double(name: str, tensor: torch.Tensor) -> torch.Tensor:
    return tensor * 2 if "q_proj" in name else tensor


def test_every_shard_keeps_its_name_and_what_is_not_changed(tmp_path: Path) -> None:
    base = write_sharded(tmp_path / "base")
    (tmp_path / "out").mkdir()
    rewrite(base, tmp_path / "out", double)
    shards = list_shards(base)
    assert len(shards) == 3
    for shard in shards:
        before, after = load_file(shard), load_file(tmp_path / "out" / shard.name)
        assert before.keys() == after.keys()
        for name, tensor in before.items():
            assert torch.equal(after[name], double(name, tensor))
    for name in ("tokenizer.json", "model.safetensors.index.json"):
        assert (tmp_path / "out" / name).read_bytes() == (base.folder / name).read_bytes()
    before, after = (
        json.loads((f / "config.json").read_text()) for f in (base.folder, tmp_path / "out")
    )
    # Beside what transformers 5 writes, the keys that other readers want.
    added = {"rope_theta": before["rope_parameters"]["rope_theta"]}
    assert after == before | added | {"architectures": ["LlamaForCausalLM"]}


def test_one_shard_is_held_at_a_time(tmp_path: Path) -> None:
    base = write_sharded(tmp_path / "base")
    (tmp_path / "out").mkdir()
    alive: list[set[str]] = []
    seen: set[str] = set()

    def watch(name: str, tensor: torch.Tensor) -> torch.Tensor:
        written = {path.name for path in (tmp_path / "out").glob("*.safetensors")}
        seen.add(name)
        alive.append(written)
        return tensor

    rewrite(base, tmp_path / "out", watch)
    # The first tensors of the second and third shard are read when those before are written.
    assert [len(written) for written in alive] == sorted(len(written) for written in alive)
    assert {len(written) for written in alive} == {0, 1, 2}
    assert seen == list_tensors(base).keys()


def test_shapes_are_read_from_the_headers(tmp_path: Path) -> None:
    base = write_sharded(tmp_path / "base")
    state = tiny.make_causal("llama").state_dict()
    assert list_tensors(base) == {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize(
    "change",
    [lambda _, tensor: tensor.half(), lambda _, tensor: tensor.flatten()],
    ids=["dtype", "shape"],
)
def test_dtypes_and_shapes_stay(change: Any, tmp_path: Path) -> None:
    base = write_sharded(tmp_path / "base")
    (tmp_path / "out").mkdir()
    with pytest.raises(BaseModelError, match="dtype or shape was changed"):
        rewrite(base, tmp_path / "out", change)


def test_damaged_bases_are_named(tmp_path: Path) -> None:
    base = write_sharded(tmp_path / "base")
    (tmp_path / "out").mkdir()
    first, *_ = list_shards(base)
    first.rename(first.with_name("aside"))
    with pytest.raises(BaseModelError, match="names model-00001-of-00003"):
        rewrite(base, tmp_path / "out", double)
    first.write_bytes(b"not safetensors")
    with pytest.raises(BaseModelError, match="not a safetensors file"):
        list_tensors(base)
    for path in base.folder.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(BaseModelError, match="no safetensors weights"):
        list_shards(base)
