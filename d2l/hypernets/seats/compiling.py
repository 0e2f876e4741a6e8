"""A trained seat network: what differs from other networks whose memories are seated."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from torch import nn

from d2l.adapters.parts import PartKind
from d2l.hypernets.formats.format import Format, native_format
from d2l.hypernets.formats.native import CONFIG_FILE
from d2l.hypernets.seats.config import KIND, SeatsConfig, read_config
from d2l.hypernets.seats.network import Seats, load_seats
from d2l.hypernets.seats.seated import SeatedNetwork
from d2l.hypernets.seats.second_moments import FILE_NAME

FORMAT = replace(
    native_format(KIND, "seat", SeatsConfig.from_json, FILE_NAME),
    description="a d2l folder of a seat network (config.json, model.safetensors, "
    "statistics.safetensors)",
    read_config=lambda path: read_config(path / CONFIG_FILE),
)


class SeatsNetwork(SeatedNetwork[SeatsConfig]):
    """A trained network that writes a few tokens of a chunk into each seat."""

    kind: ClassVar[str] = KIND
    part_kind: ClassVar[PartKind] = "seats"
    formats: ClassVar[tuple[Format, ...]] = (FORMAT,)

    def explain_limits(self) -> str:
        """Lines of the card on recall, form and cost of the answers."""
        return (
            "- Seats remember short notes best. Recall falls with length: of a page some facts "
            f"come back, of more than about {self.config.held_tokens:,} tokens few.\n"
            "- It answers in a few words; ask one fact at a time.\n"
            f"{self.explain_base()}"
        )

    @classmethod
    def load_hypernet(
        cls, path: Path, entry: Format, *, device: str, base: nn.Module | None = None
    ) -> Seats:
        """Read the network onto its base's device: the base takes part in the seating."""
        del entry, device
        assert base is not None
        return load_seats(path, base)
