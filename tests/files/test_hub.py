import errno
import hashlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from d2l.errors import BaseModelError, CheckpointError, D2LError
from d2l.files.hub import HubName, fetch_model, parse_name
from d2l.hypernets.networks import cached_checkpoint, fetch_checkpoint
from tests.files.hub_server import COMMIT, REPO, Hub, serve_hub

FORM = "check the name; the form is org/repo[@revision][:subfolder]"
NO_FILES = "download it once while online, or name a local folder"
NO_NETWORK = "check the network, or name a local folder"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.json": b"{ }",
    "chat_template.jinja": b"template",
    "pytorch_model.bin": b"pickle",
    "modeling_evil.py": b"code",
    "README.md": b"read me",
    "run/args.yaml": b"a: 1",
    "run/checkpoint-5/pytorch_model.bin": b"checkpoint",
    "run/checkpoint-5/optimizer.pt": b"optimizer",
    "run/native/config.json": b"{  }",
    "other/pytorch_model.bin": b"of another run",
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client library."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to reach anything fails the test, even where the error would be caught."""

    class Refusing(socket.socket):
        def __init__(self, *_arguments: object, **_options: object) -> None:
            pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", Refusing)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("a name was looked up"))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_hub(FILES, tmp_path / "hub", monkeypatch) as hub:
        yield hub


def fill_cache(cache: Path, commit: str, *files: str, ref: str | None = None) -> Path:
    """Lay files out as the client library leaves them: blobs, links to them, and a ref."""
    storage = cache / f"models--{REPO.replace('/', '--')}"
    snapshot = storage / "snapshots" / commit
    for name in files:
        blob = storage / "blobs" / hashlib.sha256(f"{commit}/{name}".encode()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_text(name)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    if ref is not None:
        (storage / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (storage / "refs" / ref).write_text(commit)
    return snapshot


def refusal(call, *arguments, error: type[D2LError] = BaseModelError, **options):
    with pytest.raises(error) as raised:
        call(*arguments, **options)
    assert "\n" not in raised.value.message
    return raised.value.message, raised.value.hint


# ---- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("org/repo", HubName("org/repo")),
        ("Org-1/Repo_2.0", HubName("Org-1/Repo_2.0")),
        ("org/repo@main", HubName("org/repo", "main")),
        ("org/repo@refs/pr/3", HubName("org/repo", "refs/pr/3")),
        ("org/repo:gemma_demo", HubName("org/repo", None, "gemma_demo")),
        ("org/repo:a/b-c", HubName("org/repo", None, "a/b-c")),
        ("org/repo@v1.2:sub", HubName("org/repo", "v1.2", "sub")),
        (f"org/repo@{COMMIT}", HubName("org/repo", COMMIT)),
    ],
)
def test_names_are_taken_apart(text: str, parsed: HubName) -> None:
    assert parse_name(text) == parsed


@pytest.mark.parametrize(
    "text",
    [
        *("", "repo", "org/repo/more", "/org/repo", "ö/ü", "org/", "/repo", "org/repo@"),
        *("org/repo:", "org/repo@:sub", "org/repo:sub@main", "org/repo@a@b", "org/repo:/etc"),
        *("org/repo:a/../../b", "org/repo@../../x", "../repo", "./repo", "~/repo", "-org/repo"),
        *("org/..", "org /repo", "org/repo\n", "org/repo\0", "https://example.org/repo"),
        "C:\\models\\repo",
    ],
)
def test_other_names_are_no_hub_names(text: str) -> None:
    assert parse_name(text) is None


def test_what_is_no_hub_name_is_not_found() -> None:
    assert refusal(fetch_model, "no-such-folder", offline=True) == (
        "base model 'no-such-folder' not found",
        "name a folder, a .gguf file or org/repo[@revision] on the hub",
    )


