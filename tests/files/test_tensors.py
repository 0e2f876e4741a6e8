"""What is said of weights files that are cut short, padded, damaged or something else."""

import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from d2l.errors import AdapterError, BaseModelError, CheckpointError
from d2l.files.tensors import TensorFile, TensorInfo, find_tensors, read_header, read_tensors
from tests.adapters.test_info import HINT_AGAIN, change_header, write_adapter
from tests.processes import list_imported, run_python


@pytest.mark.parametrize("data", [b"<html>404</html>", b"\xff" * 4096, b"PK\3\4" * 99, 0, 7, 9, 60])
def test_another_file_or_half_a_header_is_one_clear_error(
    data: bytes | int, tmp_path: Path
) -> None:
    path = write_adapter(tmp_path / "a") / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:data] if isinstance(data, int) else data)
    with pytest.raises(AdapterError) as caught:
        read_header(path)
    size = f"{path.stat().st_size:,}"
    assert caught.value.message == f"{path}: not a safetensors file, or cut short ({size} bytes)"
    assert caught.value.hint == HINT_AGAIN


@pytest.mark.parametrize("change", [-20, -1, 1, 500])
def test_a_truncated_or_padded_file_is_one_clear_error(change: int, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a") / "adapter_model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + bytes(change))
    with pytest.raises(AdapterError) as caught:
        read_header(path)
    size = len(data) + change
    assert caught.value.message == f"{path}: cut short or padded ({size:,} bytes)"
    assert caught.value.hint == HINT_AGAIN


def test_a_header_that_is_most_of_a_large_file_is_not_read(tmp_path: Path) -> None:
    """In memory it would take some twenty times its size."""
    path = tmp_path / "adapter_model.safetensors"
    save_file({"a": torch.zeros(9)}, path, {f"{n:x}": "" for n in range(200_000)})
    with pytest.raises(AdapterError, match="not a safetensors file"):
        read_header(path)
    with path.open("wb") as file:  # a sparse file: its header would be of 20 MB
        file.write(struct.pack("<Q", 20_000_000))
        file.truncate(30_000_000)
    with pytest.raises(AdapterError, match="not a safetensors file"):
        read_header(path)


