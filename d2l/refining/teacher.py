"""What passages would say, did nothing crowd them: the distributions to refine towards.

The adapter holds a passage in half as many seats as it has tokens, others beside it, and leaks.
Here each is a memory of its own, of a seat for every token, imposed on the base, which is changed
by nothing else. Such a memory answers more of what people ask than any adapter of it, and to a
question that fits no answer it gives one all the same, which costs nothing to learn: the
adapter's own answer would be of the same kind.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from d2l.adapters.weights import Memory
from d2l.hypernets.seats.shared_lora import Shared
from d2l.learners.document_data import Exercise
from d2l.refining.decoder import MemoryDecoder
from d2l.refining.kept_states import KeptStates, Key

_BATCH = 16  # exercises that stand behind one opening at a time


class Teacher:
    """Refers exercises to what memories of single passages say. `shared` is what the adapter adds
    besides its seats."""

    def __init__(self, decoder: MemoryDecoder, shared: Shared | None = None) -> None:
        self._decoder, self._shared = decoder, shared
        self._kept = KeptStates(decoder.head)

    @torch.no_grad()
    def read(self, memory: Memory, exercises: Sequence[Exercise]) -> None:
        """Note what a passage's memory says to exercises; what another one said before stays."""
        new = [one for one in exercises if _key(one) not in self._kept]
        if not new:
            return
        device = self._decoder.device
        keys, values = (one.to(device, torch.float32) for one in (memory.keys, memory.values))
        opening = self._decoder.read_opening(keys, values, self._shared, leaks=False)
        for start in range(0, len(new), _BATCH):
            some = new[start : start + _BATCH]
            states = self._decoder.states(some, opening, self._shared)
            parts = torch.split(states, [len(one.answer) for one in some])
            self._kept.keep([_key(one) for one in some], parts)

    def refer(self, exercises: Sequence[Exercise]) -> list[Exercise]:
        """The same exercises, those that were read with the log-probabilities of then."""
        known = list(dict.fromkeys(key for key in map(_key, exercises) if key in self._kept))
        if not known:
            return list(exercises)
        references = dict(zip(known, self._kept.refer(known), strict=True))
        return [replace(one, reference=references.get(_key(one))) for one in exercises]


def _key(exercise: Exercise) -> Key:
    return exercise.prompt, exercise.answer
