"""What the user may choose of a compilation."""

from dataclasses import dataclass, field

from d2l.hypernets.protocol import MergeOptions
from d2l.hypernets.registry import DEFAULT


@dataclass(frozen=True)
class CompileOptions:
    """What the user may choose; the defaults are those of the command line."""

    checkpoint: str = DEFAULT
    base: str | None = None  # where the base lies, if not where the checkpoint's name leads
    device: str = "auto"
    merge: MergeOptions = field(default_factory=MergeOptions)
    max_rank: int | None = None
    chunk_tokens: int | None = None
    tokens_per_seat: int | None = None  # seat networks only; None: the checkpoint's own
    dtype: str = "bf16"  # of the written adapter; a key of peft_files.DTYPES
    offline: bool = False
    force: bool = False
