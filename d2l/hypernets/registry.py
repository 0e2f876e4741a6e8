"""Names of checkpoints: an alias, folder, file or hub name in, a local path out.

The one table of known checkpoints stands at the foot.
"""

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from d2l.errors import CheckpointError
from d2l.files import hub
from d2l.files.cache import file_digest, find_local
from d2l.files.places import recall
from d2l.files.regular import refuse_irregular

#: What documents are compiled with where nobody names a checkpoint.
DEFAULT = "qwen2.5-coder-0.5b"
#: The variable of the environment that names another default.
DEFAULT_VARIABLE = "D2L_CHECKPOINT"
#: What `t2l make` takes where no checkpoint is named.
DEFAULT_TEXT = "qwen2.5-coder-0.5b"
#: All files that checkpoints of any kind consist of; nothing else is downloaded.
_FILES = (
    "config.json",
    "model.safetensors",
    "statistics.safetensors",
    "familiarity.safetensors",
    "pytorch_model.bin",
    "args.yaml",
    "hypermod.pt",
    "adapter_config.json",
)
_BUILTIN = Path(__file__).parent / "builtin"


@dataclass(frozen=True)
class Alias:
    """A checkpoint that d2l knows by a short name.

    `location` is a hub name (`org/repo:subfolder`), or None for what is shipped in the package.
    `size_bytes` is what is downloaded or shipped, without the base.
    """

    name: str
    network: str
    base: str
    license: str  # of the base; the checkpoint's own terms are on its page
    size_bytes: int
    location: str | None = None


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint that is on disk: what the user called it, and where it lies."""

    name: str
    path: Path


def default_checkpoint() -> str:
    """What is meant where nobody names a checkpoint: that of `D2L_CHECKPOINT`, or `DEFAULT` where
    the variable is empty or not set."""
    return os.environ.get(DEFAULT_VARIABLE) or DEFAULT


def find_checkpoint(name: str, *, offline: bool = False) -> CheckpointFiles:
    """Locate a checkpoint, downloading it where it is not on disk; raises CheckpointError."""
    alias = ALIASES.get(name)
    if alias is not None and alias.location is None:
        return CheckpointFiles(name, _BUILTIN / alias.name)
    path = find_local(name)
    if alias is None and path is not None:
        refuse_irregular(path, CheckpointError)
        return CheckpointFiles(name, path)
    parsed = hub.parse_name(name if alias is None else str(alias.location))
    if parsed is None or (alias is None and name.startswith((".", "/", "~"))):
        named = f" named in {DEFAULT_VARIABLE}" if name == os.environ.get(DEFAULT_VARIABLE) else ""
        near = difflib.get_close_matches(name, ALIASES, n=1)
        raise CheckpointError(
            f"checkpoint {name!r}{named} not found",
            hint=(f"did you mean {near[0]}? " if near else "name a folder, a file or a hub name; ")
            + "`d2l checkpoints ls` lists the short names",
        )
    return CheckpointFiles(name, fetch_checkpoint(parsed, offline=offline))


def digest_files(path: Path) -> dict[str, str]:
    """SHA-256 of every file that a checkpoint consists of, by its path in the folder.

    `path` is a checkpoint's folder, or its file of weights, with settings beside or above it.
    """
    if path.is_dir():
        found = [file for name in _FILES for file in (path / name, *path.glob(f"*/{name}"))]
        return {str(f.relative_to(path)): file_digest(f) for f in found if f.is_file()}
    settings = [name for name in _FILES if name.endswith((".json", ".yaml"))]
    around = [folder / name for folder in (path.parent, path.parent.parent) for name in settings]
    return {file.name: file_digest(file) for file in (*around, path) if file.is_file()}


def name_known(name: str, sha256: str | None) -> str:
    """What to call the checkpoint that an adapter names, which may say no more than its folder's
    name: where it lay when it was last used here, if the name itself leads nowhere.

    What the name leads to goes first, for a network's SHA-256 is that of its weights, not of how
    many seats its configuration allows.
    """
    if name in ALIASES or find_local(name) is not None:
        return name
    known = recall(sha256)
    return name if known is None else str(known)


def at_revision(name: str, revision: str | None) -> str:
    """A checkpoint's name at a revision of its repository; raises CheckpointError where it lies in
    none. None leaves the name as it is."""
    if revision is None:
        return name
    alias = ALIASES.get(name)
    location = name if alias is None else alias.location
    parsed = None if location is None else hub.parse_name(location)
    if parsed is None or (alias is None and find_local(name) is not None):
        raise CheckpointError(
            f"{name}: is no name on the hub, so it has no revisions",
            hint="leave the revision out",
        )
    return str(parsed.at(revision))


def find_on_disk(alias: Alias) -> Path | None:
    """Where an alias's checkpoint lies, or None if it has not been downloaded."""
    if alias.location is None:
        return _BUILTIN / alias.name
    parsed = hub.parse_name(alias.location)
    assert parsed is not None  # the table below holds hub names
    return cached_checkpoint(parsed)


