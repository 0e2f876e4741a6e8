"""The Hugging Face hub: a name in, local files out, through the hub's own cache.

`offline` opens no socket. Progress bars are the hub library's own, on stderr.
"""

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, NoReturn

from d2l.errors import AdapterError, BaseModelError, CheckpointError, D2LError
from d2l.files.atomic import is_disk_full

_NAME = re.compile(
    r"(?P<repo>\w[\w.-]*/\w[\w.-]*)"
    r"(?:@(?P<revision>[\w./-]+))?"
    r"(?::(?P<subfolder>[\w.-][\w./-]*))?",
    re.ASCII,
)
#: Message and hint of the hub's refusals, by status.
_REFUSALS = {
    401: (
        "the hub does not take this machine's token, which may have expired",
        "log in again: `hf auth login`, or correct HF_TOKEN",
    ),
    403: (
        "this machine's token may not read it",
        "let the token read gated repositories, in its settings on the hub; or log in with "
        "another: `hf auth login`",
    ),
    429: ("the hub has had too many requests from here", "try again in some minutes"),
}
#: Message and hint for missing files, where no socket may be opened.
_NOT_ASKED = (
    "not on disk, and the hub was not asked (--offline)",
    "download it once while online, or name a local folder",
)
_FORM = "the form is org/repo[@revision][:subfolder]"
_LOG_IN = "log in with a token that may write: `hf auth login`, or set HF_TOKEN"
#: Files of a model beside its weights.
_TEXTS = ("*.json", "*.jinja", "tokenizer.model")
_TEXTS_END = (".json", ".jinja", ".yaml", "tokenizer.model")
#: Files of a model that a caller needs: config.json, all but the weights (for a plan), or all.
Need = Literal["config", "plan", "weights"]


class HubName(NamedTuple):
    """`org/repo[@revision][:subfolder]` taken apart."""

    repo: str
    revision: str | None = None
    subfolder: str | None = None

    def at(self, revision: str | None) -> "HubName":
        """The name at a revision; None changes nothing."""
        return self if revision is None else self._replace(revision=revision)

    def path(self, file: str) -> str:
        """Path in the repository of a file of the subfolder."""
        return f"{self.subfolder}/{file}" if self.subfolder else file

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{at}" + (f":{self.subfolder}" if self.subfolder else "")


def parse_name(text: str) -> HubName | None:
    """Take a hub name apart; None if the text cannot be one."""
    match = _NAME.fullmatch(text)
    if match is None or ".." in text:
        return None
    return HubName(match["repo"], match["revision"], match["subfolder"])


class Listing(NamedTuple):
    """Files of a repository and their sizes, at the present commit of the revision.

    `refusal`: why this machine cannot download the files. Anybody may list the files of a gated
    repository.
    """

    name: HubName
    commit: str
    sizes: Mapping[str, int]  # bytes, by the path in the name's folder
    refusal: D2LError | None = None

    @property
    def missing_bytes(self) -> int:
        """Bytes of the files that the cache of the hub's library lacks."""
        from huggingface_hub import try_to_load_from_cache

        def is_here(path: str) -> bool:
            repo, file = self.name.repo, self.name.path(path)
            return isinstance(try_to_load_from_cache(repo, file, revision=self.commit), str)

        return sum(size for path, size in self.sizes.items() if not is_here(path))


def ask(
    name: HubName, files: Sequence[str], *, error_type: type[D2LError], depth: int = 0
) -> Listing:
    """List the files of these patterns, at most `depth` folders deep, and ask for the head of one
    to see if this machine may download it. Raises the error if there are none."""
    import huggingface_hub

    with _naming(name, False, error_type):
        api = huggingface_hub.HfApi()
        info = api.model_info(name.repo, revision=name.revision, files_metadata=True)
    below, sizes = name.path(""), dict[str, int]()
    for file in info.siblings or ():
        path = file.rfilename.removeprefix(below)
        matches = any(fnmatchcase(path.split("/")[-1], pattern) for pattern in files)
        if file.rfilename.startswith(below) and path.count("/") <= depth and matches:
            sizes[path] = file.size or 0
    listing = Listing(name, str(info.sha), sizes)
    if not sizes:
        raise _no_folder(name, error_type)
    head = name.path(max(sizes, key=lambda path: sizes[path]))
    try:
        with _naming(name, False, error_type):
            url = huggingface_hub.hf_hub_url(name.repo, head, revision=listing.commit)
            huggingface_hub.get_hf_file_metadata(url, token=huggingface_hub.get_token())
    except error_type as error:
        return listing._replace(refusal=error)
    return listing