@pytest.mark.parametrize("name", ["org/repo-", "org/a--b", "o/" + "x" * 200])
@pytest.mark.usefixtures("cache", "no_sockets")
def test_names_that_the_hub_cannot_have_are_refused(name: str) -> None:
    assert refusal(fetch_model, name, offline=True) == (f"{name}: not found on the hub", FORM)


# ---- offline ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cache", "no_sockets")
def test_offline_what_is_not_on_disk_is_named() -> None:
    message = "org/repo: not on disk, and the hub was not asked (--offline)"
    assert refusal(fetch_model, "org/repo@v1:sub", offline=True) == (message, NO_FILES)
    for name in (HubName(REPO), HubName(REPO, "v1"), HubName(REPO, None, "sub")):
        refused = refusal(fetch_checkpoint, name, offline=True, error=CheckpointError)
        assert refused == (message, NO_FILES)
        assert cached_checkpoint(name) is None


@pytest.mark.usefixtures("no_sockets")
def test_offline_the_main_branch_is_found_in_the_cache(cache: Path) -> None:
    fill_cache(cache, OTHER, "config.json")
    snapshot = fill_cache(cache, COMMIT, "config.json", "model.safetensors", ref="main")
    assert fetch_model(REPO, offline=True) == snapshot
    assert cached_checkpoint(HubName(REPO)) == snapshot
    assert (snapshot / "config.json").read_text() == "config.json"


@pytest.mark.usefixtures("no_sockets")
def test_offline_revisions_are_found_in_the_cache(cache: Path) -> None:
    main = fill_cache(cache, COMMIT, "model.safetensors", ref="main")
    tagged = fill_cache(cache, OTHER, "model.safetensors", ref="refs/pr/3")
    assert fetch_model(f"{REPO}@main", offline=True) == main
    assert fetch_model(f"{REPO}@refs/pr/3", offline=True) == tagged
    assert fetch_model(f"{REPO}@{OTHER}", offline=True) == tagged
    message, _ = refusal(fetch_model, f"{REPO}@v2", offline=True)
    assert message == "org/repo: not on disk, and the hub was not asked (--offline)"


@pytest.mark.usefixtures("no_sockets")
def test_offline_subfolders_are_found_in_the_cache(cache: Path) -> None:
    snapshot = fill_cache(cache, COMMIT, "run/checkpoint-5/pytorch_model.bin", ref="main")
    name = HubName(REPO, None, "run")
    assert fetch_checkpoint(name, offline=True) == snapshot / "run"
    assert cached_checkpoint(name) == snapshot / "run"
    fill_cache(cache, COMMIT, "run/config.json", ref="main")
    assert fetch_model(f"{REPO}:run", offline=True, need="config") == snapshot / "run"
    refusal(fetch_model, f"{REPO}:run", offline=True)


@pytest.mark.usefixtures("no_sockets")
def test_missing_subfolder_is_named(cache: Path) -> None:
    fill_cache(cache, COMMIT, "config.json", ref="main")
    refused = (
        "org/repo: no folder 'config.json' on the hub",
        FORM.removeprefix("check the name; "),
    )
    name = HubName(REPO, None, "config.json")  # a file
    assert refusal(fetch_checkpoint, name, offline=True, error=CheckpointError) == refused
    assert refusal(fetch_model, f"{REPO}:config.json", offline=True) == refused
    assert cached_checkpoint(name) is None


# ---- online -------------------------------------------------------------------------------------


def test_only_what_a_model_needs_is_downloaded_and_never_code_or_pickles(server: Hub) -> None:
    folder = fetch_model(REPO, offline=False)
    texts = {"config.json", "tokenizer.json", "chat_template.jinja"}
    assert server.asked == {"model.safetensors", *texts}
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    server.asked.clear()
    server.broken = "drop"
    assert fetch_model(REPO, offline=True) == folder
    assert server.asked == set()


