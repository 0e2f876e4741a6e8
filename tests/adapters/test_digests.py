"""Files of two adapters mixed: an error that names the file, never another document's answer."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from d2l.adapters.info import MEMORY, PART_VALUES, PARTS, PROVENANCE, TEXT, WEIGHTS, read_info
from d2l.adapters.parts import read_parts
from d2l.adapters.peft_folder import read_content
from d2l.api.adapter import Adapter
from d2l.errors import AdapterError
from d2l.readers.parsing import Section
from tests import tiny
from tests.command import Command
from tests.compiled import Compiled, compile_tiny, make_document, read_files
from tests.loaded import QUESTION, load

pytestmark = pytest.mark.usefixtures("one_thread")
OTHER = tiny.DOCUMENT.replace(".", "!")
Harm = Callable[[Path, Path], object]


def compile_pair(root: Path, *, parts: bool) -> tuple[Compiled, Path]:
    """Compile two documents that differ in a token a part, so that all files of one fit the
    other."""
    tiny.write_seats(root / "checkpoint", repeats=4)
    other = replace(make_document(), sections=(Section(OTHER, page=1),), digest="1" * 64)
    own = replace(make_document(), sections=(Section(tiny.DOCUMENT, page=1),))
    twin = compile_tiny(root, "seats", other, parts=parts).adapter.rename(root / "twin.lora")
    return compile_tiny(root, "seats", own, parts=parts), twin


@pytest.fixture(scope="module", params=["parts", "one memory"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Compiled, Path]:
    """Two adapters of equal shapes; not to be changed."""
    root = tmp_path_factory.mktemp("pair")
    return compile_pair(root, parts=request.param == "parts")


def link(path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to(other)


def flip(path: Path, _other: Path) -> None:
    """Change all bytes behind a header."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little") if path.suffix == ".safetensors" else 9
    path.write_bytes(data[:start] + bytes(byte ^ 1 for byte in data[start:]))


HARMS: dict[str, Harm] = {
    "swapped": lambda path, other: shutil.copyfile(other, path),
    "linked": link,
    "flipped": flip,
    "cut": lambda path, _: os.truncate(path, path.stat().st_size - 5),
}


def list_files(adapter: Path) -> list[str]:
    names = (WEIGHTS, MEMORY, PARTS, PART_VALUES, TEXT)
    return [name for name in names if (adapter / name).is_file()]


def list_commands(done: Compiled, adapter: Path, name: str) -> Iterator[list[object]]:
    """Command lines that read a file of the adapter."""
    on = ["--base", done.base, "--offline"]
    seats = [*on, "--checkpoint", done.checkpoint, "-o", adapter.parent / "out", "--force"]
    yield ["inspect", adapter]
    yield ["check", adapter, "--runtime", "peft", *on]
    if name != WEIGHTS or not (adapter / PARTS).is_file():  # parts answer without them
        yield ["merge", adapter, done.adapter, *seats]
    yield ["edit", adapter, "--drop", "#0", *seats]
    yield ["export", adapter, "--to", "uniform", *seats[:3], "-o", adapter.parent / "u", "--force"]
    if (adapter / PARTS).is_file() and name != TEXT:
        yield ["export", adapter, "--to", "parts", *seats]
    if name != MEMORY:  # of which the weights were solved
        yield ["ask", adapter, QUESTION, "--max-tokens", "1", "--device", "cpu", *on]


@pytest.mark.parametrize("harm", HARMS)
def test_a_file_of_another_adapter_is_named_by_every_command_that_reads_it(
    harm: str, pair: tuple[Compiled, Path], command: Command, tmp_path: Path
) -> None:
    done, twin = pair
    files = list_files(done.adapter)
    assert len(files) == 4 if PARTS in files else 3
    for name in files:
        adapter = shutil.copytree(done.adapter, tmp_path / name / "a.lora")
        HARMS[harm](adapter / name, twin / name)
        for line in list_commands(done, adapter, name):
            outcome = command(*line)
            told = outcome.err + (outcome.out if line[0] == "check" else "")
            assert outcome.code == 1, (name, line, outcome)
            assert name in told, (name, line, told)
            assert "Traceback" not in outcome.err
        with pytest.raises(AdapterError, match=name):
            Adapter.from_pretrained(adapter).save_pretrained(tmp_path / name / "again.lora")


@pytest.mark.parametrize("backwards", [False, True])
def test_a_copy_in_progress_answers_with_the_old_the_new_or_an_error(
    backwards: bool, pair: tuple[Compiled, Path], tmp_path: Path
) -> None:
    done, twin = pair
    adapter = shutil.copytree(done.adapter, tmp_path / "a.lora")
    wholes = [read_whole(folder) for folder in (done.adapter, twin)]
    assert wholes[0] != wholes[1]
    n_errors = 0
    for path in sorted(twin.iterdir(), reverse=backwards):
        shutil.copyfile(path, adapter / path.name)
        try:
            asked = load(done, adapter)
            if asked.kept.chooses:
                asked.ask(QUESTION)
            assert read_whole(adapter) in wholes
        except AdapterError:
            n_errors += 1
    assert n_errors
    assert read_whole(adapter) == wholes[1]
    load(done, adapter).ask(QUESTION)


def read_whole(adapter: Path) -> list[bytes | str]:
    """Read all that answers come from."""
    content = read_content(read_info(adapter), purpose="read")
    tensors = list(content.to_state_dict().values())
    parts = content.parts
    if parts is not None:
        tensors += [parts.read(n).keys for n in range(len(parts.records))]
    records = content.records if parts is None else parts.records
    return [t.float().numpy().tobytes() for t in tensors] + [record.text for record in records]


def test_adapters_of_versions_without_digests_are_read_unchecked(
    pair: tuple[Compiled, Path], tmp_path: Path
) -> None:
    done, twin = pair
    adapter = shutil.copytree(done.adapter, tmp_path / "a.lora")
    made = json.loads((adapter / PROVENANCE).read_text("utf-8"))
    assert made.pop("weights_sha256")
    assert made.pop("memory_sha256")
    (adapter / PROVENANCE).write_text(json.dumps(made), "utf-8")
    shutil.copyfile(twin / MEMORY, adapter / MEMORY)
    content = read_content(read_info(adapter), purpose="read")
    expected = read_content(read_info(twin), purpose="read").memory
    assert content.memory is not None
    assert expected is not None
    assert torch.equal(content.memory.keys, expected.keys)


def test_a_part_read_while_its_file_is_replaced_is_the_old_one(
    pair: tuple[Compiled, Path], tmp_path: Path
) -> None:
    done, twin = pair
    if not (twin / PART_VALUES).is_file():
        pytest.skip("one memory")
    adapter = shutil.copytree(done.adapter, tmp_path / "a.lora")
    parts = read_parts(read_info(adapter))
    assert parts is not None
    before = parts.read(0).keys
    shutil.copyfile(twin / PART_VALUES, adapter / "new")
    (adapter / "new").replace(adapter / PART_VALUES)  # as rsync does
    assert torch.equal(parts.read(0).keys, before)
    shutil.copyfile(twin / PART_VALUES, adapter / PART_VALUES)
    again = read_parts(read_info(adapter))
    assert again is not None
    with pytest.raises(AdapterError, match=PART_VALUES):
        again.check_values()


def test_the_weights_bytes_are_those_without_digests(pair: tuple[Compiled, Path]) -> None:
    """Digests stand in d2l.json and parts.json alone."""
    done, _ = pair
    files = read_files(done.adapter)
    holding = {name for name, data in files.items() if b"_sha256" in data}
    assert holding <= {PROVENANCE, PARTS, "d2l.lock"}
