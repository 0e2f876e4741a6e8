"""Parts that are ranks of the adapter's own weights: the chosen chunks' ranks act together."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from d2l.adapters.info import AdapterInfo
from d2l.errors import AdapterError
from d2l.parts.engine import Engine, Judged
from d2l.parts.judging import JOINED, Choice, Judging
from d2l.parts.kept import Context, KeptParts, Prompt, PromptWriter, Turns

if TYPE_CHECKING:
    from d2l.adapters.weights import LoraWeights


@dataclass(frozen=True)
class Ranks(KeptParts):
    """Ranks of each chunk, in the weights of the folder `info`; None: they are only routed."""

    judging: ClassVar[Judging] = JOINED
    info: AdapterInfo | None = None

    def write(self, writer: PromptWriter, judged: Turns, full: Turns) -> Prompt:
        """Write the prompt by the adapter's template."""
        del judged
        ids = writer.write_behind(full)
        return Prompt(ids, ids)

    def settle(
        self, engine: Engine, choice: Choice, verdict: Choice, prompt: Prompt, read: list[Judged]
    ) -> Context:
        """Put the ranks of the chosen chunks and of the learned bias into effect."""
        del choice, read
        assert self.info is not None
        provenance = self.info.provenance
        assert provenance is not None  # it names the parts
        spans = [provenance.chunks[index].ranks for index in verdict.indices]
        if None in spans:
            raise AdapterError(
                f"{self.info.folder}: does not say which ranks its parts have",
                hint="ask with --whole, or compile the document again",
            )
        spans.append(provenance.bias_ranks)
        ranks = [rank for span in spans if span is not None for rank in range(*span)]
        return Context(engine.read((), take_ranks(self._weights, ranks)), prompt.full)

    @cached_property
    def _weights(self) -> "LoraWeights":
        from d2l.adapters.peft_folder import read_adapter

        assert self.info is not None
        return read_adapter(self.info.folder)

    def count_read(self, choice: Choice) -> int:
        """Count the chosen parts: all are read."""
        return len(choice.indices)


def take_ranks(weights: "LoraWeights", ranks: list[int]) -> "LoraWeights":
    """Take some ranks of weights; imports torch."""
    import torch

    from d2l.adapters.deltas import keep_ranks

    return keep_ranks(weights, torch.tensor(ranks, dtype=torch.long))
