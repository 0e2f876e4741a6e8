"""Options of an export; needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    `to`: a key of EXPORTERS. `base`: the place of the base, if the adapter's name leads elsewhere.
    `dtype`: "bf16" (not of GGUF adapters), "fp16" or "fp32"; None: fp32 for GGUF and MLX, which
    holds adapters of any precision exactly, fp16 for the tensors that are merged for Ollama, and
    the base's own where it is merged as a folder. `force`: replace an export that d2l wrote.
    `checkpoint`, `device`: for parts that hold seats, as in `ChangeOptions`.
    """

    to: str
    base: str | None = None
    dtype: str | None = None
    offline: bool = False
    force: bool = False
    checkpoint: str | None = None
    device: str = "auto"
