"""Pipes, devices and folders in place of a model's or adapter's files are refused, unopened."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from d2l.adapters.info import read_info
from d2l.bases.catalog import locate_base
from d2l.bases.models import BaseFiles
from d2l.errors import AdapterError, BaseModelError, CheckpointError, D2LError
from d2l.files.regular import refuse_irregular
from d2l.hypernets.networks import find_checkpoint
from d2l.hypernets.seats.seated import copy_tokenizer
from tests import tiny

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes have no names")

KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "link to itself": lambda path: path.symlink_to(path),
    "link to nothing": lambda path: path.symlink_to("/nonexistent/x"),
}


def find_network(folder: Path) -> object:
    return find_checkpoint(str(folder))


def find_adapter(folder: Path) -> object:
    (folder / "adapter_config.json").write_text('{"r": 2}')
    tensors = {"x.lora_A.weight": torch.ones(2, 5), "x.lora_B.weight": torch.ones(3, 2)}
    save_file(tensors, folder / "adapter_model.safetensors")
    return read_info(folder)


def find_base(folder: Path) -> object:
    return locate_base("base", override=str(folder), offline=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("find", "error", "file"),
    [
        (find_network, CheckpointError, "config.json"),
        (find_network, CheckpointError, "model.safetensors"),
        (find_base, BaseModelError, "tokenizer.json"),
        (find_base, BaseModelError, "model.safetensors"),
        (find_base, BaseModelError, "merges.txt"),
        (find_adapter, AdapterError, "tokenizer.json"),
        (find_adapter, AdapterError, "chat_template.jinja"),
        (find_adapter, AdapterError, "d2l.json"),
        (find_adapter, AdapterError, "additional_chat_templates/tool.jinja"),
    ],
)
def test_what_is_no_file_is_named_before_it_is_opened(
    kind: str, find: Callable[[Path], object], error: type[D2LError], file: str, tmp_path: Path
) -> None:
    if file != "config.json":
        (tmp_path / "config.json").write_text("{}")
        find(tmp_path)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    KINDS[kind](tmp_path / file)
    with pytest.raises(error) as caught:
        find(tmp_path)
    assert caught.value.message == f"{tmp_path / file}: is no regular file"


def test_a_place_that_is_no_file_itself_is_refused_and_what_is_beside_is_not(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "notes")
    (tmp_path / "original").mkdir()
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "config.json").symlink_to(tmp_path / "real.json")
    refuse_irregular(tmp_path, D2LError)
    with pytest.raises(BaseModelError, match="notes: is no regular file"):
        find_base(tmp_path / "notes")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_bases_odd_tokenizer_config_is_one_line(text: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny.write_base(base, "llama")
    (base / "tokenizer_config.json").write_text(text)
    with pytest.raises(BaseModelError, match=r"tokenizer_config\.json: cannot be read"):
        copy_tokenizer(BaseFiles("base", base))
