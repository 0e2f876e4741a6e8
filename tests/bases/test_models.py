import hashlib
import shutil
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import constants

from d2l.bases.catalog import BY_NAME
from d2l.bases.models import BaseFiles, batched, find_base, same_model
from d2l.errors import BaseModelError
from tests.bases.known import in_package
from tests.refusals import refuse

NAME = "tiny-org/llama-tiny"
NOT_FOUND = "name a folder, a .gguf file or org/repo[@revision] on the hub"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
pytestmark = pytest.mark.usefixtures("alone")


refusal = partial(refuse, BaseModelError)


def fill_hub_cache(base: Path, repo: str) -> Path:
    """A model's folder as the hub's client library leaves it, by hand."""
    storage = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    snapshot = shutil.copytree(base, storage / "snapshots" / COMMIT)
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(COMMIT)
    return snapshot


# ---- where a base lies --------------------------------------------------------------------------


def test_folder_below_the_working_directory_comes_first(base: Path, alone: Path) -> None:
    snapshot = fill_hub_cache(base, NAME)
    assert find_base(NAME, offline=True) == BaseFiles(NAME, snapshot)
    shutil.copytree(base, alone / NAME)
    assert find_base(NAME, offline=True) == BaseFiles(NAME, Path(NAME))


def test_package_comes_before_the_hub_and_after_a_folder(
    base: Path, gguf_file: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = fill_hub_cache(base, NAME)
    package = tmp_path / "site" / "tiny_base_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(gguf_file, package / "tiny.gguf")
    monkeypatch.syspath_prepend(package.parent)
    digest = hashlib.sha256(gguf_file.read_bytes()).hexdigest()
    known = in_package(NAME, digest, package.name)
    monkeypatch.setitem(BY_NAME, NAME, known)
    assert find_base(NAME, offline=True).gguf == package / "tiny.gguf"
    assert find_base(NAME, override=NAME, offline=True).folder == snapshot  # asked for by name
    shutil.copytree(base, alone / NAME)
    assert find_base(NAME, offline=True) == BaseFiles(NAME, Path(NAME))


def test_override_wins_whatever_it_is(
    base: Path, gguf_file: Path, alone: Path, tmp_path: Path
) -> None:
    shutil.copytree(base, alone / NAME)
    snapshot = fill_hub_cache(base, "org/other")
    assert find_base(NAME, override=str(base)) == BaseFiles(NAME, base)
    files = find_base(NAME, override=str(gguf_file))
    assert (files.name, files.gguf) == (NAME, gguf_file)
    assert files.folder.parent == tmp_path / "cache" / "bases"
    assert find_base(NAME, override="org/other", offline=True) == BaseFiles(NAME, snapshot)


def test_home_is_expanded(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(base.parent))
    assert find_base(NAME, override="~/llama-tiny").folder == base


def test_base_that_is_nowhere_is_named() -> None:
    message = f"{NAME}: not on disk, and the hub was not asked (--offline)"
    hint = "download it once while online, or name a local folder"
    assert refusal(find_base, NAME, offline=True) == (message, hint)
    assert refusal(find_base, NAME, override="", offline=True) == (
        "base model '' not found",
        NOT_FOUND,
    )
    for odd in ("./llama", "llama", "x" * 5000, "a\0b", "/no/such/folder", "~no-such-user/x"):
        refused = (f"base model {odd!r} not found", NOT_FOUND)
        assert refusal(find_base, odd, offline=True) == refused
        assert refusal(find_base, NAME, override=odd, offline=True) == refused


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    hint = "name the folder that holds config.json, model.safetensors and tokenizer.json"
    for name in (str(tmp_path), f"{tmp_path}/"):
        assert refusal(find_base, NAME, override=name) == (
            f"{tmp_path}: no config.json, so this is not a model folder",
            hint,
        )
    (tmp_path / "config.json").mkdir()
    assert refusal(find_base, str(tmp_path))[1] == hint


def test_file_that_is_no_gguf_file_is_refused(base: Path) -> None:
    path = base / "model.safetensors"
    magic = path.read_bytes()[:4]
    assert refusal(find_base, NAME, override=str(path)) == (
        f"{path}: not a GGUF file (it starts with {magic!r})",
        "a base is a model folder, a .gguf file or a hub name",
    )


# ---- names of models ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("tiny-org/llama-tiny", True),
        ("other-org/llama-tiny", True),
        ("llama-tiny", True),
        ("tiny-org/llama-tiny/", True),
        ("tiny-org/llama", False),
        ("tiny-org/llama-tiny-2", False),
        ("tiny-org/qwen3-tiny", False),
    ],
)
def test_folder_is_known_by_its_last_part(base: Path, name: str, same: bool) -> None:
    assert same_model(name, BaseFiles("any", base)) is same


def test_link_is_known_by_its_own_name_and_by_what_it_leads_to(base: Path, tmp_path: Path) -> None:
    (tmp_path / "mistral-tiny").symlink_to(base)
    for name, same in ((NAME, True), ("org/mistral-tiny", True), ("org/link", False)):
        assert same_model(name, BaseFiles("any", tmp_path / "mistral-tiny")) is same


def test_snapshot_of_the_hub_is_known_by_its_repository(base: Path) -> None:
    snapshot = fill_hub_cache(base, NAME)
    for name, same in ((NAME, True), (f"{NAME}@main", True), ("tiny-org/other", False)):
        assert same_model(name, BaseFiles("any", snapshot)) is same


def test_gguf_file_is_known_by_its_digest(gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = find_base(NAME, override=str(gguf_file))
    assert not same_model(NAME, files)
    for digest, same in ((files.digest(), True), ("0" * 64, False)):
        monkeypatch.setitem(BY_NAME, NAME, in_package(NAME, digest, "package"))
        assert same_model(NAME, files) is same


def test_batches_hold_all_items_in_order() -> None:
    assert batched("abcde", 2) == ["ab", "cd", "e"]
    assert batched(range(4), 4) == [range(4)]
    assert batched([], 3) == []
