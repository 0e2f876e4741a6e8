"""Parts that are KV caches of the base: each acts as its page in the prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from d2l.adapters.parts import PART_END
from d2l.adapters.provenance import Opening
from d2l.bases.turns import TurnTexts
from d2l.parts.judging import INSTRUCTED, Judging
from d2l.parts.kept import MOST_TOGETHER, Prompt, PromptWriter, Turns
from d2l.parts.seats import Seats, share_in_order


@dataclass(frozen=True)
class Kv(Seats):
    """KV caches of chunks, behind the base's instruction. The judged answer of a part in few words
    reads its trained suffix, if it has any; answers of joined parts do not."""

    judging: ClassVar[Judging] = INSTRUCTED
    n_lead: ClassVar[int | None] = None
    n_compared: ClassVar[int] = 1

    def write(self, writer: PromptWriter, judged: Turns, full: Turns) -> Prompt:
        """Write the prompt by the base's texts around turns; a system text takes the place of the
        instruction before the parts."""
        texts, lead = TurnTexts(*self.parts.index.turns), None
        if judged[0]["role"] == "system":
            lead = tuple(writer.encode(texts.lead(judged[0]["content"])))
            judged, full = judged[1:], full[1:]
        rest, ids = writer.encode(texts.rest(judged)), writer.encode(texts.rest(full))
        end = writer.encode(PART_END) if self.n_suffix else []  # the suffix stood for this text
        return Prompt(rest, [*end, *ids], [*end, *rest], lead)

    @property
    def n_suffix(self) -> int:
        """Number of trained seats at the end of each part."""
        return self.parts.index.n_suffix

    def fill(self, indices: Sequence[int], opening: Opening | None) -> list[int]:
        """Share the opening's seats, a token each, without the suffix; overviews get none, and
        the last part may be cut."""
        records = [self.records[n] for n in indices]
        sizes = [0 if one.is_overview else one.n_seats - self.n_suffix for one in records]
        return share_in_order(sizes, opening, cuts=True)

    def count_before(self, opening: Sequence[int]) -> int:
        """Count the tokens in front of a question beyond those of the one memory's opening."""
        size = sum(record.n_seats for record in self.records)
        return max(len(self.index_opening) + min(size, MOST_TOGETHER) - len(opening), 0)
