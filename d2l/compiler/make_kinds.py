"""The kinds of networks that read task descriptions. A new one is a module, and a row here."""

from typing import Any

from d2l.compiler import make_seats, make_text_to_lora
from d2l.compiler.make_kind import MakeKind
from d2l.hypernets.fit import Kinds, find_row
from d2l.hypernets.protocol import HypernetConfig

KINDS: tuple[MakeKind[Any], ...] = (make_text_to_lora.KIND, make_seats.KIND)
#: What `make` takes, and what it says of networks that read documents alone.
DESCRIPTIONS: Kinds[Any] = Kinds(
    KINDS,
    "{path}: is a {kind} network, which reads documents and no descriptions",
    "use d2l compile, or name a checkpoint that reads descriptions",
    reads="descriptions",
)


def find_kind(config: HypernetConfig) -> MakeKind[Any]:
    """The row of a network that `DESCRIPTIONS` took."""
    row = find_row(KINDS, config)
    assert row is not None
    return row
