"""Parents of a new adapter, for `d2l merge` and `d2l edit`.

Folders or values in, their facts out. Needs no torch before weights are read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from d2l.adapters.info import AdapterInfo
from d2l.adapters.parts import Parts, read_parts

if TYPE_CHECKING:
    from d2l.adapters.peft_folder import AdapterContent
    from d2l.adapters.provenance import Checkpoint, ChunkRecord, Opening, Options, Provenance
    from d2l.adapters.weights import LoraWeights


@dataclass(frozen=True)
class ChangeOptions:
    """Options of an adapter that is made from others.

    `checkpoint`: the network that seats were compiled with, if its name leads elsewhere now.
    `base`: the place of the base. `device`: "auto", "cpu", "cuda", "cuda:N" or "mps". These three
    are for adapters that hold seats. `dtype`: the precision of the new adapter; None: the widest
    of the old ones, or fp32 if that would round. `offline`: open no socket.
    """

    checkpoint: str | None = None
    base: str | None = None
    device: str = "auto"
    dtype: str | None = None
    offline: bool = False


@dataclass(frozen=True)
class Parent:
    """Parent of a new adapter; a folder's weights are read at their first use."""

    source: "AdapterInfo | AdapterContent"

    @cached_property
    def content(self) -> "AdapterContent":
        """Whole adapter, weights in fp32."""
        source = self.source
        if not isinstance(source, AdapterInfo):
            return source
        from d2l.adapters.peft_folder import read_content

        return read_content(source, purpose="merged or edited")

    @property
    def name(self) -> str:
        """Name of its folder, or in memory."""
        source = self.source
        return str(source.folder) if isinstance(source, AdapterInfo) else source.name

    @property
    def config(self) -> Mapping[str, Any]:
        """PEFT config."""
        return self.source.config

    @property
    def weights(self) -> "LoraWeights":
        """Weights in fp32."""
        return self.content.weights

    @property
    def rank(self) -> int:
        """Rank of its modules, known without weights."""
        source = self.source
        return source.rank if isinstance(source, AdapterInfo) else source.weights.rank

    @property
    def dtype(self) -> str:
        """Stored precision."""
        source = self.source
        if not isinstance(source, AdapterInfo):
            return source.dtype
        from d2l.adapters.peft_folder import stored_dtype

        return stored_dtype(source)

    @property
    def provenance(self) -> "Provenance | None":
        """Provenance in its d2l.json; None for adapters of other tools."""
        return self.source.provenance

    @property
    def chunks(self) -> "tuple[ChunkRecord, ...]":
        """Chunks, each with `ranks` [start, stop) unless compression mixed them."""
        return () if self.provenance is None else self.provenance.chunks

    @cached_property
    def parts(self) -> "Parts | None":
        """Parts, their values unread; None without parts."""
        source = self.source
        return read_parts(source) if isinstance(source, AdapterInfo) else source.parts

    @property
    def options(self) -> "Options":
        """Options of its compilation."""
        from d2l.adapters.provenance import Options

        return Options() if self.provenance is None else self.provenance.options

    @property
    def checkpoint(self) -> "Checkpoint | None":
        """Network that made it; None for adapters of other tools."""
        return None if self.provenance is None else self.provenance.checkpoint

    @property
    def opening(self) -> "Opening | None":
        """Opening that its prompts begin with, if any."""
        return None if self.provenance is None else self.provenance.prompt.opening

    def count_seats(self) -> int:
        """Count the seats of its memory, without weights; 0 without seats."""
        return 0


def pick_dtype(parents: Sequence[Parent], dtype: str | None, *, exact: bool) -> str:
    """Pick the precision of the new adapter: `dtype`, else the parents' if that holds the values
    exactly (`exact`), else fp32."""
    if dtype is not None:
        return dtype
    stored = {parent.dtype for parent in parents}
    return next(iter(stored)) if exact and len(stored) == 1 else "fp32"
