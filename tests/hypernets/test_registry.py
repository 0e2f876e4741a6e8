import re
import socket
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import constants

from d2l.bases.catalog import REVISIONS
from d2l.bases.families import FAMILIES
from d2l.errors import CheckpointError
from d2l.files.hub import parse_name
from d2l.hypernets.networks import find_checkpoint, list_aliases, read_config
from d2l.hypernets.registry import ALIASES, DEFAULT, CheckpointFiles, find_on_disk
from tests.refusals import refuse

BUILTIN = Path(__file__).parents[2] / "d2l" / "hypernets" / "builtin"
ON_HUB = [alias for alias in ALIASES.values() if alias.location is not None]
HINT = "name a folder, a file or a hub name; `d2l checkpoints ls` lists the short names"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, an empty working directory, and no network."""

    class Refusing(socket.socket):
        def __init__(self, *_arguments: object, **_options: object) -> None:
            pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", Refusing)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def fill_cache(
    cache: Path,
    repo: str,
    subfolder: str,
    commit: str | None = None,
    *,
    name: str = "pytorch_model.bin",
) -> Path:
    """A checkpoint as the hub's client library leaves it, by hand."""
    storage = cache / f"models--{repo.replace('/', '--')}"
    folder = storage / "snapshots" / (commit or COMMIT) / subfolder
    folder.mkdir(parents=True)
    (folder / name).touch()
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(COMMIT)
    return folder


refusal = partial(refuse, CheckpointError, find_checkpoint, offline=True)


# ---- aliases ------------------------------------------------------------------------------------


def test_the_default_is_shipped_in_the_package() -> None:
    assert find_checkpoint(DEFAULT) == CheckpointFiles(DEFAULT, BUILTIN / DEFAULT)
    assert find_on_disk(DEFAULT) == BUILTIN / DEFAULT


def test_shipped_checkpoints_are_what_the_table_says() -> None:
    for alias in ALIASES.values():
        if alias.location is None:
            folder = BUILTIN / alias.name
            config = read_config(folder)
            assert (config.kind, config.base) == (alias.network, alias.base)
            size_bytes = sum(path.stat().st_size for path in folder.iterdir())
            assert alias.size_bytes == round(size_bytes, -5)  # to a tenth of a megabyte
            assert alias.license in (folder / "README.md").read_text("utf-8")


@pytest.mark.parametrize("alias", ON_HUB, ids=lambda alias: alias.name)
def test_aliases_of_the_hub_name_a_subfolder_and_a_known_base(alias) -> None:
    parsed = parse_name(alias.location)
    assert parsed is not None
    assert parsed.subfolder or not alias.name.startswith("sakana/")
    assert alias.size_bytes % 1_000_000 == 0
    assert re.fullmatch("[0-9a-f]{40}", REVISIONS[alias.base])
    if alias.network == "text_to_lora":
        assert alias.name.endswith("-t2l")
        return
    if alias.network == "shine":
        assert alias.name.startswith("shine/")
        return
    known = {base for family in FAMILIES.values() for base in family.affixes or {}}
    assert alias.base in known or alias.base == "Qwen/Qwen3-1.7B"  # whose template is derived
    assert alias.network == "doc_to_lora"


@pytest.mark.parametrize("alias", ON_HUB, ids=lambda alias: alias.name)
def test_alias_of_the_hub_leads_to_its_subfolder_in_the_cache(alias, cache: Path) -> None:
    assert find_on_disk(alias.name) is None
    repo, _, subfolder = alias.location.partition(":")
    assert refusal(alias.name) == (
        f"{repo}: not on disk, and the hub was not asked (--offline)",
        "download it once while online, or name a local folder",
    )
    name = "metanetwork.pth" if alias.network == "shine" else "pytorch_model.bin"
    folder = fill_cache(cache, repo, subfolder, alias.revision, name=name)
    if alias.network == "shine":
        assert dict(list_aliases())[alias] is None  # the download was cut short
        for name in ("metalora.pth", "mem_tokens.pt"):
            (folder / name).touch()
    assert dict(list_aliases())[alias] == find_on_disk(alias.name) == folder
    assert find_checkpoint(alias.name, offline=True) == CheckpointFiles(alias.name, folder)


def test_alias_wins_over_a_folder_of_its_name() -> None:
    for name in (DEFAULT, "sakana/mistral-7b"):
        Path(name).mkdir(parents=True)
    assert find_checkpoint(DEFAULT).path == BUILTIN / DEFAULT
    message, _ = refusal("sakana/mistral-7b")
    assert message.startswith("SakanaAI/doc-to-lora: not on disk")
    assert find_checkpoint(f"./{DEFAULT}").path == Path(DEFAULT)


def test_list_says_what_is_on_disk(cache: Path) -> None:
    places = {alias.name: path for alias, path in list_aliases()}
    assert list(places) == list(ALIASES)
    here = [name for name, path in places.items() if path is not None]
    assert {DEFAULT, "smollm2-135m", "qwen2.5-coder-0.5b"} <= set(here)
    assert set(here) == {alias.name for alias in ALIASES.values() if alias.location is None}
    folder = fill_cache(cache, "SakanaAI/doc-to-lora", "qwen_4b_d2l")
    places = {alias.name: path for alias, path in list_aliases()}
    assert places["sakana/qwen3-4b"] == folder
    assert places["sakana/mistral-7b"] is None


# ---- other names --------------------------------------------------------------------------------


def test_folders_and_files_are_taken_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / "pytorch_model.bin"
    file.touch()
    assert find_checkpoint(str(file)) == CheckpointFiles(str(file), file)
    assert find_checkpoint("../run") == CheckpointFiles("../run", Path("../run"))
    assert find_checkpoint("~/run") == CheckpointFiles("~/run", tmp_path / "run")
    assert find_checkpoint(".").path == Path()


def test_folder_wins_over_a_repository_of_its_name(cache: Path) -> None:
    fill_cache(cache, "org/repo", "")
    Path("org/repo").mkdir(parents=True)
    assert find_checkpoint("org/repo", offline=True).path == Path("org/repo")


def test_repositories_are_looked_up_in_the_cache(cache: Path) -> None:
    folder = fill_cache(cache, "org/repo", "run")
    assert find_checkpoint("org/repo:run", offline=True).path == folder
    assert find_checkpoint(f"org/repo@{COMMIT}:run", offline=True).path == folder
    assert find_checkpoint("org/repo", offline=True).path == folder.parent
    assert refusal("org/repo:other") == (
        "org/repo: no folder 'other' on the hub",
        "the form is org/repo[@revision][:subfolder]",
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        "smollm2",
        "SMOLLM2-135M",
        "sakana",
        "./org/repo",
        "~nobody-has-this-name/repo",
        "org/re\0po",
        "x" * 5000,
        "\udcff",
        "a\nb",
    ],
)
def test_other_names_are_not_found(name: str) -> None:
    near = HINT.replace("name a folder, a file or a hub name;", "did you mean smollm2-135m?")
    hint = near if name.startswith("smollm2") else HINT
    assert refusal(name) == (f"checkpoint {name!r} not found", hint)
