"""How a gradient moves an adapter's numbers in refining: along it, by its size.

Adam moves every number by the same, whatever its gradient is: of a memory also the seats that a
question does not read, and what these tell of everything else is lost. Here numbers move by their
part in the gradient, and all of them less the smaller it becomes, so that what is known is left
alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Descent:
    """Gradient descent with momentum, in units of the largest gradient that was seen so far: with
    it, a step of `rate` as the root mean square over all parameters."""

    def __init__(
        self, parameters: Sequence[nn.Parameter], *, rate: float, momentum: float, warmup: int
    ) -> None:
        self._parameters = list(parameters)
        self._rate, self._momentum, self._warmup = rate, momentum, warmup
        self._means = [torch.zeros_like(one) for one in self._parameters]
        self._steps, self._largest = 0, 0.0

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for one in self._parameters:
            one.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One update; where the gradient is not finite or there is none, none."""
        moving = [one for one in self._parameters if one.grad is not None]
        gradients = [one.grad for one in moving]
        size = _root_mean_square([one for one in gradients if one is not None])
        if not 0 < size < float("inf"):
            return
        self._steps += 1
        for mean, one in zip(self._means, self._parameters, strict=True):
            if one.grad is not None:
                mean.lerp_(one.grad, 1 - self._momentum)
        correction = 1 - self._momentum**self._steps
        now = _root_mean_square(self._means) / correction
        self._largest = max(self._largest, now)
        rate = self._rate * min(self._steps / self._warmup, 1.0)
        for mean, one in zip(self._means, self._parameters, strict=True):
            one.add_(mean, alpha=-rate / (correction * self._largest))


def _root_mean_square(tensors: Sequence[Tensor]) -> float:
    total = sum(float(one.square().sum(dtype=torch.float64)) for one in tensors)
    return (total / sum(one.numel() for one in tensors)) ** 0.5 if tensors else 0.0
