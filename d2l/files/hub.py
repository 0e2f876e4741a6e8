"""The Hugging Face hub: a name in, local files out, through the hub's own cache.

`offline` opens no socket. Progress bars are the hub library's own, on stderr.
"""

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from d2l.errors import BaseModelError, D2LError

_NAME = re.compile(
    r"(?P<repo>\w[\w.-]*/\w[\w.-]*)"
    r"(?:@(?P<revision>[\w./-]+))?"
    r"(?::(?P<subfolder>[\w.-][\w./-]*))?"
)
_MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model")


@dataclass(frozen=True)
class HubName:
    """`org/repo[@revision][:subfolder]` taken apart."""

    repo: str
    revision: str | None = None
    subfolder: str | None = None

    def at(self, revision: str | None) -> "HubName":
        """The same at a revision; None leaves it as it is."""
        return self if revision is None else replace(self, revision=revision)

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{at}" + (f":{self.subfolder}" if self.subfolder else "")


def parse_name(text: str) -> HubName | None:
    """Take a hub name apart, or None where it cannot be one."""
    match = _NAME.fullmatch(text)
    if match is None or ".." in text:
        return None
    return HubName(match["repo"], match["revision"], match["subfolder"])


def fetch_model(name: str, *, offline: bool, config_only: bool = False) -> Path:
    """Folder with a base model's config, tokenizer and safetensors, or with its config.json
    alone; raises BaseModelError."""
    parsed = parse_name(name)
    if parsed is None:
        raise BaseModelError(
            f"base model {name!r} not found",
            hint="name a folder, a .gguf file or org/repo[@revision] on the hub",
        )
    below = f"{parsed.subfolder}/" if parsed.subfolder else ""
    wanted = ("config.json",) if config_only else _MODEL_FILES
    patterns = [f"{below}{pattern}" for pattern in wanted]
    root = _snapshot(parsed, patterns, offline, BaseModelError)
    return _subfolder(root, parsed, BaseModelError)


def fetch(
    name: HubName, files: Sequence[str], *, offline: bool, error_type: type[D2LError]
) -> Path:
    """The folder that a name leads to, with those of these files (patterns) that it has, in it or
    a folder below it; raises the error given."""
    below = f"{name.subfolder}/" if name.subfolder else ""
    wanted = [f"{below}{middle}{file}" for middle in ("", "*/") for file in files]
    return _subfolder(_snapshot(name, wanted, offline, error_type), name, error_type)


def _subfolder(root: Path, name: HubName, error_type: type[D2LError]) -> Path:
    folder = root / name.subfolder if name.subfolder else root
    if not folder.is_dir():
        raise error_type(
            f"{name.repo}: no folder {name.subfolder!r} on the hub",
            hint="the form is org/repo[@revision][:subfolder]",
        )
    return folder


def fetch_file(repo: str, file: str, *, revision: str | None) -> Path:
    """One file of a model repository, in the hub's cache; raises BaseModelError.

    A download that was interrupted goes on where it was.
    """
    import huggingface_hub

    with _naming(HubName(repo, revision), False, BaseModelError):
        return Path(huggingface_hub.hf_hub_download(repo, file, revision=revision))


def _snapshot(
    name: HubName, patterns: Sequence[str], offline: bool, error_type: type[D2LError]
) -> Path:
    """Download (or find) the files of a repository that match `patterns`."""
    import huggingface_hub

    with _naming(name, offline, error_type):
        return Path(
            huggingface_hub.snapshot_download(
                name.repo,
                revision=name.revision,
                allow_patterns=list(patterns),
                local_files_only=offline,
            )
        )


def _transport_errors() -> tuple[type[Exception], ...]:
    """What the HTTP libraries raise that the hub's library uses: which one, its version decides."""
    names = ("httpx", "httpx2", "requests")
    return tuple(sys.modules[name].HTTPError for name in names if name in sys.modules)


@contextlib.contextmanager
def _naming(name: HubName, offline: bool, error_type: type[D2LError]) -> Iterator[None]:
    """Turn what the hub's library raises into one line about the repository."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # RuntimeError and ValueError: Xet, and answers that are not JSON.
    unreachable: tuple[type[Exception], ...]
    unreachable = (*_transport_errors(), HfHubHTTPError, OSError, RuntimeError, ValueError)
    try:
        yield
    except GatedRepoError as error:
        raise error_type(
            f"{name.repo}: access on the hub is restricted",
            hint="accept its terms on its page, then run `hf auth login`",
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise error_type(
            f"{name.repo}: not found on the hub"
            + (f" at revision {name.revision}" if name.revision else ""),
            hint="check the name; the form is org/repo[@revision][:subfolder]",
        ) from error
    except LocalEntryNotFoundError as error:
        raise error_type(
            f"{name.repo}: not on disk, and the hub "
            + ("was not asked (--offline)" if offline else "cannot be reached"),
            hint="download it once while online, or name a local folder",
        ) from error
    except EntryNotFoundError as error:
        raise error_type(
            f"{name.repo}: has no such file on the hub",
            hint="check the network, or name a local folder",
        ) from error
    except unreachable as error:
        raise error_type(
            f"{name.repo}: the hub cannot be reached ({type(error).__name__})",
            hint="check the network, or name a local folder",
        ) from error


@dataclass(frozen=True)
class Push:
    """How a folder goes to the hub, in the words of huggingface_hub: all None means a commit on
    the main branch, with the token of this machine's login."""

    private: bool | None = None
    token: str | None = None
    revision: str | None = None  # the branch to commit to
    commit_message: str | None = None


def push_folder(folder: Path, repo: str, push: Push, *, error_type: type[D2LError]) -> str:
    """Upload a folder's files as one commit to a model repository, which is made where there is
    none; the commit's address. Raises the error given."""
    import huggingface_hub

    name = HubName(repo, push.revision)
    try:
        with _naming(name, False, error_type):
            api = huggingface_hub.HfApi(token=push.token)
            api.create_repo(repo, private=push.private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                revision=push.revision,
                commit_message=push.commit_message or "Upload an adapter made by d2l",
            )
    except error_type as error:
        status = getattr(getattr(error.__cause__, "response", None), "status_code", None)
        if status not in (401, 403):
            raise
        raise error_type(
            f"{repo}: the hub does not let you write there",
            hint="log in with a token that may write: `hf auth login`, or give token=",
        ) from error
    return str(done.commit_url)
