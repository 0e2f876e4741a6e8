"""Options of answers; needs no torch."""

from dataclasses import dataclass, field
from typing import Literal

from d2l.parts.engine import Decoding
from d2l.parts.kept import PartOptions

#: Programs that run a base; "auto": llama.cpp where it can, else torch.
Reader = Literal["auto", "torch", "llama.cpp"]


@dataclass(frozen=True)
class AskOptions:
    """Options of answers; `temperature` 0 is greedy. `max_new_tokens` 0: as the network's answers
    need. `short`: in a few words, `long`: in full; else the question decides. `system`: a system
    text in place of the adapter's own instruction. `document`: the base reads it in its prompt, and
    answers without the adapter. `top_p`, `seed`, `n_top`: as of `Decoding`; `stop`: texts that end
    an answer before them. `reader`: the program that runs the base."""

    base: str | None = None
    device: str = "auto"
    max_new_tokens: int = 0
    temperature: float = 0.0
    offline: bool = False
    dtype: str | None = None  # of the base; None: as the device needs
    short: bool = False
    long: bool = False
    system: str | None = None
    parts: PartOptions = field(default_factory=PartOptions)  # of adapters that have parts
    document: str | None = None
    reader: Reader = "auto"
    top_p: float | None = None
    seed: int | None = None
    n_top: int | None = None
    stop: tuple[str, ...] = ()

    @property
    def decoding(self) -> Decoding:
        """Choice of the answer's tokens."""
        return Decoding(
            self.max_new_tokens, self.temperature, self.top_p, self.seed, n_top=self.n_top
        )