def ask_model(name: HubName) -> Listing:
    """List the files of a whole base model, but for copies of its weights in its makers' own
    layout; raises BaseModelError."""
    listing = ask(name, (*_TEXTS, "*.safetensors"), error_type=BaseModelError)
    sizes = {p: n for p, n in listing.sizes.items() if not p.startswith("consolidated")}
    return listing._replace(sizes=sizes)


def find_folder(name: HubName) -> Path | None:
    """Find a name's folder in the cache, with all of its files or some; opens no socket."""
    try:
        return fetch(name, (), offline=True, error_type=CheckpointError)
    except CheckpointError:
        return None


def find_model(name: HubName, need: Need = "weights") -> Path | None:
    """Find a base model's folder in the cache, if it holds the files needed; opens no socket."""
    folder = find_folder(name)
    if folder is None:
        return None
    texts = ("tokenizer.json", "tokenizer.model")
    whole = (folder / "config.json").is_file()
    if need == "weights":  # they are fetched last, so with them all files are there
        shards = read_index(folder) or [path.name for path in folder.glob("*.safetensors")]
        whole = bool(shards) and all((folder / shard).is_file() for shard in shards)
    elif need == "plan":
        whole = whole and any((folder / text).is_file() for text in texts)
    return folder if whole else None


def read_index(folder: Path) -> list[str]:
    """Read the names of a model's shards from their index, sorted; none without an index."""
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))
        return sorted({name for name in index["weight_map"].values() if "/" not in name})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def fetch_model(name: str, *, offline: bool, need: Need = "weights") -> Path:
    """Download (or find) a base model's config, tokenizer and safetensors, or less of it; return
    the local folder. Raises BaseModelError."""
    parsed = parse_name(name)
    if parsed is None:
        raise BaseModelError(
            f"base model {name!r} not found",
            hint="name a folder, a .gguf file or org/repo[@revision] on the hub",
        )
    folder = find_model(parsed, need)
    if folder is not None:
        return folder
    if offline:
        refuse_missing(parsed, BaseModelError)
    listing = ask_model(parsed)
    if listing.refusal is not None:
        raise listing.refusal
    weights = [path for path in listing.sizes if path.endswith(".safetensors")]
    texts = {"config.json"} if need == "config" else listing.sizes.keys() - weights
    folder = fetch(parsed, tuple(texts), offline=False, error_type=BaseModelError)
    if need == "weights":
        weights = read_index(folder) or weights
        fetch(parsed, weights, offline=False, error_type=BaseModelError)
    return folder


def refuse_missing(name: HubName, error_type: type[D2LError]) -> NoReturn:
    """Raise the error for missing files, where no socket may be opened."""
    fetch(name, (), offline=True, error_type=error_type)
    raise error_type(f"{name.repo}: {_NOT_ASKED[0]}", hint=_NOT_ASKED[1])


def fetch(
    name: HubName, files: Sequence[str], *, offline: bool, error_type: type[D2LError]
) -> Path:
    """Download (or find) files of the name's folder; return the local folder. Raises the error
    given. Texts are small, so they have no progress bar."""
    import huggingface_hub
    from huggingface_hub.utils.tqdm import tqdm

    class NoBar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options["disable"] = True
            super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]

    texts_only = all(file.endswith(_TEXTS_END) for file in files)
    with _naming(name, offline, error_type):
        root = huggingface_hub.snapshot_download(
            name.repo,
            revision=name.revision,
            allow_patterns=[name.path(file) for file in files],
            local_files_only=offline,
            tqdm_class=NoBar if texts_only else None,
        )
    folder = Path(root, name.subfolder or "")
    if not folder.is_dir():
        raise _no_folder(name, error_type)
    return folder


def _no_folder(name: HubName, error_type: type[D2LError]) -> D2LError:
    """Make the error for a folder that is missing, or has none of the files."""
    return error_type(f"{name.repo}: no folder {name.subfolder or '/'!r} on the hub", hint=_FORM)


@contextlib.contextmanager
def open_remote(listing: Listing, path: str, error_type: type[D2LError]) -> Iterator[BinaryIO]:
    """Open a file on the hub, which sends only the bytes that are read; raises the error given."""
    import huggingface_hub

    with _naming(listing.name, False, error_type):
        address = f"{listing.name.repo}@{listing.commit}/{listing.name.path(path)}"
        files = huggingface_hub.HfFileSystem(skip_instance_cache=True)
        with files.open(address, "rb", cache_type="none") as file:
            yield file


