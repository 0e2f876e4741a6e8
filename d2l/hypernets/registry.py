"""Names of checkpoints: an alias, folder, file or hub name in, a place out. Needs no torch.

The table of known checkpoints stands at the foot.
"""

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from d2l.errors import CheckpointError
from d2l.files import hub
from d2l.files.cache import file_digest, find_local
from d2l.files.known_paths import find_path
from d2l.files.regular import refuse_irregular

#: Default network for documents and for tasks.
DEFAULT = "qwen2.5-coder-1.5b"
#: Environment variables that name other defaults, for documents and for tasks.
DEFAULT_VARIABLE, TEXT_VARIABLE = "D2L_CHECKPOINT", "T2L_CHECKPOINT"
#: Name of the network that a base is without any weights, its own KV cache, and its former name.
KV, OLD_KV = "kv", "own"
_BUILTIN = Path(__file__).parent / "builtin"


@dataclass(frozen=True)
class Alias:
    """A checkpoint that d2l knows by a short name.

    `location` is a hub name (`org/repo:subfolder`), or None for networks in the package. `revision`
    is the default commit; None: the branch's newest. `size_bytes` is the size of the files, without
    the base; 0 if d2l does not know it.
    """

    name: str
    network: str
    base: str
    license: str  # of the base; the checkpoint's own terms are on its page
    size_bytes: int
    location: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint on disk: the user's name for it, and its path."""

    name: str
    path: Path


def default_checkpoint() -> str:
    """Name of the default checkpoint for documents: `D2L_CHECKPOINT`, or `DEFAULT` if the variable
    is empty or not set."""
    return os.environ.get(DEFAULT_VARIABLE) or DEFAULT


def is_kv(name: str) -> bool:
    """True for the network that a base is without any weights, also by its former name."""
    return name in (KV, OLD_KV)


def locate(name: str) -> Path | hub.HubName:
    """Locate a checkpoint: a path on this machine, or a name on the hub; raises
    CheckpointError."""
    alias = ALIASES.get(name)
    if alias is not None:
        return _BUILTIN / alias.name if alias.location is None else _name_on_hub(alias)
    if is_kv(name):
        raise CheckpointError(f'checkpoint "{name}" needs a base', hint="name it with --base")
    path = find_local(name)
    if path is not None:
        refuse_irregular(path, CheckpointError)
        return path
    parsed = hub.parse_name(name)
    if parsed is None or name.startswith((".", "/", "~")):
        named = f" named in {DEFAULT_VARIABLE}" if name == os.environ.get(DEFAULT_VARIABLE) else ""
        near = difflib.get_close_matches(name, ALIASES, n=1)
        raise CheckpointError(
            f"checkpoint {name!r}{named} not found",
            hint=(f"did you mean {near[0]}? " if near else "name a folder, a file or a hub name; ")
            + "`d2l checkpoints ls` lists the short names",
        )
    return parsed


def _name_on_hub(alias: Alias) -> hub.HubName:
    parsed = hub.parse_name(str(alias.location))
    assert parsed is not None  # the table below holds hub names
    return parsed.at(alias.revision)


def find_on_disk(name: str) -> Path | None:
    """Find a checkpoint's path on this machine, without torch; of a download perhaps a part. None
    for other checkpoints, and for a base that is a network itself. Raises CheckpointError."""
    place = None if is_kv(name) else locate(name)
    return hub.find_folder(place) if isinstance(place, hub.HubName) else place


