import io
import os
import pickle
import tarfile
import zipfile

import pytest
import torch

from tests.hypernets.networks import write_zip
from tests.hypernets.programs import DAMAGED, FOREIGN, Call, in_dict, refusal, storage, tensor


def test_compressed_entries_are_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    program = in_dict(tensor(storage(n_values=2**20), shape=(2**20,)))
    write_zip(path, program, {"0": b"\0" * 2**22}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    said = 'entry "pytorch_model/data.pkl" is compressed, which torch.save never does'
    assert refusal(path) == (said, FOREIGN)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    again = [("pytorch_model/data.pkl", pickle.dumps(Call(os.system, "true"), protocol=2))]
    write_zip(path, in_dict(b"N"), extra=again)
    assert refusal(path) == ("has two entries of the same name", FOREIGN)


def test_two_pickles_or_none_are_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    write_zip(path, in_dict(b"N"), extra=[("other/data.pkl", in_dict(b"N"))])
    assert refusal(path) == ("has 2 data.pkl entries, expected 1", DAMAGED)
    write_zip(path, b"", root="a/b")
    assert refusal(path) == ("has 0 data.pkl entries, expected 1", DAMAGED)


def test_big_endian_file_is_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    write_zip(path, in_dict(b"N"), extra=[("pytorch_model/byteorder", b"big")])
    assert refusal(path)[0] == 'has byte order "big", expected "little"'


def test_every_truncation_is_refused(tmp_path):
    whole = tmp_path / "whole.bin"
    torch.save({"w": torch.ones(300)}, whole)
    data = whole.read_bytes()
    path = tmp_path / "pytorch_model.bin"
    for size in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:size])
        message, hint = refusal(path)
        wanted = "is a damaged or truncated zip file" if size else "is an empty file"
        assert message == (wanted if size >= 4 or not size else "is not a file made by torch.save")
        assert hint == DAMAGED


def test_old_formats_and_other_files_are_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    old = (
        "is in an old format (a bare pickle or a tar file), expected a zip of torch.save",
        "only its owner can safely save it again with PyTorch 1.6 or later",
    )
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert refusal(path) == old
    path.write_bytes(pickle.dumps(Call(os.system, f"touch {tmp_path / 'ran'}")))
    assert refusal(path) == old
    with tarfile.open(path, "w") as file:
        file.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    assert refusal(path) == old
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert refusal(path) == ("is a Git LFS pointer, not the file itself", "run `git lfs pull`")
    path.write_text("<!doctype html>")
    assert refusal(path) == ("is not a file made by torch.save", DAMAGED)
    assert not (tmp_path / "ran").exists()


def test_missing_file_and_folder_are_refused(tmp_path):
    assert refusal(tmp_path / "no.bin")[0] == "cannot be read (No such file or directory)"
    assert refusal(tmp_path)[0] == "cannot be read (Is a directory)"
