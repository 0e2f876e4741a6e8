"""Rounding of a part's memory to four or eight bits a number, for its file, and back.

In eight bits, a channel of a layer has a scale. In four bits, a channel has a lowest value and a
step, in fp16: a number is a count of steps. The channels with the widest steps of all layers have
two bits more, since their errors move attention most. Four bits are enough for a base's KV cache;
the memories of trained networks lose too much in four bits (a KL of 2e-3).
"""

import hashlib
from typing import TYPE_CHECKING, Final

from d2l.errors import ShapeError
from d2l.files.tensors import TensorInfo, view_bytes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from d2l.adapters.weights import Memory

    #: A part's tensors in the file, by kind.
    Stored = dict[str, Tensor]

#: Channels for each wide channel: errors of keys cost more than errors of values.
_WIDE: Final = {"keys": 4, "values": 12}


def count_bytes(n_channels: int, n_seats: int, bits: int) -> int:
    """Count the bytes of a rounded memory; `n_channels`: channels of the keys, in all layers."""
    if bits == 8:
        return 2 * n_channels * (n_seats + 4)
    fine = sum(_count_wide(n_channels, name) // 4 for name in _WIDE)
    return n_seats * (n_channels + fine) + 8 * n_channels


def round_memory(memory: "Memory", bits: int) -> "Stored":
    """Round keys and values (layers, seats, heads * dim) to tensors for a file. The rounding moves
    the next token's distribution by a KL of 1e-4 for networks' memories in eight bits, and of 5e-4
    (1.1e-3 at an answer's first token) for the KV cache of Qwen2.5-Coder-1.5B in four."""
    make = _round if bits == 4 else _round_to_eight
    return make(memory.keys.float(), "keys") | make(memory.values.float(), "values")


def describe_rounded(bits: int, n_layers: int, n_seats: int, width: int) -> dict[str, TensorInfo]:
    """Types and shapes of a rounded memory's tensors, by kind; `width`: channels of a layer."""
    infos = {}
    for name in _WIDE:
        n_fine = _count_wide(n_layers * width, name) // 4
        if bits == 8:
            infos[name] = TensorInfo("I8", (n_layers, n_seats, width))
            infos[f"{name}_scales"] = TensorInfo("F32", (n_layers, width))
        else:
            infos[name] = TensorInfo("U8", (n_layers, n_seats, width // 2))
            infos[f"{name}_fine"] = TensorInfo("U8", (n_fine, n_seats))
            infos[f"{name}_scales"] = TensorInfo("F16", (2, n_layers, width))
    return infos


def digest_rounded(tensors: "Stored") -> str:
    """SHA-256 of a rounded memory, in hex: of types, shapes and bytes of its tensors."""
    digest = hashlib.sha256()
    for kind, tensor in sorted(tensors.items()):
        digest.update(f"{kind} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(view_bytes(tensor))
    return digest.hexdigest()


def restore_memory(tensors: "Stored", dtype: "torch.dtype") -> "Memory":
    """Restore a memory from tensors of the types and shapes of `describe_rounded`; raises
    ShapeError if they are not finite."""
    from d2l.adapters.weights import Memory

    restore = _restore if "keys_fine" in tensors else _restore_from_eight
    if not all(bool(tensors[f"{name}_scales"].isfinite().all()) for name in _WIDE):
        raise ShapeError("values are not finite")
    return Memory(restore(tensors, "keys", dtype), restore(tensors, "values", dtype))


def _round_to_eight(values: "Tensor", name: str) -> "Stored":
    """Round to int8, with a scale in fp32 for each channel of a layer: some channels of keys are
    much larger than others."""
    import torch

    scales = values.abs().amax(dim=1).clamp(min=1e-12) / 127  # (layers, heads * dim)
    steps = (values / scales[:, None]).round().to(torch.int8)
    return {name: steps, f"{name}_scales": scales}


def _restore_from_eight(tensors: "Stored", name: str, dtype: "torch.dtype") -> "Tensor":
    """Restore keys or values that `_round_to_eight` rounded."""
    steps, scales = tensors[name], tensors[f"{name}_scales"]
    return (steps.float() * scales[:, None]).to(dtype)


def _round(values: "Tensor", name: str) -> "Stored":
    """Round to four bits: the counts of two channels in a byte (layers, seats, heads * dim / 2);
    lowest values and steps (2, layers, heads * dim); and the lower bits of four wide channels in a
    byte (wide / 4, seats)."""
    import torch

    low, high = torch.aminmax(values, dim=1)  # (layers, heads * dim)
    low = low.half()
    step = ((high - low.float()) / 15).clamp(min=2**-24).half()
    scaled = (values - low[:, None].float()) / step[:, None].float()
    layers, channels = _find_wide(step, name)
    counts = scaled.round().clamp(0, 15).byte()
    wide = (4 * scaled[layers, :, channels]).round().clamp(0, 63).byte()  # (wide, seats)
    counts[layers, :, channels] = wide >> 2
    (first, second), quarters = counts.chunk(2, dim=2), (wide & 3).chunk(4)
    fine = quarters[0] | quarters[1] << 2 | quarters[2] << 4 | quarters[3] << 6
    return {
        name: first | second << 4,
        f"{name}_fine": fine,
        f"{name}_scales": torch.stack((low, step)),
    }


def _restore(tensors: "Stored", name: str, dtype: "torch.dtype") -> "Tensor":
    """Restore keys or values, layer by layer: a layer fits into the processor's cache."""
    import torch

    packed, scales, fine = (tensors[f"{name}{kind}"] for kind in ("", "_scales", "_fine"))
    n_layers, n_seats, n_bytes = packed.shape
    low, step = scales.float()
    layers, channels = _find_wide(scales[1], name)
    lower = torch.cat([fine >> bits & 3 for bits in (0, 2, 4, 6)]).float() / 4
    restored = torch.empty(n_layers, n_seats, 2 * n_bytes, dtype=dtype)
    for layer in range(n_layers):
        counts = torch.cat((packed[layer] & 15, packed[layer] >> 4), dim=1).float()
        own = layers == layer
        counts.index_add_(1, channels[own], lower[own].T)
        restored[layer] = torch.addcmul(low[layer], counts, step[layer])
    return restored


def _count_wide(n_channels: int, name: str) -> int:
    return n_channels // _WIDE[name] // 4 * 4


def _find_wide(step: "Tensor", name: str) -> "tuple[Tensor, Tensor]":
    """Find the wide channels, in order: indices of layers, and of channels in a layer."""
    ordered = step.flatten().float().argsort(descending=True, stable=True)
    wide = ordered[: _count_wide(step.numel(), name)].sort().values
    return wide // step.shape[1], wide % step.shape[1]