def digest_files(path: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of those files of a checkpoint that are there, by their names in its folder.

    `path` is a checkpoint's folder, or its file of weights, with settings beside or above it.
    """
    folders = (path,) if path.is_dir() else (path.parent, path.parent.parent)
    found = {name: f / name for name in names for f in reversed(folders) if (f / name).is_file()}
    return {name: file_digest(file) for name, file in found.items()}


def name_known(name: str, sha256: str | None) -> str:
    """Name the checkpoint of an adapter, which may hold only the name of a folder: the path of its
    last use here, if the name itself leads nowhere.

    The name comes first, since a network's SHA-256 is that of its weights: configurations with
    different numbers of seats share it.
    """
    if not is_kv(name) and (name in ALIASES or find_local(name) is not None):
        return name
    known = find_path(sha256)
    return name if known is None else str(known)


def at_revision(name: str, revision: str | None) -> str:
    """Name a checkpoint at a revision of its repository; raises CheckpointError if it has none.
    None changes nothing."""
    if revision is None:
        return name
    alias = ALIASES.get(name)
    location = name if alias is None else alias.location
    parsed = None if location is None else hub.parse_name(location)
    if parsed is None or (alias is None and find_local(name) is not None):
        raise CheckpointError(
            f"{name}: is no name on the hub, so it has no revisions", hint="leave the revision out"
        )
    return str(parsed.at(revision))


# Folders, bases and parameter counts of the public checkpoints: README of SakanaAI/doc-to-lora
# (commit baa85db) and of SakanaAI/text-to-lora (commit 8ba7749), and the tensor shapes of their
# networks, four bytes a value. Several public repositories name the commit that they downloaded;
# for SakanaAI/doc-to-lora none is known.
_TEXT_TO_LORA = "6e571eda2188b216f027263cd28c99c0fdcf2fa3"
_GEMMA, _MISTRAL = "google/gemma-2-2b-it", "mistralai/Mistral-7B-Instruct-v0.2"
_QWEN, _LLAMA = "Qwen/Qwen3-4B-Instruct-2507", "meta-llama/Llama-3.1-8B-Instruct"
_SHINE = ("shine", "Qwen/Qwen3-8B", "Apache-2.0", 3_550_000_000)
_NIAH = ("doc_to_lora", "Qwen/Qwen3-1.7B", "Apache-2.0", 0)  # size unknown
_LICENSES = {_GEMMA: "Gemma", _LLAMA: "Llama 3.1"}  # of bases; of all others Apache-2.0


def _of_documents(name: str, base: str, n_bytes: int, folder: str) -> Alias:
    """A public Doc-to-LoRA network."""
    license, location = _LICENSES.get(base, "Apache-2.0"), f"SakanaAI/doc-to-lora:{folder}"
    return Alias(name, "doc_to_lora", base, license, n_bytes, location)


def _of_tasks(name: str, base: str, n_bytes: int, folder: str) -> Alias:
    """A public Text-to-LoRA network."""
    license = _LICENSES.get(base, "Apache-2.0")
    location = f"SakanaAI/text-to-lora:trained_t2l/{folder}"
    return Alias(name, "text_to_lora", base, license, n_bytes, location, _TEXT_TO_LORA)


_QWEN_CODER = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
_QWEN_CODER_LARGE = "Qwen/Qwen2.5-Coder-1.5B-Instruct"
_SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
ALIASES: dict[str, Alias] = {
    alias.name: alias
    for alias in (
        Alias("qwen2.5-coder-1.5b", KV, _QWEN_CODER_LARGE, "Apache-2.0", 4_600_000),
        Alias("qwen2.5-coder-0.5b", "seats", _QWEN_CODER, "Apache-2.0", 26_200_000),
        Alias("smollm2-135m", "seats", _SMOLLM2, "Apache-2.0", 16_700_000),
        _of_documents("sakana/gemma-2-2b", _GEMMA, 1_261_000_000, "gemma_2b_d2l"),
        _of_documents("sakana/gemma-2-2b-demo", _GEMMA, 1_261_000_000, "gemma_demo"),
        _of_documents("sakana/mistral-7b", _MISTRAL, 2_297_000_000, "mistral_7b_d2l"),
        _of_documents("sakana/qwen3-4b", _QWEN, 1_684_000_000, "qwen_4b_d2l"),
        Alias("farpluto/qwen3-1.7b-niah", *_NIAH, "farpluto/doc-to-lora-niah"),
        Alias("shine/qwen3-8b", *_SHINE, "Yewei-Liu/SHINE-ift_mqa_1qa"),
        Alias("shine/qwen3-8b-mqa", *_SHINE, "Yewei-Liu/SHINE-ift_mqa"),
        Alias("shine/qwen3-8b-pretrain", *_SHINE, "Yewei-Liu/SHINE-Pretrain"),
        _of_tasks("sakana/mistral-7b-t2l", _MISTRAL, 263_000_000, "mistral_7b_t2l"),
        _of_tasks("sakana/llama-3.1-8b-t2l", _LLAMA, 960_000_000, "llama_8b_t2l"),
        _of_tasks("sakana/gemma-2-2b-t2l", _GEMMA, 570_000_000, "gemma_2b_t2l"),
    )
}