def set_field(field: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(header: dict[str, Any]) -> dict[str, Any]:
        header["x.lora_A.weight"][field] = value
        return header

    return change


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "not JSON": lambda _: b"{" * 50,
    "not UTF-8": lambda _: b"\xff" * 50,
    "a list": lambda _: [1, 2],
    "nested without end": lambda _: b"[" * 100_000,
    "a tensor that is no object": lambda header: header | {"x.lora_A.weight": 5},
    "no offsets": lambda header: header | {"x.lora_A.weight": {"dtype": "F32", "shape": [2, 5]}},
    "another type": set_field("dtype", "F16"),
    "another shape": set_field("shape", [5, 5]),
    "shape of text": set_field("shape", "25"),
    "negative sizes": set_field("shape", [-2, -5]),
    "sizes that are no integers": set_field("shape", [2.0, 5.0]),
    "offsets of text": set_field("data_offsets", ["0", "40"]),
    "three offsets": set_field("data_offsets", [0, 40, 52]),
    "negative offsets": set_field("data_offsets", [-40, 0]),
    "a gap": set_field("data_offsets", [4, 44]),
    "an overlap": set_field("data_offsets", [0, 44]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_header_is_one_clear_error(
    damage: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    path = write_adapter(tmp_path / "a") / "adapter_model.safetensors"
    change_header(path, damage)
    with pytest.raises(AdapterError) as caught:
        read_header(path)
    assert caught.value.message == f"{path}: the safetensors header is damaged"
    assert caught.value.hint == HINT_AGAIN


#: Bits of a value by its type: all that safetensors 0.8 has.
BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8}
BITS |= {"F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32}
BITS |= {"U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64}


@pytest.mark.parametrize("dtype", BITS)
def test_every_type_of_the_format_is_read(dtype: str, tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.safetensors", dtype, BITS[dtype])
    assert read_header(path) == {"x": TensorInfo(dtype, (2, 4))}


def test_a_type_of_the_future_is_not_called_damage(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.safetensors", "Q4_1", 4)
    with pytest.raises(AdapterError, match="holds values of a type that safetensors") as caught:
        read_header(path)
    assert caught.value.hint == "pip install --upgrade safetensors"


def write_one(path: Path, dtype: str, bits: int) -> Path:
    """A file of one tensor of 2 by 4 values, whatever their type."""
    header = json.dumps({"x": {"dtype": dtype, "shape": [2, 4], "data_offsets": [0, bits]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(bits))
    return path


def test_reading_a_header_imports_no_torch(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.safetensors", "F32", 32)
    code = "from pathlib import Path\nfrom d2l.files.tensors import read_header\n"
    assert not list_imported(f"{code}read_header(Path({str(path)!r}))", "torch")


def test_tensors_are_read_or_one_line_says_why_not(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(3.0)}, path, {"kind": "test"})
    assert read_tensors(path, BaseModelError)["a"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BaseModelError) as caught:
        read_tensors(path, BaseModelError, says="is no checkpoint", hint="fetch it again")
    assert caught.value.message.startswith(f"{path}: is no checkpoint (")
    assert caught.value.hint == "fetch it again"
    path.unlink()
    with pytest.raises(CheckpointError, match=r"cannot be read \("):
        read_tensors(path, CheckpointError)


def test_tensors_are_whole_though_their_file_is_cut_afterwards(tmp_path: Path) -> None:
    """Of a mapped file, the process would end with SIGBUS."""
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(999, 99)}, path)
    tensors = read_tensors(path, AdapterError)
    os.truncate(path, 0)
    assert float(tensors["a"].sum()) == 999 * 99


def test_a_removed_file_that_was_cut_before_is_no_tensor_of_chance(tmp_path: Path) -> None:
    """Nobody else can change a removed file, so only the number of bytes tells."""
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(999, 99)}, path)
    file = TensorFile(path)
    os.truncate(path, 5_000)
    path.unlink()
    with pytest.raises(SafetensorError, match="is cut short"):
        file.read(["a"])


def test_the_digest_is_of_what_was_read(tmp_path: Path) -> None:
    """The file has its tensors in another order than that of their names."""
    path = tmp_path / "a.safetensors"
    save_file({"b": torch.ones(3), "a": torch.zeros(0), "c": torch.ones(5).half()}, path)
    file = TensorFile(path)
    tensors = file.read(sorted(file.infos))
    assert file.digest(tensors) == hashlib.sha256(path.read_bytes()).hexdigest()
    tensors["b"][1] = 2
    assert file.digest(tensors) != hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_was_kept_is_found_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "kept.safetensors"
    assert find_tensors(path) is None
    save_file({"a": torch.arange(3.0)}, path, {"of": "these texts"})
    kept = find_tensors(path)
    assert kept is not None
    assert (kept[0]["a"].tolist(), kept[1]) == ([0, 1, 2], {"of": "these texts"})
    save_file({"a": torch.arange(3.0)}, path)
    assert (find_tensors(path) or ({}, None))[1] == {}
    for damaged in (path.read_bytes()[:-1], b"", b"\0" * 99):
        path.write_bytes(damaged)
        assert find_tensors(path) is None


def test_reading_tensors_takes_no_more_memory_than_they_have(tmp_path: Path) -> None:
    save_file({name: torch.ones(1 << 22) for name in "abcd"}, tmp_path / "a.safetensors")
    (tmp_path / "run.py").write_text(READING)
    done = run_python("run.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1.2 * (1 << 26)


#: Prints the bytes by which reading a file raises the peak.
READING = """
import re
from pathlib import Path
import torch
from d2l.errors import AdapterError
from d2l.files.tensors import read_tensors
def peak(): return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1])
status, kept = Path("/proc/self/status"), torch.ones(1 << 20)
before = peak()
tensors = read_tensors(Path("a.safetensors"), AdapterError)
print(peak() - before)
"""
