"""The package's own checkpoint folder, and checked reading of the two files in it.

`config.json` holds a header (format, version, kind) and the fields of one network's
configuration; `model.safetensors` holds its tensors, plain or compact.

A compact file stores a matrix `NAME` (two dimensions, its name ends in `.weight`) as int8, with
`NAME.row_scale`, fp32, one for each row: weight = int8 * row_scale. Other tensors (biases, norms,
tables, sharpness) are stored unchanged. Of Text-to-LoRA networks the first layer, which contains
the deviations of embeddings, stays exact, too. Their offsets of adapters, a matrix for each layer
in one tensor, are 8-bit rows; older files store them in bf16.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from d2l.errors import CheckpointError
from d2l.files import tensors as files
from d2l.hypernets.formats.fields import FETCH_AGAIN, naming, read_json, show

Network = TypeVar("Network", bound=nn.Module)
Config = TypeVar("Config")

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT = "d2l"
VERSION = 1

DTYPES = frozenset(
    {torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.int8}
)

# Names in a compact file, and the largest step: symmetric, so -128 is never used.
_SCALE = ".row_scale"
_TEXT_EXACT = "task_encoder."
_TEXT_OFFSETS = "AB_offset."
_LARGEST = 127

UNUSABLE = "the original code cannot run it either, or never released one like it"


def read_fields(folder: Path, kind: str) -> dict[str, object]:
    """Read a native folder's configuration, and check its header."""
    path = folder / CONFIG_FILE
    values = read_json(path)
    expected = {"format": FORMAT, "version": VERSION, "kind": kind}
    for name, value in expected.items():
        got = values.pop(name, None)
        if type(got) is not type(value) or got != value:
            raise CheckpointError(
                f"{path}: {name} is {show(got)}, expected {show(value)}",
                hint="a newer d2l may read it" if name == "version" else None,
            )
    return values


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file onto the CPU, not mapped."""
    with naming(path):
        if not path.is_file():
            raise CheckpointError("no such file", hint="is this the folder of a checkpoint?")
    whole = "is not a complete safetensors file"
    tensors = files.read_tensors(path, CheckpointError, says=whole, hint=FETCH_AGAIN)
    with naming(path):
        for name, tensor in tensors.items():
            if tensor.dtype not in DTYPES:
                raise CheckpointError(f"{name} has type {tensor.dtype}, expected float32 or alike")
    return dict(sorted(tensors.items()))


def check_shapes(got: Mapping[str, Sequence[int]], expected: Mapping[str, Sequence[int]]) -> None:
    """Raise CheckpointError unless names and shapes of tensors are the expected ones."""
    missing = sorted(expected.keys() - got.keys())
    unexpected = sorted(got.keys() - expected.keys())
    wrong = [
        f"{name} is {tuple(got[name])}, expected {tuple(expected[name])}"
        for name in sorted(expected.keys() & got.keys())
        if tuple(got[name]) != tuple(expected[name])
    ]
    found = [
        f"{what} {_first(items)}"
        for what, items in (("missing", missing), ("unexpected", unexpected), ("shape", wrong))
        if items
    ]
    if found:
        raise CheckpointError(
            "tensors do not fit the configuration: " + "; ".join(found),
            hint="are the weights and the configuration of the same checkpoint?",
        )


def fill(
    network: Network, tensors: Mapping[str, Tensor], cast: Callable[[str, Tensor], Tensor]
) -> Network:
    """Give a network on the meta device exactly these tensors, each cast, and freeze it; raises
    CheckpointError for other names, shapes or types."""
    check_shapes(get_shapes(tensors), get_shapes(network.state_dict()))
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise CheckpointError(f"{name} is {tensor.dtype}, expected a float type")
    owned = {name: cast(name, tensor) for name, tensor in tensors.items()}
    network.load_state_dict(owned, strict=True, assign=True)
    return network.requires_grad_(False).eval()


def make_empty(build: Callable[[Config], Network], config: Config) -> Network:
    """Make a network without values, for its shapes or to be filled; allocates nothing."""
    with torch.device("meta"):
        return build(config)


def get_shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor, by its name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for NaN or infinite values."""
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    broken = [name for name, tensor in floats.items() if not bool(files.all_finite(tensor))]
    if broken:
        raise CheckpointError(f"NaN or infinite values in {_first(broken)}", hint=FETCH_AGAIN)


def write_folder(
    folder: Path, kind: str, fields: Mapping[str, object], tensors: Mapping[str, Tensor]
) -> None:
    """Write both files into an existing folder; the same values give the same bytes."""
    header = {"format": FORMAT, "version": VERSION, "kind": kind}
    text = json.dumps(header | dict(fields), indent=2, ensure_ascii=False) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    save_file(_unshare(tensors), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors makes its files private


def _unshare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory, like layers of a shared perceiver: safetensors refuses
    them."""
    owned: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        whole = tensor.is_contiguous() and storage.nbytes() == tensor.nbytes
        owned[name] = (
            tensor
            if whole and storage.data_ptr() not in seen
            else tensor.clone(memory_format=torch.contiguous_format)
        )
        seen.add(storage.data_ptr())
    return owned


def _first(items: Sequence[str]) -> str:
    """Name the first of many, and count the others."""
    first = show(items[0])[1:-1]
    return first if len(items) == 1 else f"{first} (and {len(items) - 1} more)"


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a matrix (d_out, d_in), or several (layers, d_out, d_in), to int8 and one fp32 scale a
    row, (d_out,) or (layers, d_out).

    The error is at most half a step: half a row's largest absolute value over 127.
    """
    exact = weight.to(torch.float32)
    largest = exact.abs().amax(dim=-1)
    scale = torch.where(largest > 0, largest / _LARGEST, torch.ones_like(largest))
    steps = (exact / scale[..., None]).round().clamp(-_LARGEST, _LARGEST)
    return steps.to(torch.int8), scale


def dequantize_rows(steps: Tensor, scale: Tensor) -> Tensor:
    """Multiply out a matrix in fp32, or several, from int8 steps and the scale of each row."""
    return steps.to(torch.float32) * scale.to(torch.float32)[..., None]


def compact_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace every matrix by its 8-bit form; other tensors stay unchanged."""
    result = {}
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and name.endswith(".weight"):
            result[name], result[name + _SCALE] = quantize_rows(tensor)
        else:
            result[name] = tensor
    return result


def compact_text(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compact a Text-to-LoRA network's tensors."""
    exact = {name: tensor for name, tensor in tensors.items() if name.startswith(_TEXT_EXACT)}
    offsets = {name: t for name, t in tensors.items() if name.startswith(_TEXT_OFFSETS)}
    others = {n: t for n, t in tensors.items() if n not in exact and n not in offsets}
    result = compact_tensors(others) | exact
    for name, tensor in offsets.items():  # (layers, rank, d_in) or (layers, d_out, rank)
        result[name], result[name + _SCALE] = quantize_rows(tensor)
    return result


def is_compact(tensors: Mapping[str, Tensor]) -> bool:
    """True if a file's tensors are those of a compact file."""
    return any(name.endswith(_SCALE) or t.dtype == torch.int8 for name, t in tensors.items())


def expand_tensors(tensors: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """Turn all tensors into fp32, and multiply out 8-bit matrices; `source` names the file in
    errors."""
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
    tensors = read_tensors(path)
    with naming(path):
        check_finite(tensors)
    return expand_tensors(tensors, source=str(path))
