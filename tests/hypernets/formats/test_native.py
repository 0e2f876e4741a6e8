import json
import os

import pytest
import torch
from safetensors.torch import save_file

from d2l.errors import CheckpointError
from d2l.hypernets.formats import native
from d2l.hypernets.formats.fields import read_json
from d2l.hypernets.formats.native import check_shapes, read_fields, read_tensors, write_folder
from tests.hypernets.programs import DAMAGED
from tests.hypernets.programs import refuse_path as refusal

HEADER = {"format": "d2l", "version": 1}
TINY = HEADER | {"kind": "tiny"}

# ---- config.json --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": ', "is not valid JSON (Expecting value: line 1 column 7 (char 6))"),
        (b"\xff\xfe", "is not valid JSON ('utf-8' codec can't decode byte 0xff in position 0"),
        (b'{"a": NaN}', "is not valid JSON (NaN is not a JSON number)"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not valid JSON (a number of 5000 digits)"),
        (b"[1]", "expected a JSON object, got list"),
        (b"", "is not valid JSON (Expecting value: line 1 column 1 (char 0))"),
        (b'{"a":' + b"[" * 200_000, "is nested too deeply for a configuration"),
        (b" " * (1 << 20) + b"{}", "1048578 bytes, expected at most 1048576 of a configuration"),
    ],
)
def test_damaged_json_is_refused(tmp_path, data, message):
    path = tmp_path / "config.json"
    path.write_bytes(data)
    assert refusal(read_json, path)[0].startswith(message)


def test_missing_files_are_refused(tmp_path):
    wanted = ("no such file", "is this the folder of a checkpoint?")
    assert refusal(read_json, tmp_path / "config.json") == wanted
    assert refusal(read_tensors, tmp_path / "model.safetensors") == wanted


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{}")
    path.chmod(0)
    assert refusal(read_json, path)[0] == "cannot be read (Permission denied)"


@pytest.mark.parametrize(
    ("header", "message", "hint"),
    [
        (HEADER, 'kind is missing, expected "tiny"', None),
        (HEADER | {"kind": "x"}, 'kind is "x", expected "tiny"', None),
        ({"version": 1, "kind": "tiny"}, 'format is missing, expected "d2l"', None),
        (TINY | {"version": 2}, "version is 2, expected 1", "a newer d2l may read it"),
        (TINY | {"version": True}, "version is True, expected 1", "a newer d2l may read it"),
        ({"format": ["d2l"]}, 'format is a value of type list, expected "d2l"', None),
    ],
)
def test_foreign_header_is_refused(tmp_path, header, message, hint):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(header))
    with pytest.raises(CheckpointError) as raised:
        read_fields(tmp_path, "tiny")
    assert (raised.value.message, raised.value.hint) == (f"{path}: {message}", hint)


# ---- model.safetensors --------------------------------------------------------------------------


def test_written_folder_reads_back_bit_for_bit(tmp_path):
    base = torch.randn(4, 6)
    tensors = {"b": base.T, "a": base, "half": torch.randn(3).bfloat16(), "e": torch.zeros(0, 2)}
    write_folder(tmp_path, "tiny", {"base": "é", "rank": 8}, tensors)
    assert read_fields(tmp_path, "tiny") == {"base": "é", "rank": 8}
    got = read_tensors(tmp_path / "model.safetensors")
    assert list(got) == sorted(tensors)
    for name, tensor in tensors.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor)
    assert oct((tmp_path / "model.safetensors").stat().st_mode)[-3:] == "644"


def test_same_content_gives_the_same_bytes(tmp_path):
    tensors = {"b": torch.ones(3), "a": torch.zeros(2, 2)}
    turned = dict(reversed(tensors.items()))
    for name, given in (("x", tensors), ("y", turned)):
        (tmp_path / name).mkdir()
        write_folder(tmp_path / name, "tiny", {"n": 1}, given)
    for file in (native.CONFIG_FILE, native.WEIGHTS_FILE):
        assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "y" / file).read_bytes()


def test_every_truncation_of_the_weights_is_refused(tmp_path):
    whole = tmp_path / "whole.safetensors"
    save_file({"w": torch.ones(50)}, whole)
    data = whole.read_bytes()
    path = tmp_path / "model.safetensors"
    for size in range(0, len(data), 13):
        path.write_bytes(data[:size])
        message, hint = refusal(read_tensors, path)
        assert message.startswith("is not a complete safetensors file (")
        assert hint == DAMAGED


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 8,  # header of 2^64 - 1 bytes
        (99).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        b"\x80\x02}q\x00.",
        b"PK\x03\x04" + b"\0" * 60,
    ],
)
def test_other_files_are_refused(tmp_path, data):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    assert refusal(read_tensors, path)[0].startswith("is not a complete safetensors file (")


def test_foreign_types_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(2, dtype=torch.float64)}, path)
    message = "w has type torch.float64, expected float32 or alike"
    assert refusal(read_tensors, path)[0] == message


# ---- names and shapes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "message"),
    [
        ({"a": (2,)}, "missing b (and 1 more)"),
        ({"a": (2,), "b": (3,), "c": (), "\x1b[31m": ()}, r"unexpected \x1b[31m"),
        ({"a": (4,), "b": (3,), "c": ()}, "shape a is (4,), expected (2,)"),
        (
            {"a": (4,), "b": (5,), "d": ()},
            "missing c; unexpected d; shape a is (4,), expected (2,) (and 1 more)",
        ),
    ],
)
def test_report_names_missing_unexpected_and_misshapen_tensors(got, message):
    with pytest.raises(CheckpointError) as raised:
        check_shapes(got, {"a": (2,), "b": (3,), "c": ()})
    assert raised.value.message == f"tensors do not fit the configuration: {message}"
    assert raised.value.hint == "are the weights and the configuration of the same checkpoint?"
