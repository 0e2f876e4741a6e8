import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from d2l.adapters.info import is_adapter, read_info
from d2l.errors import AdapterError
from d2l.files.tensors import TensorInfo
from tests.processes import list_imported
from tests.records import MINIMAL

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
    folder = write_adapter(tmp_path / "a", d2l=MINIMAL)
    info = read_info(folder)
    assert (info.folder, info.rank) == (folder, 2)
    assert info.config == {"r": 2, "peft_type": "LORA"}
    assert info.provenance is not None
    assert info.provenance.to_json() == MINIMAL
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


@pytest.mark.parametrize(
    ("name", "what"), [("a" * 100_000, "100,000 characters"), (5, "5"), (["a"], "['a']")]
)
def test_what_is_no_name_of_a_base_is_one_short_line(name: Any, what: str, tmp_path: Path) -> None:
    config = {"r": 2, "base_model_name_or_path": name}
    folder = write_adapter(tmp_path / "a", adapter_config=config)
    with pytest.raises(AdapterError) as caught:
        read_info(folder)
    assert caught.value.message == (
        f"{folder / 'adapter_config.json'}: base_model_name_or_path is {what}, expected a name or "
        "a path"
    )


@pytest.mark.parametrize("rank", ["2", None, 2.5, True, [2]])
def test_a_rank_that_is_no_whole_number_is_one_clear_error(rank: Any, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", adapter_config={"r": rank})
    with pytest.raises(AdapterError) as caught:
        _ = read_info(folder).rank
    where = folder / "adapter_config.json"
    assert caught.value.message == f"{where}: r is {rank!r}, expected a whole number"


def test_torch_is_not_imported() -> None:
    assert not list_imported("import d2l.adapters.info", "torch", "transformers", "numpy")


# ---- what is not an adapter ---------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "no", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        with pytest.raises(AdapterError) as caught:
            read_info(path)
        assert caught.value.message == f"{path}: no such adapter folder"
        assert caught.value.hint == "make one with `d2l compile DOCUMENT`"


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


@pytest.mark.parametrize("value", [{}, {"format": 4}, {"format": 0}, {"format": "1"}])
def test_provenance_of_another_format_is_refused(value: dict[str, Any], tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", d2l=value)
    with pytest.raises(AdapterError) as caught:
        read_info(folder)
    found = value.get("format")
    said = f"{folder / 'd2l.json'}: format is {found!r}, this d2l reads 1 to 3"
    assert caught.value.message == said
    assert caught.value.hint == "use the d2l that wrote it, or compile the document again"


def test_a_provenance_of_more_rank_than_the_weights_have_is_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", d2l=MINIMAL | {"rank": 10**12})
    path = folder / "d2l.json"
    with pytest.raises(AdapterError) as caught:
        read_info(folder)
    assert caught.value.message == (
        f"{path}: speaks of rank 1000000000000, and adapter_model.safetensors has 2"
    )


def test_json_of_many_megabytes_is_not_read(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    os.truncate(folder / "adapter_config.json", 65 << 20)
    with pytest.raises(AdapterError, match="has 68,157,440 bytes, more than 2,65"):
        read_info(folder)
