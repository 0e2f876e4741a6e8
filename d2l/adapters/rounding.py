"""Rounding of a part's memory to four or eight bits a number, for its file, and back.

In eight bits, a channel of a layer has a scale. In four bits, a channel has a lowest value and a
step, in fp16: a number is a count of steps. The channels with the widest steps of all layers have
two bits more, since their errors move attention most. Four bits are enough for a base's KV cache;
the memories of trained networks lose too much in four bits (a KL of 2e-3).
"""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from d2l.errors import ShapeError
from d2l.files.tensors import TensorInfo

if TYPE_CHECKING:
    import torch

    from d2l.adapters.weights import Memory

Array: TypeAlias = np.ndarray[Any, Any]
#: A part's tensors in the file, by kind.
Stored: TypeAlias = dict[str, Array]

#: Channels for each wide channel: errors of keys cost more than errors of values.
_WIDE: Final = {"keys": 4, "values": 12}


def count_bytes(n_channels: int, n_seats: int, bits: int) -> int:
    """Count the bytes of a rounded memory; `n_channels`: channels of the keys, in all layers."""
    if bits == 8:
        return 2 * n_channels * (n_seats + 4)
    fine = sum(_count_wide(n_channels, name) // 4 for name in _WIDE)
    return n_seats * (n_channels + fine) + 8 * n_channels


def round_memory(memory: "Memory", bits: int) -> Stored:
    """Round keys and values (layers, seats, heads * dim) to tensors for a file. The rounding moves
    the next token's distribution by a KL of 1e-4 for networks' memories in eight bits, and of 5e-4
    (1.1e-3 at an answer's first token) for the KV cache of Qwen2.5-Coder-1.5B in four."""
    make = _round if bits == 4 else _round_to_eight
    keys, values = memory.keys.float().numpy(), memory.values.float().numpy()
    return make(keys, "keys") | make(values, "values")


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


def digest_rounded(tensors: "Mapping[str, Array | torch.Tensor]") -> str:
    """SHA-256 of a rounded memory, in hex: of types, shapes and bytes of its tensors."""
    digest = hashlib.sha256()
    for kind, tensor in sorted(tensors.items()):
        array = np.ascontiguousarray(tensor)
        digest.update(f"{kind} torch.{array.dtype} {list(array.shape)}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def restore_memory(tensors: Stored, dtype: "torch.dtype | type[np.float32]") -> "Memory":
    """Restore a memory from tensors of the types and shapes of `describe_rounded`, as torch's
    tensors of a type, or for numpy's as arrays. Raises ShapeError if they are not finite."""
    from d2l.adapters.weights import Memory

    restore = _restore if "keys_fine" in tensors else _restore_from_eight
    if not all(np.isfinite(tensors[f"{name}_scales"]).all() for name in _WIDE):
        raise ShapeError("values are not finite")
    memory = Memory(restore(tensors, "keys"), restore(tensors, "values"))
    if isinstance(dtype, type):
        return memory
    import torch

    keys, values = torch.from_numpy(memory.keys), torch.from_numpy(memory.values)
    return Memory(keys.to(dtype), values.to(dtype))


def _round_to_eight(values: Array, name: str) -> Stored:
    """Round to int8, with a scale in fp32 for each channel of a layer: some channels of keys are
    much larger than others."""
    scales = np.abs(values).max(axis=1).clip(1e-12) / np.float32(127)  # (layers, heads * dim)
    steps = (values / scales[:, None]).round().astype(np.int8)
    return {name: steps, f"{name}_scales": scales}


def _restore_from_eight(tensors: Stored, name: str) -> Array:
    """Restore keys or values that `_round_to_eight` rounded."""
    restored: Array = tensors[name].astype(np.float32) * tensors[f"{name}_scales"][:, None]
    return restored


def _round(values: Array, name: str) -> Stored:
    """Round to four bits: the counts of two channels in a byte (layers, seats, heads * dim / 2);
    lowest values and steps (2, layers, heads * dim); and the lower bits of four wide channels in a
    byte (wide / 4, seats)."""
    low = values.min(axis=1).astype(np.float16)  # (layers, heads * dim)
    step = ((values.max(axis=1) - low.astype(np.float32)) / np.float32(15)).clip(2**-24)
    step = step.astype(np.float16)
    scaled = (values - low[:, None].astype(np.float32)) / step[:, None].astype(np.float32)
    layers, channels = _find_wide(step, name)
    counts = scaled.round().clip(0, 15).astype(np.uint8)
    wide = (4 * scaled[layers, :, channels]).round().clip(0, 63).astype(np.uint8)  # (wide, seats)
    counts[layers, :, channels] = wide >> 2
    first, second = np.split(counts, 2, axis=2)
    quarters = np.split(wide & 3, 4)
    fine = quarters[0] | quarters[1] << 2 | quarters[2] << 4 | quarters[3] << 6
    return {
        name: first | second << 4,
        f"{name}_fine": fine,
        f"{name}_scales": np.stack((low, step)),
    }


def _restore(tensors: Stored, name: str) -> Array:
    """Restore keys or values, layer by layer: a layer fits into the processor's cache."""
    packed, scales, fine = (tensors[f"{name}{kind}"] for kind in ("", "_scales", "_fine"))
    n_layers, n_seats, n_bytes = packed.shape
    low, step = scales.astype(np.float32)
    layers, channels = _find_wide(scales[1], name)
    quarter = np.float32(0.25)
    lower = np.concatenate([fine >> bits & 3 for bits in (0, 2, 4, 6)]) * quarter  # (wide, seats)
    restored = np.empty((n_layers, n_seats, 2 * n_bytes), np.float32)
    for layer, counts in enumerate(restored):
        counts[:, :n_bytes], counts[:, n_bytes:] = packed[layer] & 15, packed[layer] >> 4
        own = layers == layer
        counts[:, channels[own]] += lower[own].T
        counts *= step[layer]
        counts += low[layer]
    return restored


def _count_wide(n_channels: int, name: str) -> int:
    return n_channels // _WIDE[name] // 4 * 4


def _find_wide(step: Array, name: str) -> tuple[Array, Array]:
    """Find the wide channels, in order: indices of layers, and of channels in a layer."""
    ordered = np.argsort(-step.reshape(-1).astype(np.float32), kind="stable")
    wide = np.sort(ordered[: _count_wide(step.size, name)])
    return wide // step.shape[1], wide % step.shape[1]