def find_commit(path: Path) -> str | None:
    """Find the commit of a file or folder in the cache of the hub's library; None elsewhere."""
    parts = path.parts
    at = parts.index("snapshots") + 1 if "snapshots" in parts else 0
    return parts[at] if at and re.fullmatch("[0-9a-f]{40}", parts[at]) else None


def fetch_file(repo: str, file: str, *, revision: str | None) -> Path:
    """Download (or find) one file of a model repository; raises BaseModelError.

    An interrupted download is continued.
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
    """Turn errors of the hub's library into one line about the repository."""
    from huggingface_hub.errors import HfHubHTTPError

    # The HTTP library depends on the version of the hub's library. RuntimeError and ValueError:
    # Xet, and answers that are not JSON.
    libraries = [sys.modules[m] for m in ("httpx", "httpx2", "requests") if m in sys.modules]
    raised: tuple[type[Exception], ...] = (HfHubHTTPError, OSError, RuntimeError, ValueError)
    raised += tuple(library.HTTPError for library in libraries)
    try:
        yield
    except raised as error:
        message, hint = _explain(error, name, offline=offline)
        raise error_type(f"{name.repo}: {message}", hint=hint or unreachable_hint) from error


def _explain(error: Exception, name: HubName, *, offline: bool) -> tuple[str, str | None]:
    """Explain an error: (message, hint); no hint if the network may be the cause.

    The hub's library reports many errors as "not found here"; the reason is in their causes.
    """
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        message = "this machine's user has not accepted its terms"
        page = f"{constants.ENDPOINT}/{name.repo}"
        return message, f"accept its terms at {page}, then run `hf auth login`"
    lost = errors.RepositoryNotFoundError | errors.RevisionNotFoundError | errors.HFValidationError
    if isinstance(error, lost):
        at = f" at revision {name.revision}" if name.revision else ""
        return f"not found on the hub{at}", f"check the name; {_FORM}"
    if is_disk_full(error):
        return (
            f"no space in {constants.HF_HUB_CACHE}, which has {free_bytes() / 1e9:.1f} GB free",
            "free some space, or name a folder on another disk in HF_HOME",
        )
    if isinstance(error, PermissionError):
        hint = "name a folder that you may write to in HF_HOME"
        return f"{constants.HF_HUB_CACHE} cannot be written", hint
    cause: BaseException | None = error
    while cause is not None:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status in _REFUSALS:
            return _REFUSALS[status]
        cause = cause.__cause__ or cause.__context__
    if offline:
        return _NOT_ASKED
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "not on disk, and the hub cannot be reached", _NOT_ASKED[1]
    if isinstance(error, errors.EntryNotFoundError):
        return "has no such file on the hub", None
    return f"the hub cannot be reached ({type(error).__name__})", None


def free_bytes() -> int:
    """Bytes free on the disk of the hub library's cache."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE).absolute()
    return shutil.disk_usage(next(p for p in (cache, *cache.parents) if p.exists())).free


@dataclass(frozen=True)
class PushOptions:
    """Options of an upload. `private`: of a repository that is made. `token`: None for this
    machine's login. `revision`: the branch. `commit_message`: of the one commit."""

    private: bool | None = None
    token: str | None = None
    revision: str | None = None
    commit_message: str | None = None


def push_folder(folder: Path, repo: str, options: PushOptions) -> str:
    """Upload a folder's files as one commit to a model repository, which is made if there is none;
    return the commit's address. Raises AdapterError."""
    import huggingface_hub
    from huggingface_hub.errors import BadRequestError

    again = "check the network and HF_HUB_OFFLINE, and push again"
    if parse_name(repo) != HubName(repo):
        raise AdapterError(f"{repo}: is no name on the hub", hint="the form is ORG/REPO")
    if options.token is None and huggingface_hub.get_token() is None:
        raise AdapterError("this machine has no token for the hub", hint=_LOG_IN)
    try:
        with _naming(HubName(repo, options.revision), False, AdapterError, again):
            api = huggingface_hub.HfApi(token=options.token)
            api.create_repo(repo, private=options.private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                revision=options.revision,
                commit_message=options.commit_message or "Upload an adapter made by d2l",
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
        raise AdapterError(f"{repo}: the hub does not let you write there", hint=_LOG_IN) from error
    return str(done.commit_url)
