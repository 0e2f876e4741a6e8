"""Keywords that several functions of the API have; needs no torch."""

from typing import TypedDict


class ChangeWishes(TypedDict, total=False):
    """How an adapter is made from others.

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
    """How an adapter is exported.

    base: where the base lies, if not where the adapter says. dtype: of GGUF and MLX, "bf16", "fp16"
    or "fp32" (the default). force: replace what d2l wrote there before. local_files_only: open no
    socket.
    """

    base: str | None
    dtype: str | None
    force: bool
    local_files_only: bool


class PushWishes(TypedDict, total=False):
    """How an adapter is uploaded, in the words of huggingface_hub.

    private: whether a repository that is made is. token: default: this machine's login. revision:
    the branch. commit_message: of the one commit. dtype: as for `save_pretrained`.
    """

    private: bool | None
    token: str | None
    revision: str | None
    commit_message: str | None
    dtype: str | None
