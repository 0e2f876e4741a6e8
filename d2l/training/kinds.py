"""Kinds of networks that can be trained: a row each, which is all that the loop knows of them.

A new kind is a module that gathers its data and prepares a `Learner`, and one row at the foot.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from torch import Tensor

from d2l.hypernets.doc_to_lora.network import DocToLoraConfig
from d2l.hypernets.formats.native import compact_tensors, compact_text
from d2l.hypernets.network import Config, Network
from d2l.hypernets.protocol import HypernetConfig
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.text_to_lora.network import TextToLoraConfig
from d2l.training.learners.distributed import Team
from d2l.training.learners.doc_to_lora.learner import gather_doc_to_lora, prepare_doc_to_lora
from d2l.training.learners.learner import Learner, Materials, Row, count_documents
from d2l.training.learners.recipes import Recipe
from d2l.training.learners.seats.learner import count_seats_data, gather_seats, prepare_seats
from d2l.training.learners.text_to_lora.learner import count_text, gather_text, prepare_text


@dataclass(frozen=True)
class TrainingKind(Generic[Config]):
    """Kind of network in training, and the words of its card.

    `gather` reads the data, `count` counts it, `prepare` loads the weights. `compact` makes the
    8-bit form of its tensors, if it has one. The card has its name, `called`, and the commands for
    what it `reads`; seat networks record what they read.
    """

    config: type[Config]
    gather: Callable[[Recipe, Network[Config]], Materials[Config]]
    count: Callable[[Materials[Config]], list[Row]]
    prepare: Callable[[Materials[Config], Path, Team], Learner]
    called: str
    reads: str = "documents"
    compact: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None


def find_kind(config: HypernetConfig) -> TrainingKind[Any]:
    """Find the row of a network's kind."""
    return next(row for row in KINDS if isinstance(config, row.config))


def list_uses(config: HypernetConfig) -> list[tuple[str, str]]:
    """List (a command that uses a trained network, a command that measures it)."""
    reads = config.reads if isinstance(config, SeatsConfig) else find_kind(config).reads
    return [use for read, use in _USES.items() if reads in (read, "both")]


_USES = {
    "documents": ("d2l compile manual.pdf -o manual.lora", "d2l probe"),
    "descriptions": ('t2l make "what the task is" -o task.lora', "t2l eval"),
}
KINDS: tuple[TrainingKind[Any], ...] = (
    TrainingKind(
        config=SeatsConfig,
        gather=gather_seats,
        count=count_seats_data,
        prepare=prepare_seats,
        called="seat",
        compact=compact_tensors,
    ),
    TrainingKind(
        config=DocToLoraConfig,
        gather=gather_doc_to_lora,
        count=count_documents,
        prepare=prepare_doc_to_lora,
        called="Doc-to-LoRA",
    ),
    TrainingKind(
        config=TextToLoraConfig,
        gather=gather_text,
        count=count_text,
        prepare=prepare_text,
        called="Text-to-LoRA",
        reads="descriptions",
        compact=compact_text,
    ),
)
