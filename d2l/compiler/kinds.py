"""The kinds of networks that compile documents. A new one is a module, and a row here."""

from typing import Any

from d2l.compiler import doc_to_lora, seats
from d2l.compiler.kind import CompileKind
from d2l.hypernets.fit import Kinds, find_row
from d2l.hypernets.protocol import HypernetConfig

KINDS: tuple[CompileKind[Any], ...] = (seats.KIND, doc_to_lora.KIND)
#: What `compile` takes, and what it says of networks that read descriptions alone.
DOCUMENTS: Kinds[Any] = Kinds(
    KINDS,
    "{name}: is a {kind} network, which reads task descriptions and no documents",
    "use t2l make, or name another checkpoint",
    reads="documents",
)


def find_kind(config: HypernetConfig) -> CompileKind[Any]:
    """The row of a network that `DOCUMENTS` took."""
    row = find_row(KINDS, config)
    assert row is not None
    return row