def test_only_the_checkpoint_asked_for_is_downloaded(server: Hub) -> None:
    folder = fetch_checkpoint(HubName(REPO, None, "run"), offline=False)
    assert server.asked == {
        "run/args.yaml",
        "run/checkpoint-5/pytorch_model.bin",
        "run/native/config.json",
    }
    assert (folder / "checkpoint-5" / "pytorch_model.bin").read_bytes() == b"checkpoint"
    assert cached_checkpoint(HubName(REPO, None, "run")) == folder


@pytest.mark.parametrize("code", ["RepoNotFound", "RevisionNotFound"])
def test_missing_repository_or_revision_is_one_line(server: Hub, code: str) -> None:
    server.metadata_error = (404, code)
    assert refusal(fetch_model, REPO, offline=False) == ("org/repo: not found on the hub", FORM)
    name = HubName(REPO, "v7", "sub")
    assert refusal(fetch_checkpoint, name, offline=False, error=CheckpointError) == (
        "org/repo: not found on the hub at revision v7",
        FORM,
    )


@pytest.mark.parametrize("what", ["metadata_error", "file_error"])
@pytest.mark.parametrize(
    ("status", "code", "message", "hint"),
    [
        (403, "GatedRepo", "this machine's user has not accepted its terms", "/org/repo,"),
        (401, "GatedRepo", "this machine's user has not accepted its terms", "/org/repo,"),
        (401, "Invalid", "the hub does not take this machine's token, which may ha", "HF_TOKEN"),
        (403, "", "this machine's token may not read it", "let the token read gated repositories"),
        (429, "", "the hub has had too many requests from here", "try again in some minutes"),
        (500, "", "the hub cannot be reached (HfHubHTTPError)", NO_NETWORK),
    ],
)
def test_causes_are_told_apart(  # the client asks again after a while, here at once
    server: Hub,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    status: int,
    code: str,
    message: str,
    hint: str,
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    setattr(server, what, (status, code))
    said, advice = refusal(fetch_model, REPO, offline=False)
    assert said.startswith(f"org/repo: {message}")
    assert hint in advice


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (OSError(errno.ENOSPC, "No space left"), "no space in {}, which has", "free some space"),
        (
            RuntimeError("Xet: No space (os error 28)"),
            "no space in {}, which has",
            "free some space",
        ),
        (PermissionError(errno.EACCES, "denied"), "{} cannot be written", "you may write to"),
    ],
)
def test_a_cache_that_cannot_be_written_is_told(
    error: Exception, message: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    said, advice = refusal(fetch_model, REPO, offline=False)
    assert said.startswith(f"org/repo: {message.format(constants.HF_HUB_CACHE)}")
    assert hint in advice


@pytest.mark.parametrize(
    ("broken", "kind"),
    [("drop", "(RemoteProtocol|Connection)Error"), ("portal", "JSONDecodeError")],
)
def test_broken_connection_is_one_line(server: Hub, broken: str, kind: str) -> None:
    server.broken = broken
    message, hint = refusal(fetch_model, REPO, offline=False)
    assert re.fullmatch(rf"org/repo: the hub cannot be reached \({kind}\)", message)
    assert hint == NO_NETWORK


def test_file_that_cannot_be_had_is_one_line(server: Hub) -> None:
    server.file_error = (404, "EntryNotFound")
    message, hint = refusal(fetch_model, REPO, offline=False)
    assert message == "org/repo: has no such file on the hub"
    assert hint == NO_NETWORK


def test_closed_port_is_one_line(server: Hub) -> None:
    server.shutdown()
    server.server_close()
    message, hint = refusal(fetch_model, REPO, offline=False)
    assert re.fullmatch(r"org/repo: the hub cannot be reached \(Connect(ion)?Error\)", message)
    assert hint == NO_NETWORK


def test_without_a_network_the_cache_is_used(server: Hub) -> None:
    folder = fetch_model(REPO, offline=False)
    server.metadata_error = (500, "")
    assert fetch_model(REPO, offline=False) == folder
