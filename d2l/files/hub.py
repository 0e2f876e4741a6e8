"""The Hugging Face hub: a name in, local files out, through the hub's own cache.

`offline` opens no socket. Progress bars are the hub library's own, on stderr.
"""

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from d2l.errors import AdapterError, BaseModelError, D2LError

_NAME = re.compile(
    r"(?P<repo>\w[\w.-]*/\w[\w.-]*)"
    r"(?:@(?P<revision>[\w./-]+))?"
    r"(?::(?P<subfolder>[\w.-][\w./-]*))?"
)
_LOG_IN = "log in with a token that may write: `hf auth login`, or set HF_TOKEN"
_MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model")


class HubName(NamedTuple):
    """`org/repo[@revision][:subfolder]` taken apart."""

    repo: str
    revision: str | None = None
    subfolder: str | None = None

    def at(self, revision: str | None) -> "HubName":
        """The same at a revision; None leaves it as it is."""
        return self if revision is None else self._replace(revision=revision)

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
    wanted = ("config.json",) if config_only else _MODEL_FILES
    return _fetch(parsed, wanted, ("",), offline, BaseModelError)


def fetch(
    name: HubName, files: Sequence[str], *, offline: bool, error_type: type[D2LError]
) -> Path:
    """Download the matching files, also one folder deep; return the local folder. Raises the error
    given."""
    return _fetch(name, files, ("", "*/"), offline, error_type)


def _fetch(
    name: HubName,
    files: Sequence[str],
    depths: Sequence[str],
    offline: bool,
    error_type: type[D2LError],
) -> Path:
    """Download (or find) files by their patterns, in the name's folder and at these depths."""
    import huggingface_hub

    below = f"{name.subfolder}/" if name.subfolder else ""
    with _naming(name, offline, error_type):
        root = huggingface_hub.snapshot_download(
            name.repo,
            revision=name.revision,
            allow_patterns=[f"{below}{depth}{file}" for depth in depths for file in files],
            local_files_only=offline,
        )
    folder = Path(root, name.subfolder or "")
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


@contextlib.contextmanager
def _naming(
    name: HubName,
    offline: bool,
    error_type: type[D2LError],
    unreachable_hint: str = "check the network, or name a local folder",
) -> Iterator[None]:
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

    # The HTTP library depends on the version of the hub's library. RuntimeError and ValueError:
    # Xet, and answers that are not JSON.
    libraries = [sys.modules[m] for m in ("httpx", "httpx2", "requests") if m in sys.modules]
    unreachable: tuple[type[Exception], ...]
    unreachable = (HfHubHTTPError, OSError, RuntimeError, ValueError)
    unreachable += tuple(library.HTTPError for library in libraries)
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
            hint=unreachable_hint,
        ) from error


def push_folder(
    folder: Path,
    repo: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
) -> str:
    """Upload a folder's files as one commit to a model repository, which is made where there is
    none; the commit's address. `revision` is the branch. Raises AdapterError."""
    import huggingface_hub
    from huggingface_hub.errors import BadRequestError

    name, again = HubName(repo, revision), "check the network and HF_HUB_OFFLINE, and push again"
    if parse_name(repo) != HubName(repo):
        raise AdapterError(f"{repo}: is no name on the hub", hint="the form is ORG/REPO")
    if token is None and huggingface_hub.get_token() is None:
        raise AdapterError("this machine has no token for the hub", hint=_LOG_IN)
    try:
        with _naming(name, False, AdapterError, again):
            api = huggingface_hub.HfApi(token=token)
            api.create_repo(repo, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                revision=revision,
                commit_message=commit_message or "Upload an adapter made by d2l",
            )
    except AdapterError as error:
        cause = error.__cause__
        if isinstance(getattr(cause, "__cause__", None), BadRequestError):
            raise AdapterError(
                f"{repo}: the hub refuses the card: {' '.join(str(cause).split())}",
                hint="correct the license, or README.md",
            ) from error
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status not in (401, 403):
            raise
        raise AdapterError(
            f"{repo}: the hub does not let you write there",
            hint=_LOG_IN,
        ) from error
    return str(done.commit_url)
