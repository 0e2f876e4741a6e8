"""The compact form of a network's weights: 8-bit matrices with one scale a row.

A weights file in, fp32 tensors out, plain and compact files alike; and the other way round.
Knows nothing of networks: names and shapes are compared by who asks.

A compact file is an ordinary safetensors file. A matrix `NAME` (two dimensions, its name ends in
`.weight`) is stored as int8 under its own name, with `NAME.row_scale`, fp32, one for each row:
weight = int8 * row_scale. All else (biases, norms, tables, sharpness) is stored as it was; of
Text-to-LoRA networks also the first layer, into which the deviations of embeddings are folded.
Their offsets of adapters, a matrix for each layer in one tensor, are 8-bit rows, too; in older
files they are bf16.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from d2l.errors import CheckpointError
from d2l.files.tensors import read_tensors

_SCALE = ".row_scale"
_TEXT_EXACT = "task_encoder."
_TEXT_OFFSETS = "AB_offset."
_LARGEST = 127  # symmetric: -128 is never used


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a matrix (d_out, d_in), or several (layers, d_out, d_in), to int8 and one fp32 scale a
    row, (d_out,) or (layers, d_out).

    Off by half a step at most: half a row's largest absolute value over 127.
    """
    exact = weight.to(torch.float32)
    largest = exact.abs().amax(dim=-1)
    scale = torch.where(largest > 0, largest / _LARGEST, torch.ones_like(largest))
    steps = (exact / scale[..., None]).round().clamp(-_LARGEST, _LARGEST)
    return steps.to(torch.int8), scale


def dequantize_rows(steps: Tensor, scale: Tensor) -> Tensor:
    """The same matrix in fp32, or several, from int8 steps and the scale of each row."""
    return steps.to(torch.float32) * scale.to(torch.float32)[..., None]


def compact_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace every matrix by its 8-bit form; the rest is passed on as it is."""
    result = {}
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and name.endswith(".weight"):
            result[name], result[name + _SCALE] = quantize_rows(tensor)
        else:
            result[name] = tensor
    return result


def compact_text(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same for a Text-to-LoRA network's tensors."""
    exact = {name: tensor for name, tensor in tensors.items() if name.startswith(_TEXT_EXACT)}
    offsets = {name: t for name, t in tensors.items() if name.startswith(_TEXT_OFFSETS)}
    others = {n: t for n, t in tensors.items() if n not in exact and n not in offsets}
    result = compact_tensors(others) | exact
    for name, tensor in offsets.items():  # (layers, rank, d_in) or (layers, d_out, rank)
        result[name], result[name + _SCALE] = quantize_rows(tensor)
    return result


def is_compact(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file's tensors are those of a compact file."""
    return any(name.endswith(_SCALE) or t.dtype == torch.int8 for name, t in tensors.items())


def expand_tensors(tensors: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """All tensors in fp32, 8-bit matrices multiplied out; `source` names the file in errors."""
    result = {}
    for name, tensor in tensors.items():
        scale = tensors.get(name + _SCALE)
        if name.endswith(_SCALE):
            if name.removesuffix(_SCALE) not in tensors:
                raise CheckpointError(f"{source}: {name} belongs to no tensor")
        elif tensor.dtype == torch.int8 and scale is None:
            raise CheckpointError(f"{source}: {name} is 8-bit, but {name + _SCALE} is missing")
        elif tensor.dtype != torch.int8 and (scale is not None or not tensor.is_floating_point()):
            raise CheckpointError(
                f"{source}: {name} holds {tensor.dtype}, expected floating point, or int8 with "
                f"{name + _SCALE}"
            )
        elif scale is None:
            result[name] = tensor.to(torch.float32)
        elif tensor.ndim in (2, 3) and scale.shape == tensor.shape[:-1]:
            result[name] = dequantize_rows(tensor, scale)
        else:
            raise CheckpointError(
                f"{source}: {name + _SCALE} has shape {tuple(scale.shape)}, expected one value "
                f"for each row of {name} {tuple(tensor.shape)}"
            )
    return result


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a plain or compact weights file into fp32 tensors on the CPU."""
    return expand_tensors(read_file(path), source=str(path))


def read_file(path: Path) -> dict[str, Tensor]:
    """Tensors of one of a seats checkpoint's files, as they are stored; raises CheckpointError."""
    hint = "a seats checkpoint holds config.json, model.safetensors, statistics.safetensors"
    return read_tensors(path, CheckpointError, says="cannot be read as safetensors", hint=hint)
