"""The package's own checkpoint folder, and checked reading of the two files in it.

`config.json` holds a header (format, version, kind) and the fields of one network's
configuration; `model.safetensors` holds its tensors. Takes paths, gives plain values and tensors;
does not know what the fields or the tensors mean.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from d2l.errors import CheckpointError
from d2l.files import tensors as files
from d2l.hypernets.formats.showing import show

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT = "d2l"
VERSION = 1

# A configuration is a few kilobytes; anything much larger is not one.
MAX_CONFIG_BYTES = 1 << 20

DTYPES = frozenset(
    {torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.int8}
)

FETCH_AGAIN = "the file is damaged or its download was cut short: fetch it again"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name before the message of any checkpoint error raised inside."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.message}", hint=error.hint) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object; every failure names the file and what was expected of it."""
    with naming(path):
        if not path.is_file():
            raise CheckpointError("no such file", hint="is this the folder of a checkpoint?")
        size_bytes = path.stat().st_size
        if size_bytes > MAX_CONFIG_BYTES:
            raise CheckpointError(
                f"{size_bytes} bytes, expected at most {MAX_CONFIG_BYTES} of a configuration"
            )
        try:
            text = path.read_bytes().decode("utf-8")
            values = json.loads(text, parse_constant=_refuse_constant, parse_int=_read_int)
        except RecursionError as error:
            raise CheckpointError("is nested too deeply for a configuration") from error
        except ValueError as error:  # covers broken JSON and broken UTF-8
            raise CheckpointError(f"is not valid JSON ({error})", hint=FETCH_AGAIN) from error
        if not isinstance(values, dict):
            raise CheckpointError(f"expected a JSON object, got {type(values).__name__}")
        return values


def read_fields(folder: Path, kind: str) -> dict[str, object]:
    """Read a native folder's configuration, without the header that it must have."""
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
    """Read every tensor of a safetensors file onto the CPU; the bytes stay memory-mapped."""
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
    """Refuse tensors that are not exactly the expected ones, by name and by shape."""
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


def write_folder(
    folder: Path, kind: str, fields: Mapping[str, object], tensors: Mapping[str, Tensor]
) -> None:
    """Write both files into an existing folder; the same input gives the same bytes."""
    header = {"format": FORMAT, "version": VERSION, "kind": kind}
    text = json.dumps(header | dict(fields), indent=2, ensure_ascii=False) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    save_file(_unshare(tensors), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors makes its files private


def _unshare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy what shares memory, as layers of a shared perceiver do: safetensors refuses it."""
    owned: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        whole = tensor.is_contiguous() and storage.nbytes() == tensor.nbytes
        owned[name] = tensor if whole and storage.data_ptr() not in seen else _copy(tensor)
        seen.add(storage.data_ptr())
    return owned


def _copy(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def _first(items: Sequence[str]) -> str:
    """Name the first of many, and say how many more there are."""
    first = show(items[0])[1:-1]
    return first if len(items) == 1 else f"{first} (and {len(items) - 1} more)"


def _read_int(digits: str) -> int:
    if len(digits) > 20:  # more than any count has, and maybe more than a float can hold
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


UNUSABLE = "the original code cannot run it either, or never released one like it"
