"""Options of answers; needs no torch."""

from dataclasses import dataclass, field

from d2l.inference.parts.choose import PartOptions

#: Below it, sampling draws the likeliest token anyway, and logits divided by it overflow.
LEAST_TEMPERATURE = 1e-3


@dataclass(frozen=True)
class AskOptions:
    """Options of answers; `temperature` below `LEAST_TEMPERATURE` is greedy. `max_new_tokens` 0:
    as the network's answers need. `short`: in a few words. `system`: a system text in place of the
    adapter's own instruction."""

    base: str | None = None
    device: str = "auto"
    max_new_tokens: int = 0
    temperature: float = 0.0
    offline: bool = False
    dtype: str | None = None  # of the base; None: as the device needs
    short: bool = False
    system: str | None = None
    parts: PartOptions = field(default_factory=PartOptions)  # of adapters that have parts
