"""NF4 with double quantization: round weights to those of a 4-bit base, without a special kernel.

The networks of SakanaAI/doc-to-lora were trained on activations of such a base.
Sources: QLoRA (Dettmers et al., 2023), section 3; bitsandbytes, functional.py (quantize_4bit,
create_dynamic_map).
"""

from functools import cache

import torch
from torch import Tensor, nn

#: Values that share a maximum, and maxima that share another.
_BLOCK, _MAXIMA = 64, 256
#: Quantiles of a normal distribution, scaled to [-1, 1].
_CODE = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)


@torch.no_grad()
def round_linears(model: nn.Module) -> None:
    """Round the weights of all linear layers in place; their dtype and device stay."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.copy_(round_trip(module.weight))


def round_trip(weight: Tensor) -> Tensor:
    """Round a matrix to NF4, in bf16: blocks of 64 along its rows, scaled by their maxima."""
    values = weight.to(torch.bfloat16).float().flatten()
    blocks = _fold(values, _BLOCK)
    maxima = blocks.abs().amax(dim=1)
    code = torch.tensor(_CODE, device=weight.device)
    scaled = blocks / maxima.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    rounded = code[_nearest(scaled, code)] * _round_maxima(maxima)[:, None]
    return rounded.flatten()[: values.numel()].view(weight.shape).to(torch.bfloat16)


def _round_maxima(maxima: Tensor) -> Tensor:
    """Round the blocks' maxima (blocks,) to 8 bits: less their mean, in blocks of 256."""
    mean, code = maxima.mean(), _dynamic_code().to(maxima.device)
    blocks = _fold(maxima - mean, _MAXIMA)
    most = blocks.abs().amax(dim=1, keepdim=True)
    scaled = blocks / most.clamp_min(torch.finfo(torch.float32).tiny)
    return (code[_nearest(scaled, code)] * most).flatten()[: maxima.numel()] + mean


def _fold(values: Tensor, size: int) -> Tensor:
    """Fold values (n,) into (blocks, size), padded with zeros."""
    return nn.functional.pad(values, (0, -values.numel() % size)).view(-1, size)


def _nearest(values: Tensor, code: Tensor) -> Tensor:
    """Indices of the nearest entries of a sorted code."""
    return torch.bucketize(values, (code[:-1] + code[1:]) / 2)


@cache
def _dynamic_code() -> Tensor:
    """The 256 values of the signed dynamic map: powers of ten times evenly spaced fractions, twice
    as many with each power."""
    values = [0.0, 1.0]
    for exponent in range(7):
        borders = torch.linspace(0.1, 1, 2**exponent + 1)
        fractions = (borders[:-1] + borders[1:]) / 2 * 10.0 ** (exponent - 6)
        values += [*fractions.tolist(), *(-fractions).tolist()]
    return torch.tensor(sorted(values))
