import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from d2l.adapters.info import TensorInfo, is_adapter, read_header, read_info
from d2l.errors import AdapterError

HINT_AGAIN = "compile the document again"
TENSORS = {
    "x.lora_A.weight": torch.ones(2, 5),
    "x.lora_B.weight": torch.ones(3, 2, dtype=torch.bfloat16),
}


def write_adapter(folder: Path, **files: Any) -> Path:
    """A folder that another tool could have written; `files` are further JSON files."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 2, "peft_type": "LORA"}')
    save_file(TENSORS, folder / "adapter_model.safetensors", {"format": "pt"})
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def change_header(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Replace a safetensors header by what `change` makes of it, lengths kept right."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    changed = change(json.loads(data[8 : 8 + length]))
    raw = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data[8 + length :])


def test_everything_but_the_weights_is_read(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", d2l={"format": 1, "rank": 2})
    info = read_info(folder)
    assert (info.folder, info.rank) == (folder, 2)
    assert info.config == {"r": 2, "peft_type": "LORA"}
    assert info.provenance == {"format": 1, "rank": 2}
    assert info.tensors == {
        "x.lora_A.weight": TensorInfo("F32", (2, 5)),
        "x.lora_B.weight": TensorInfo("BF16", (3, 2)),
    }
    assert info.size_bytes == sum(len(path.read_bytes()) for path in folder.iterdir())


def test_adapters_of_other_tools_have_no_provenance(tmp_path: Path) -> None:
    assert read_info(write_adapter(tmp_path / "a")).provenance is None


def test_rank_is_0_where_the_config_declares_none(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", adapter_config={"peft_type": "IA3"})
    assert read_info(folder).rank == 0


@pytest.mark.parametrize("rank", ["2", None, 2.5, True, [2]])
def test_a_rank_that_is_no_whole_number_is_one_clear_error(rank: Any, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", adapter_config={"r": rank})
    with pytest.raises(AdapterError) as caught:
        _ = read_info(folder).rank
    where = folder / "adapter_config.json"
    assert caught.value.message == f"{where}: r is {rank!r}, expected a whole number"


def test_torch_is_not_imported() -> None:
    code = (
        "import sys; import d2l.adapters.info; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- what is not an adapter ---------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "no", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        with pytest.raises(AdapterError) as caught:
            read_info(path)
        assert caught.value.message == f"{path}: no such adapter folder"
        assert caught.value.hint == "make one with `d2l compile DOCUMENT -o ADAPTER`"


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_without_one_of_the_two_files_is_no_adapter(missing: str, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    assert is_adapter(folder)
    (folder / missing).unlink()
    assert not is_adapter(folder)
    with pytest.raises(AdapterError) as caught:
        read_info(folder)
    assert caught.value.message == (
        f"{folder}: not an adapter (adapter_config.json and adapter_model.safetensors are needed)"
    )
    assert caught.value.hint == "name the folder that `d2l compile` wrote"


def test_a_name_that_no_file_can_have_is_one_clear_error() -> None:
    name = "How often is the filter rinsed? " * 20
    with pytest.raises(AdapterError) as caught:
        read_info(Path(name))
    # Python 3.14 says that there is no such folder, older ones what the system said.
    reasons = ("cannot be read (File name too long)", "no such adapter folder")
    assert caught.value.message in [f"{name}: {reason}" for reason in reasons]


@pytest.mark.parametrize("name", ["adapter_config.json", "d2l.json"])
@pytest.mark.parametrize("data", [b"", b"{", b"\xff{}", b"[" * 100_000], ids=range(4))
def test_files_that_are_not_json_are_named(name: str, data: bytes, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / name).write_bytes(data)
    with pytest.raises(AdapterError) as caught:
        read_info(folder)
    assert caught.value.message == f"{folder / name}: not readable as JSON"
    assert caught.value.hint


@pytest.mark.parametrize("name", ["adapter_config", "d2l"])
def test_json_that_is_no_object_is_named(name: str, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", **{name: [1]})
    with pytest.raises(AdapterError) as caught:
        read_info(folder)
    assert caught.value.message == f"{folder / name}.json: expected a JSON object"


@pytest.mark.parametrize("value", [{}, {"format": 2}, {"format": "1"}])
def test_provenance_of_another_format_is_refused(value: dict[str, Any], tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", d2l=value)
    with pytest.raises(AdapterError) as caught:
        read_info(folder)
    found = value.get("format")
    assert caught.value.message == f"{folder / 'd2l.json'}: format is {found!r}, this d2l reads 1"
    assert caught.value.hint == "use the d2l that wrote it, or compile the document again"


# ---- damaged weights files ----------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 7, 8, 9, 60])
def test_a_file_cut_inside_its_header_is_one_clear_error(keep: int, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a") / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(AdapterError) as caught:
        read_header(path)
    assert caught.value.message == f"{path}: not a safetensors file, or cut short ({keep} bytes)"
    assert caught.value.hint == HINT_AGAIN


@pytest.mark.parametrize("data", [b"<html>404 Not Found</html>", b"\xff" * 4096, b"PK\3\4" * 99])
def test_another_file_under_that_name_is_one_clear_error(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(data)
    with pytest.raises(AdapterError) as caught:
        read_header(path)
    size = f"{len(data):,}"
    assert caught.value.message == f"{path}: not a safetensors file, or cut short ({size} bytes)"


@pytest.mark.parametrize("change", [-20, -1, 1, 500])
def test_a_truncated_or_padded_file_is_one_clear_error(change: int, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a") / "adapter_model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + bytes(change))
    with pytest.raises(AdapterError) as caught:
        read_header(path)
    assert caught.value.message == (
        f"{path}: cut short or padded: {len(data) + change:,} bytes, its header says {len(data):,}"
    )
    assert caught.value.hint == HINT_AGAIN


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
    "unknown type": set_field("dtype", "Q4_1"),
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


def test_a_header_of_absurd_length_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "adapter_model.safetensors"
    with path.open("wb") as file:  # a sparse file: its header would be of 20 MB
        file.write(struct.pack("<Q", 20_000_000))
        file.truncate(30_000_000)
    with pytest.raises(AdapterError, match="not a safetensors file"):
        read_header(path)
