"""What `--force` may replace of adapters and exports, and what a read finds after a kill."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from d2l.adapters.info import read_info
from d2l.adapters.peft_folder import refuse_adapter
from d2l.errors import AdapterError
from d2l.runtimes import export, writers
from d2l.runtimes.export_options import ExportOptions
from tests.tools.kill_writes import read_version, write_version


def refusal(out: Path) -> str:
    with pytest.raises(AdapterError) as caught:
        refuse_adapter(out, force=True)
    return caught.value.message


def test_an_adapter_of_d2l_is_replaced(tmp_path: Path) -> None:
    write_version(tmp_path / "a.lora", 1)
    refuse_adapter(tmp_path / "a.lora", force=True)
    write_version(tmp_path / "a.lora", 2)
    assert read_version(tmp_path / "a.lora") == 2


@pytest.mark.parametrize("provenance", [None, "{}", '{"format": 1, "tool": {"name": "other"}}', ""])
def test_an_adapter_of_another_tool_is_not(provenance: str | None, tmp_path: Path) -> None:
    """Without provenance, with a little, or with a whole one (the last)."""
    out = tmp_path / "own"
    write_version(out, 1)
    made = json.loads((out / "d2l.json").read_text("utf-8"))
    (out / "d2l.json").unlink()
    if provenance is not None:
        whole = json.dumps(made | {"tool": {"name": "other", "version": "1"}})
        (out / "d2l.json").write_text(provenance or whole)
    assert refusal(out) == f"{out} exists and was not written by d2l"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no names")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_in_the_place_of_a_file_is_not_opened(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "a.lora"
    write_version(out, 1)
    (out / "d2l.json").unlink()
    if kind == "pipe":
        os.mkfifo(out / "d2l.json")
    else:
        (out / "d2l.json").symlink_to("/dev/zero")
    assert refusal(out) == f"{out} exists and was not written by d2l"
    assert writers.own_names(out) is None


def test_an_adapter_with_files_of_the_users_is_not(tmp_path: Path) -> None:
    out = tmp_path / "a.lora"
    write_version(out, 1)
    (out / "optimizer.pt").write_text("days")
    (out / "checkpoint-500").mkdir()
    assert (
        refusal(out) == f"{out} holds files that d2l did not write: checkpoint-500/, optimizer.pt"
    )
    with pytest.raises(AdapterError):
        write_version(out, 2)
    assert (out / "optimizer.pt").read_text() == "days"


def test_an_adapter_that_a_kill_left_aside_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    write_version(tmp_path / "a.lora", 1)
    (tmp_path / "a.lora").rename(tmp_path / f".a.lora.{process.pid}.abcdefgh.old")
    (tmp_path / f".a.lora.{process.pid}.abcdefgh.new").mkdir()
    with caplog.at_level(logging.WARNING):
        assert read_info(tmp_path / "a.lora").rank == 4
    assert "the old one is back" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["a.lora"]


def test_exports_are_known_by_what_they_say_they_hold(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "d2l.json").write_text('{"export": {"d2l": "1", "files": ["a.bin", "*.pt"]}}')
    assert writers.own_names(out) == ("a.bin",)
    options = ExportOptions("mlx", force=True)
    (out / "d2l.json").write_text('{"export": {"d2l": "1", "files": ["a.bin", "d2l.json"]}}')
    (out / "a.bin").write_text("")
    export.refuse_export(out, options)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(AdapterError, match=r"did not write: notes\.txt$"):
        export.refuse_export(out, options)
    for text in (
        "{}",
        '{"export": 3}',
        '{"export": {"d2l": "1"}}',
        '{"export": {"files": []}}',
        "[",
    ):
        (out / "d2l.json").write_text(text)
        assert writers.own_names(out) is None
    shutil.rmtree(out)
    assert writers.own_names(out) is None
