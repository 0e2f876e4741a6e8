"""Arguments that several functions of the API have; needs no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Union

if TYPE_CHECKING:
    from d2l.adapters.peft_folder import AdapterContent
    from d2l.change.parents import ChangeOptions

#: An adapter in memory, or where one lies: a folder, or a name on the hub.
AdapterLike = Union["AdapterContent", str, Path]


class ChangeWishes(TypedDict, total=False):
    """Keywords of the functions that make an adapter from others.

    checkpoint: the network that seats were compiled with, if its name leads elsewhere by now.
    base: where the base lies. device: "auto", "cpu", "cuda", "cuda:N" or "mps". These three are
    for adapters that hold seats. dtype: what the new adapter is written in; default: what the old
    ones are, or fp32 where that would round. local_files_only: open no socket.
    """

    checkpoint: str | None
    base: str | None
    device: str
    dtype: str | None
    local_files_only: bool


class ExportWishes(TypedDict, total=False):
    """Keywords of an export.

    base: where the base lies, if not where the adapter says. dtype: "bf16" (not of GGUF adapters),
    "fp16" or "fp32", of MLX and GGUF (default: fp32), and of what is merged for Ollama (default:
    fp16). force: replace what d2l wrote there before. local_files_only: open no socket.
    checkpoint, device: for parts that hold seats, as for `ChangeWishes`.
    """

    base: str | None
    dtype: str | None
    force: bool
    checkpoint: str | None
    device: str
    local_files_only: bool


class PushWishes(TypedDict, total=False):
    """Keywords of an upload, with the names of huggingface_hub.

    private: whether a repository that is made is. token: default: this machine's login. revision:
    the branch. commit_message: of the one commit. license: for the card, as the hub spells it.
    dtype: as for `save_pretrained`.
    """

    private: bool | None
    token: str | None
    revision: str | None
    commit_message: str | None
    license: str | None
    dtype: str | None


def refuse_unknown(wishes: Mapping[str, Any], kind: type) -> None:
    """Raise TypeError for a keyword that `kind`, a TypedDict, lacks: only type checkers look."""
    known = sorted(kind.__annotations__)
    if unknown := sorted(wishes.keys() - known):
        raise TypeError(f"unexpected keyword {unknown[0]!r}; keywords are {', '.join(known)}")


def find_content(adapter: AdapterLike) -> "AdapterContent | Path":
    """Return an adapter in memory as it is; find the folder of a name."""
    if isinstance(adapter, str | Path):
        from d2l.adapters.find import find_adapter

        return find_adapter(adapter)
    return adapter


def change_options(wishes: ChangeWishes) -> "ChangeOptions":
    """Make `ChangeOptions` of keywords; raises TypeError for unknown keywords."""
    from d2l.change.parents import ChangeOptions

    refuse_unknown(wishes, ChangeWishes)
    return ChangeOptions(
        checkpoint=wishes.get("checkpoint"),
        base=wishes.get("base"),
        device=wishes.get("device", "auto"),
        dtype=wishes.get("dtype"),
        offline=wishes.get("local_files_only", False),
    )
