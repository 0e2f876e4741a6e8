"""What was said once to exercises that come again: states are kept, and read out when asked.

What a head makes of states is a hundred and more times as large as they are, and costs little.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

#: Prompt and answer, as token ids.
Key = tuple[tuple[int, ...], tuple[int, ...]]


class KeptStates:
    """States (tokens, hidden) before every token of answers; `read_out` makes logits of them."""

    def __init__(self, read_out: Callable[[Tensor], Tensor]) -> None:
        self._read_out = read_out
        self._states: dict[Key, Tensor] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._states

    def keep(self, keys: Sequence[Key], states: Iterable[Tensor]) -> None:
        """Keep the states of each key."""
        # A copy: a slice would hold on to all that was computed beside it.
        self._states |= {key: rows.clone() for key, rows in zip(keys, states, strict=True)}

    @torch.no_grad()
    def refer(self, keys: Sequence[Key]) -> list[Tensor]:
        """Log-probabilities (tokens, vocabulary) for each of these keys, all of which are kept."""
        states = [self._states[key] for key in keys]
        if not states:
            return []
        rows = self._read_out(torch.cat(states)).float().log_softmax(dim=-1)
        return list(torch.split(rows, [len(one) for one in states]))
