"""`d2l ls`: the adapters in a folder, read without torch."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import Command
from tests.compiled import Compiled
from tests.processes import list_imported

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(compiled: Callable[[str], Compiled], tmp_path: Path) -> Path:
    """A seats adapter, one of another network, a damaged one, and a file."""
    for kind in ("seats", "llama"):
        shutil.copytree(compiled(kind).adapter, tmp_path / f"{kind}.lora")
    (tmp_path / "manual.txt").write_text("The pump.")
    shutil.copytree(compiled("llama").adapter, tmp_path / "torn.lora")
    (tmp_path / "torn.lora" / "adapter_config.json").write_text("{")
    return tmp_path


def test_every_adapter_is_a_row(folder: Path, command: Command) -> None:
    listed = json.loads(command("ls", folder, "--json").out)
    assert listed["folder"] == str(folder)
    rows = {row["name"]: row for row in listed["adapters"]}
    assert list(rows) == ["llama.lora", "seats.lora", "torn.lora"]
    seats, llama = rows["seats.lora"], rows["llama.lora"]
    record = json.loads((folder / "seats.lora" / "d2l.json").read_text("utf-8"))
    size = sum(path.stat().st_size for path in (folder / "seats.lora").iterdir())
    assert seats["seats"] == len(record["prompt"]["opening"]["seats"])
    assert (seats["inputs"], seats["size_bytes"]) == (["handbook.txt"], size)
    written = (folder / "seats.lora" / "adapter_model.safetensors").stat().st_mtime
    assert (seats["written"], rows["torn.lora"]["written"]) == (written, None)
    assert llama["base"] == "tiny-org/llama-tiny"
    assert llama["seats"] is None
    assert (
        llama["rank"]
        == json.loads((folder / "llama.lora" / "adapter_config.json").read_text("utf-8"))["r"]
    )
    assert "not readable as JSON" in rows["torn.lora"]["error"]


def test_people_get_a_table_and_a_line_for_what_is_damaged(folder: Path, command: Command) -> None:
    weights = folder / "llama.lora" / "adapter_model.safetensors"
    os.utime(weights, (0, time.time() - 3 * 86400 - 60))
    outcome = command("ls", folder)
    assert outcome.code == 0
    rows = [re.split(" {2,}", line) for line in outcome.out.splitlines()]
    head, llama, seats = (row for row in rows if row[0].endswith((".lora", "adapter")))
    assert head == ["adapter", "base", "inputs", "rank", "seats", "size", "written"]
    assert (llama[0], llama[3], llama[-1]) == ("llama.lora", "6", "3 days ago")
    values = json.loads(command("ls", folder / "seats.lora", "--json").out)["adapters"][0]
    assert seats[3:5] == [str(values["rank"]), str(values["seats"])]
    assert outcome.err.startswith("warning: left out: ")
    assert command("ls", folder, "-q").err == outcome.err


def test_one_adapter_an_empty_folder_and_none(
    folder: Path, tmp_path: Path, command: Command
) -> None:
    alone = json.loads(command("ls", folder / "llama.lora", "--json").out)
    assert [row["name"] for row in alone["adapters"]] == ["llama.lora"]
    (tmp_path / "empty").mkdir()
    empty = command("ls", tmp_path / "empty")
    assert (empty.code, empty.out) == (0, "")
    assert empty.err == f"{tmp_path / 'empty'}: no adapters in it\n"
    missing = command("ls", tmp_path / "no")
    assert (missing.code, missing.err.splitlines()[0]) == (
        1,
        f"error: {tmp_path / 'no'}: no such folder",
    )


def test_listing_needs_no_torch(folder: Path) -> None:
    code = "from d2l.adapters.listing import list_adapters\nfrom pathlib import Path\n"
    assert not list_imported(f"{code}assert list_adapters(Path({str(folder)!r}))", "torch")
