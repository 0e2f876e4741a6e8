"""What a memory is asked in training: a prompt behind its opening, and the answer it should get."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Exercise:
    """What follows the opening, and the answer it should get, end token included.

    Where there is a `reference`, log-probabilities (tokens, vocabulary) before each token of the
    answer, these are its target. A `general` one has nothing to do with a document: its reference
    is the base's own, which a silent memory must not move. Any other counts `weight` times, and of
    its tokens the last `end_weight` times.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    general: bool = False
    reference: Tensor | None = None
    weight: float = 1.0
    end_weight: float = 1.0