def fetch_checkpoint(name: hub.HubName, *, offline: bool) -> Path:
    """Folder with a checkpoint from the hub; raises CheckpointError."""
    return hub.fetch(name, _FILES, offline=offline, error_type=CheckpointError)


def cached_checkpoint(name: hub.HubName) -> Path | None:
    """A hub checkpoint's folder if all of it is on disk already; opens no socket."""
    try:
        return fetch_checkpoint(name, offline=True)
    except CheckpointError:
        return None


def list_aliases() -> Iterator[tuple[Alias, Path | None]]:
    """Yield every alias with the place of its files on disk."""
    for alias in ALIASES.values():
        yield alias, find_on_disk(alias)


# Folders, bases and parameter counts of the public checkpoints: README of SakanaAI/doc-to-lora
# (commit baa85db) and of SakanaAI/text-to-lora (commit 8ba7749), and the tensor shapes of their
# networks, four bytes a value.
ALIASES: dict[str, Alias] = {
    alias.name: alias
    for alias in (
        Alias(
            name="qwen2.5-coder-0.5b",
            network="seats",
            base="Qwen/Qwen2.5-Coder-0.5B-Instruct",
            license="Apache-2.0",
            size_bytes=26_200_000,
        ),
        Alias(
            name="smollm2-135m",
            network="seats",
            base="HuggingFaceTB/SmolLM2-135M-Instruct",
            license="Apache-2.0",
            size_bytes=16_700_000,
        ),
        Alias(
            name="sakana/gemma-2-2b",
            network="doc_to_lora",
            base="google/gemma-2-2b-it",
            license="Gemma",
            size_bytes=1_261_000_000,
            location="SakanaAI/doc-to-lora:gemma_2b_d2l",
        ),
        Alias(
            name="sakana/gemma-2-2b-demo",
            network="doc_to_lora",
            base="google/gemma-2-2b-it",
            license="Gemma",
            size_bytes=1_261_000_000,
            location="SakanaAI/doc-to-lora:gemma_demo",
        ),
        Alias(
            name="sakana/mistral-7b",
            network="doc_to_lora",
            base="mistralai/Mistral-7B-Instruct-v0.2",
            license="Apache-2.0",
            size_bytes=2_297_000_000,
            location="SakanaAI/doc-to-lora:mistral_7b_d2l",
        ),
        Alias(
            name="sakana/qwen3-4b",
            network="doc_to_lora",
            base="Qwen/Qwen3-4B-Instruct-2507",
            license="Apache-2.0",
            size_bytes=1_684_000_000,
            location="SakanaAI/doc-to-lora:qwen_4b_d2l",
        ),
        Alias(
            name="sakana/mistral-7b-t2l",
            network="text_to_lora",
            base="mistralai/Mistral-7B-Instruct-v0.2",
            license="Apache-2.0",
            size_bytes=263_000_000,
            location="SakanaAI/text-to-lora:trained_t2l/mistral_7b_t2l",
        ),
        Alias(
            name="sakana/llama-3.1-8b-t2l",
            network="text_to_lora",
            base="meta-llama/Llama-3.1-8B-Instruct",
            license="Llama 3.1",
            size_bytes=960_000_000,
            location="SakanaAI/text-to-lora:trained_t2l/llama_8b_t2l",
        ),
        Alias(
            name="sakana/gemma-2-2b-t2l",
            network="text_to_lora",
            base="google/gemma-2-2b-it",
            license="Gemma",
            size_bytes=570_000_000,
            location="SakanaAI/text-to-lora:trained_t2l/gemma_2b_t2l",
        ),
    )
}
