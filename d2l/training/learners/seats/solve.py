"""A of a memory, solved with gradients.

The same A as `hypernets.seats.seating.solve_answers` gives, from states of the opening's tokens in
a layer; here for one layer at a time, on the base's device, and mostly in fp32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from d2l.hypernets.seats.seating import soften
from d2l.hypernets.seats.second_moments import Statistics


@dataclass(frozen=True)
class Solved:
    """A of seats (…, seats, d_in), and P (…, seats, seats), their response to ordinary text."""

    answers: Tensor
    leak: Tensor


def impose(
    given: Sequence[Tensor], wanted: Sequence[Tensor], leak: Tensor, *, ridge: float
) -> list[tuple[Tensor, Tensor]]:
    """Compute the outputs of seats, and their changes (columns of B): of keys, then of values.

    `given` are keys and values (…, tokens, kv_heads * head_dim) of tokens that begin with the
    opening, `wanted` those of its seats, whose precision the results have; `leak` is P. Values give
    way by `ridge`, as in seating.
    """
    n = leak.shape[-1]
    pairs = []
    for imposed, outputs, slack in zip(wanted, given, (0.0, ridge), strict=True):
        own = outputs[..., 1 : n + 1, :].to(imposed.dtype)
        lacking = imposed - own
        if slack:
            lacking = soften(lacking, leak.to(lacking.dtype), ridge=slack)
            pairs.append((own + lacking, lacking))
        else:  # exactly: own + lacking would add rounding, to the gradient too
            pairs.append((imposed, lacking))
    return pairs


class Solver:
    """Solver with a base's second moments. `epsilon`: the network's `solve_epsilon`; `like`: a
    tensor of the base, for the precision and device of the solution."""

    def __init__(self, statistics: Statistics, *, epsilon: float, like: Tensor) -> None:
        self._cholesky, self._epsilon = statistics.cholesky, epsilon
        self._precise, self._device = like.dtype == torch.float32, like.device

    @cached_property
    def _whitening(self) -> Tensor:
        """Inverses of the second moments' Cholesky factors: (layers, d_in, d_in).

        fp32 for a base in less than fp32, whose rounding moves logits more; float64 otherwise.
        """
        identity = torch.eye(self._cholesky.shape[-1], dtype=self._cholesky.dtype)
        inverse: Tensor = torch.linalg.solve_triangular(
            self._cholesky, identity.expand_as(self._cholesky), upper=False
        )
        return inverse.to(self._device, torch.float64 if self._precise else torch.float32)

    def solve(self, opening: Tensor, at: int) -> Solved:
        """Solve for A of openings' states (…, tokens, d_in) in the `at`th layer with seats."""
        whitening = self._whitening[at]
        whitened = opening.to(whitening.dtype) @ whitening.T  # (…, tokens, d_in)
        exact = whitened.to(torch.float64)
        gram = exact @ exact.mT  # (…, tokens, tokens)
        gram.diagonal(dim1=-2, dim2=-1).add_(self._epsilon)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram)).to(whitened.dtype)
        answers = inverse[..., 1:, :] @ whitened @ whitening
        return Solved(answers, inverse[..., 1:, 1:])
