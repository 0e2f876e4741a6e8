"""What may answer under a name between two times, and how an answer is judged by that."""

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Question = tuple[int, int]  # numbers of a question and of a way of sampling
Quiet = dict[str, dict[Question, str]]  # answers by variant


class State(NamedTuple):
    """From when on a name leads to one of these variants; `may_fail`: or to a failure."""

    since: float
    variants: frozenset[str]
    may_fail: bool


class Ledger:
    """What stood under each name, and when; at first nothing."""

    def __init__(self) -> None:
        nothing = State(0.0, frozenset(), True)
        self._states: dict[str, list[State]] = defaultdict(lambda: [nothing])
        self._lock = threading.Lock()

    def set(self, name: str, variants: Sequence[str], *, may_fail: bool = False) -> None:
        """What a name leads to from now on."""
        state = State(time.monotonic(), frozenset(variants), may_fail or not variants)
        with self._lock:
            self._states[name].append(state)

    def current(self, name: str) -> State:
        """The last state of a name."""
        with self._lock:
            return self._states[name][-1]

    def between(self, name: str, start: float, end: float) -> State:
        """All that a name led to between two times."""
        with self._lock:
            states = list(self._states[name])
        ends = [state.since for state in states[1:]] + [end]
        pairs = zip(states, ends, strict=True)
        seen = [s for s, until in pairs if s.since <= end and until >= start]
        variants = frozenset[str]().union(*(state.variants for state in seen))
        return State(start, variants, any(state.may_fail for state in seen))

    @contextlib.contextmanager
    def changing(self, name: str, variant: str | None) -> Iterator[None]:
        """A block in which a name's old variants give way to a new one, or to none."""
        new = [] if variant is None else [variant]
        self.set(name, [*self.current(name).variants, *new], may_fail=True)
        yield
        self.set(name, new)


class Reply(NamedTuple):
    """Status of an answer (0: no connection, or it broke), and its text or a failure's code."""

    status: int
    text: str


def judge(
    reply: Reply, question: Question, state: State, quiet: Quiet, *, may_be_cut: bool = False
) -> str:
    """`right`, `right (one possible)`, `cut` by the time limit, `failed (…)` with a cause; else a
    fault, in capitals."""
    if reply.status == 200:
        answers = {quiet[variant][question] for variant in state.variants}
        if reply.text not in answers:
            if may_be_cut and any(answer.startswith(reply.text) for answer in answers):
                return "cut"
            return f"WRONG: {reply.text!r}, not of {sorted(state.variants)}"
        return (
            "right (one possible)" if len(state.variants) == 1 and not state.may_fail else "right"
        )
    if reply.text in ("overloaded", "timeout"):
        return f"failed ({reply.text})"
    has_cause = state.may_fail and reply.text != "failed"  # that is an exception nobody caught
    return f"{'failed' if has_cause else 'NO CAUSE'} ({reply.status} {reply.text})"
