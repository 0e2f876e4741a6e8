"""Parts that are memories in seats: each is read apart, and the best answers."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from d2l.adapters.provenance import Opening
from d2l.parts.engine import Cache, Engine, Judged
from d2l.parts.judging import TRAINED, Choice, Judging
from d2l.parts.kept import N_BANNED, Context, KeptParts, Prompt, PromptWriter, Turns

#: Most parts whose caches stay in memory, each some megabytes.
_MOST_CACHES = 16


@dataclass
class PartCaches:
    """Caches of the parts that were asked last, behind one lead."""

    lead: tuple[int, ...] = ()
    caches: "OrderedDict[tuple[object, ...], Cache]" = field(default_factory=OrderedDict)


@dataclass(frozen=True)
class Seats(KeptParts):
    """Memories of a trained network. In front of a question a memory stands behind the first token
    of the opening, the sink of attention; the layers below hold the opening's own tokens."""

    judging: ClassVar[Judging] = TRAINED
    held: PartCaches = field(default_factory=PartCaches, compare=False)
    #: Number of the opening's ids that stand before a memory; None: all.
    n_lead: ClassVar[int | None] = 1
    #: Least number of parts that are read apart.
    n_compared: ClassVar[int] = 2

    def write(self, writer: PromptWriter, judged: Turns, full: Turns) -> Prompt:
        """Write the prompt by the adapter's template, behind the opening."""
        del judged
        ids = writer.write_behind(full)
        return Prompt(ids, ids)

    def read(self, engine: Engine, choice: Choice, prompt: Prompt) -> list[Judged]:
        """Read the question behind each chosen part, side by side."""
        if choice.together or len(choice.indices) < self.n_compared:
            return []
        caches = [self._hold(engine, (n,), prompt) for n in choice.indices]
        refusal = prompt.refusal[: choice.judging.n_refusal]
        return engine.compare(caches, prompt.judged, refusal)

    def settle(
        self, engine: Engine, choice: Choice, verdict: Choice, prompt: Prompt, read: list[Judged]
    ) -> Context:
        """Put the answering parts in front of the prompt. The judged cache of the best part begins
        an answer in few words; it alone answers where the prompt has no full form."""
        few: tuple[Context, ...] = ()
        if read:
            cache = read[choice.indices.index(verdict.indices[0])].take()
            few = (Context(cache, prompt.judged[-1:]),)
            if not prompt.few:
                return few[0]
        held = self._hold(engine, verdict.best, prompt, n_suffix=self.n_suffix)
        if few:
            few = (*few, Context(engine.copy(held), prompt.few))
        banned = prompt.refusal[:N_BANNED] if verdict.must_answer else ()
        return Context(engine.copy(held), prompt.full, banned, few, bool(prompt.few))

    def forget(self) -> None:
        """Drop the caches of parts."""
        self.held.caches.clear()

    @property
    def n_suffix(self) -> int:
        """Number of trained seats at the end of each part."""
        return 0

    def _hold(
        self, engine: Engine, group: Sequence[int], prompt: Prompt, *, n_suffix: int = 0
    ) -> Cache:
        """Hold parts one behind another in a cache, without their last `n_suffix` seats. A new
        lead makes all caches anew."""
        opening, held = self.index_opening if prompt.lead is None else prompt.lead, self.held
        if held.lead != opening:
            self.forget()
            held.lead = opening
        if (key := (*group, -n_suffix)) not in held.caches:
            memories = [self.parts.read(n, engine.dtype).first(-n_suffix or None) for n in group]
            n_lead = len(opening) if self.n_lead is None else self.n_lead
            held.caches[key] = engine.hold(opening, n_lead, memories)
        held.caches.move_to_end(key)
        while len(held.caches) > _MOST_CACHES:
            held.caches.popitem(last=False)
        return held.caches[key]

    @property
    def index_opening(self) -> tuple[int, ...]:
        """Ids of the parts' opening."""
        opening = self.parts.index.opening
        assert opening is not None  # memories have one
        return opening.ids

    def fill(self, indices: Sequence[int], opening: Opening | None) -> list[int]:
        """Share the seats of one memory among some parts, in order: all of a part's own, none once
        the opening is full. `opening`: of the one memory; the parts' own is the longest."""
        del opening
        sizes = [self.records[n].n_seats for n in indices]
        return share_in_order(sizes, self.parts.index.opening, cuts=False)

    def count_before(self, opening: Sequence[int]) -> int:
        """Count the tokens in front of a question beyond those of the one memory's opening."""
        sizes = [record.n_seats for record in self.records]
        return max(1 + max(sizes) - len(opening), 0)


def share_in_order(sizes: Sequence[int], opening: Opening | None, *, cuts: bool) -> list[int]:
    """Share an opening's seats in order until a size does not fit. With `cuts` that size gets the
    rest, else none."""
    free, shares = 0 if opening is None else len(opening.seats), list[int]()
    for size in sizes:
        fits = size <= free
        shares.append(size if fits else free * cuts)
        free = free - size if fits else 0
    return shares
