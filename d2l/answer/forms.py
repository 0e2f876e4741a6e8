"""Forms of an answer: yes or no, a fact in few words, or in full without what no part says."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from d2l.adapters.parts import PartRecord
from d2l.answer.events import Ending, Event, TextPiece
from d2l.answer.facts import choose_fact, is_fact
from d2l.answer.options import AskOptions
from d2l.answer.said import Said, leave_out
from d2l.answer.writing import hold_refusals
from d2l.answer.yes_no import decide, find_yes_no
from d2l.datasets.silence import NOT_FOUND
from d2l.parts.kept import Context


def refuse() -> Iterator[Event]:
    """Refuse to answer."""
    return iter((TextPiece(NOT_FOUND), Ending("stop", 0)))


@dataclass(frozen=True)
class Forms:
    """Forms of the answer to a question, off `parts`, the best first. `begin` writes the answer of
    a beginning; `weigh` gives the log-probabilities, in nats, of words as its first token."""

    question: str
    parts: Sequence[PartRecord]
    options: AskOptions
    begin: Callable[[Context], Iterator[Event]]
    weigh: Callable[[Context, Sequence[str]], Sequence[float]]

    def write(self, context: Context, *, is_answered: bool) -> Iterator[Event]:
        """Write the answer in the form that fits the question, or that the options want. A full
        answer that refuses, or of which nothing is left, gives way to few words. Only yes or no
        can be answered by a part that was judged not to answer."""
        few, options = context.few, self.options
        if few and not options.long and (decision := self._decide(few)) is not None:
            yield TextPiece(decision)
            yield Ending("stop", len(few), is_sure=True)
        elif not is_answered:
            yield from refuse()
        elif few and (options.short or (is_fact(self.question) and not options.long)):
            yield from self._write_fact(few)
        elif context.is_instructed:
            written = leave_out(self.begin(context), Said(self.question, self.parts).has)
            yield from hold_refusals(written, lambda: self._write_fact(few) if few else refuse())
        else:
            yield from hold_refusals(self.begin(context))

    def _decide(self, few: Sequence[Context]) -> str | None:
        """Decide a question for yes or no, by the mean odds of its beginnings."""
        if (words := find_yes_no(self.question)) is None:
            return None
        yes, no = map(fmean, zip(*(self.weigh(one, words) for one in few), strict=True))
        decision = decide(self.question, words, yes - no, self.parts)
        if decision is None or not self.options.short:
            return decision and " ".join(filter(None, decision))
        return decision.word or None

    def _write_fact(self, few: Sequence[Context]) -> Iterator[Event]:
        """Write a fact in the few words of one of its beginnings."""
        answers, n_tokens = list[tuple[str, list[Event], Ending]](), 0
        for beginning in few:
            *pieces, ending = self.begin(beginning)
            assert isinstance(ending, Ending)
            n_tokens += ending.n_tokens
            text = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
            answers.append((text, pieces, ending))
            if ending.reason == "timeout":
                break
        first, second = (*(text for text, *_ in answers), "")[:2]
        fact = choose_fact(self.question, first, second, self.parts, short=self.options.short)
        if fact is None:
            yield from refuse()
            return
        _, pieces, ending = answers[fact.is_second]
        yield from pieces
        yield replace(ending, n_tokens=n_tokens, is_sure=fact.is_sure)
