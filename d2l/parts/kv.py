"""Parts that are KV caches of the base: each acts as its page in the prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from d2l.adapters.parts import PART_END
from d2l.adapters.provenance import Opening
from d2l.bases.turns import TurnTexts
from d2l.parts import judging
from d2l.parts.judging import Judging
from d2l.parts.kept import MOST_TOGETHER, Prompt, PromptWriter, Turns
from d2l.parts.seats import Seats, share_in_order


@dataclass(frozen=True)
class Kv(Seats):
    """KV caches of chunks, behind the base's instruction. Answers in few words read a part's
    trained suffix, if it has any; full answers do not."""

    n_lead: ClassVar[int | None] = None

    def pick_judging(self, *, short: bool) -> Judging:
        """The instruction asks the base to refuse."""
        return judging.SHORT if short else judging.INSTRUCTED

    def write(self, writer: PromptWriter, judged: Turns, full: Turns, *, short: bool) -> Prompt:
        """Write the prompt by the base's texts around turns; a system text takes the place of the
        instruction before the parts."""
        texts, lead = TurnTexts(*self.parts.index.turns), None
        if judged[0]["role"] == "system":
            lead = tuple(writer.encode(texts.lead(judged[0]["content"])))
            judged, full = judged[1:], full[1:]
        rest, ids = writer.encode(texts.rest(judged)), writer.encode(texts.rest(full))
        if self.n_suffix and not short:  # the suffix stood for this text
            ids = [*writer.encode(PART_END), *ids]
        return Prompt(rest, ids, lead)

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
