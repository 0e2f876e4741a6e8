"""What is decided of adapters of task descriptions before weights are loaded, and what makes them.

Every kind of network that reads descriptions has a plan and a maker of its own; these are what all
of them have in common.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypedDict

from d2l.adapters.peft_folder import AdapterContent
from d2l.bases.models import BaseFiles
from d2l.datasets.descriptions import check_description
from d2l.errors import CheckpointError, DescriptionError
from d2l.hypernets.familiarity import LEAST_FAMILIAR, Familiarity, read_familiarity
from d2l.hypernets.protocol import HypernetConfig
from d2l.hypernets.registry import DEFAULT_TEXT, CheckpointFiles

#: The factor of b @ a: alpha / rank, or what the checkpoint's own adapters declare.
SCALINGS = ("standard", "config")


@dataclass(frozen=True)
class MakeOptions:
    """What the user may choose; the defaults are those of the command line.

    `scaling` is "standard", alpha / rank, or "config", what the checkpoint's own adapters declare.
    `strict` refuses descriptions that are unlike those of training, instead of a warning.
    """

    checkpoint: str = DEFAULT_TEXT
    base: str | None = None  # where the base lies, if not where the checkpoint's name leads
    embedder: str | None = None  # the same for the embedder
    device: str = "auto"
    scaling: str = "standard"
    dtype: str = "bf16"  # of the written adapter; a key of peft_folder.DTYPES
    offline: bool = False
    strict: bool = False


class MakeWishes(TypedDict, total=False):
    """What may be wished for of one adapter, as keywords of `TaskCompiler.plan`.

    scaling: the factor of the delta: "standard" (the default), alpha / rank, or "config", what the
    checkpoint's own adapters declare; of Text-to-LoRA networks alone.
    strict: refuse a description that is unlike those of training, instead of a warning.
    dtype: what the weights are written in: "bf16" (the default), "fp16" or "fp32".
    """

    scaling: str
    strict: bool
    dtype: str


@dataclass(frozen=True)
class MakePlan(ABC):
    """Everything that is decided before weights are loaded; `warnings` are for the user."""

    checkpoint: CheckpointFiles
    config: HypernetConfig
    base: BaseFiles | None  # None: its config is not at hand, and nothing else of it is needed
    options: MakeOptions
    warnings: tuple[str, ...] = ()
    description: str | None = None  # None: not known yet, or many
    familiarity: Familiarity | None = None  # None: the checkpoint does not say what it knows

    def describing(self, description: str) -> Self:
        """The same for a description; raises DescriptionError where it cannot be used."""
        return replace(self, description=check_description(description))

    @property
    @abstractmethod
    def rank(self) -> int | None:
        """Rank of the adapters; None where it depends on the description, which is not known."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """Factor of b @ a in the adapters; it is folded into b when they are written."""

    @property
    def embedder_name(self) -> str:
        """What reads descriptions, as the checkpoint names it."""
        return self.config.base


class Maker(Protocol):
    """A loaded network with what reads for it: many descriptions, loaded once."""

    def make(self, plan: MakePlan) -> AdapterContent:
        """The adapter of a plan's description, in memory; raises D2LError."""

    def make_ahead(self, plans: Sequence[MakePlan]) -> None:
        """Compute now, at one go, what `make` needs for these, where that saves time; `make` gives
        the same but for rounding. Keeps what it computed until they are made."""


def find_familiarity(
    checkpoint: CheckpointFiles, embedding_size: int, options: MakeOptions
) -> Familiarity | None:
    """What lies beside the weights of networks that d2l trained. Raises CheckpointError where it is
    damaged, or nothing says what the network knows and the user wants to be strict."""
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    familiarity = read_familiarity(folder, embedding_size)
    if familiarity is None and options.strict:
        raise CheckpointError(
            f"{checkpoint.name}: does not say which descriptions it was trained on",
            hint="leave --strict out, which has nothing to compare with",
        )
    return familiarity


def warn_unlike(plan: MakePlan, familiarity: float | None) -> list[str]:
    """Say where a description is unlike those of training; raises DescriptionError where the user
    wants to be strict."""
    if familiarity is None or familiarity >= LEAST_FAMILIAR:
        return []
    unlike = (
        f"the description is unlike those that {plan.checkpoint.name} was trained on "
        f"(familiarity {familiarity:.2f}, below {LEAST_FAMILIAR:g}), so its adapter may do "
        "anything"
    )
    if plan.options.strict:
        raise DescriptionError(unlike, hint="say what the task is, or leave --strict out")
    return [unlike]
