"""How a gradient moves an adapter's numbers in refining, and how far.

Adam moves every number by the same, whatever its gradient is: of a memory also the seats that a
question does not read, and what these tell of everything else is lost. Here numbers move by their
part in the gradient, and all of them less the smaller it becomes, so that what is known is left
alone. A memory's gradient is mostly of what nearly every question reads, and its other directions
hardly move by it: there all directions of a layer move alike.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Singular values below this part of the largest are rounding: their squares come from products.
_NOTHING = 1e-6


class Descent:
    """Gradient descent with momentum, in units of the largest gradient that was seen so far: with
    it, a step of `rate` as the root mean square over all parameters.

    `orthogonal`: parameters are matrices (..., rows, columns), and each moves along the orthogonal
    matrix that is nearest to its gradient's mean, as Muon does (Jordan et al., 2024). Steps of
    torch's own Muon do not become smaller with the gradient, and spoil what is known by then
    (examples/recipes/LOG.md).
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        *,
        rate: float,
        momentum: float,
        warmup: int,
        orthogonal: bool = False,
    ) -> None:
        self._parameters = list(parameters)
        self._rate, self._momentum, self._warmup = rate, momentum, warmup
        self._orthogonal = orthogonal
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
        now = _root_mean_square(self._means) / (1 - self._momentum**self._steps)
        self._largest = max(self._largest, now)
        rate = self._rate * min(self._steps / self._warmup, 1.0) * now / self._largest
        ways = [_orthogonalize(mean) for mean in self._means] if self._orthogonal else self._means
        unit = _root_mean_square(ways)
        for way, one in zip(ways, self._parameters, strict=True):
            one.add_(way, alpha=-rate / unit)


def _orthogonalize(matrices: Tensor) -> Tensor:
    """Matrices (..., rows, columns) with each singular value 1, or 0 where there is next to nothing
    in its direction: their polar factors, by way of their columns' products."""
    wide = matrices.double()
    squares, directions = torch.linalg.eigh(wide.mT @ wide)
    sizes = squares.clamp_min(0).sqrt()  # the singular values, of all matrices
    inverse = torch.where(sizes > _NOTHING * sizes.amax(), 1 / sizes, 0.0)
    even: Tensor = wide @ (directions * inverse[..., None, :]) @ directions.mT
    return even.to(matrices.dtype)


def _root_mean_square(tensors: Sequence[Tensor]) -> float:
    total = sum(float(one.square().sum(dtype=torch.float64)) for one in tensors)
    return (total / sum(one.numel() for one in tensors)) ** 0.5 if tensors else 0.0
