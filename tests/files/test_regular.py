"""Pipes, devices and folders in the place of a model's files are refused before they are opened."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from d2l.bases.locate import locate_base
from d2l.bases.models import BaseFiles
from d2l.compiler.seats import _tokenizer_files
from d2l.errors import BaseModelError, CheckpointError, D2LError
from d2l.files.regular import refuse_irregular
from d2l.hypernets.registry import find_checkpoint
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
    ],
)
def test_what_is_no_file_is_named_before_it_is_opened(
    kind: str, find: Callable[[Path], object], error: type[D2LError], file: str, tmp_path: Path
) -> None:
    if file != "config.json":
        (tmp_path / "config.json").write_text("{}")
        find(tmp_path)
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
        _tokenizer_files(BaseFiles("base", base))
