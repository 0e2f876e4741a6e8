"""parts.json and parts.safetensors: read back as written, and damage is told, not answered."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load, load_file, save_file

from d2l.adapters.info import PART_VALUES, PARTS, PROVENANCE, read_info
from d2l.adapters.parts import Parts, join_parts, keep_memories, read_parts, write_parts
from d2l.adapters.peft_folder import read_content, write_adapter
from d2l.adapters.rounding import digest_rounded
from d2l.errors import AdapterError, D2LError
from d2l.files.tensors import CHANGED
from tests import tiny
from tests.adapters.test_peft_folder import room_for
from tests.compiled import PEFT_DEPRECATION, Compiled, compile_tiny, read_files
from tests.loaded import QUESTION
from tests.loaded import load as load_adapted

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = (PARTS, PART_VALUES)
Harm = Callable[[Path], None]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """An adapter of seats with parts; not to be changed."""
    return compile_tiny(tmp_path_factory.mktemp("parts"), "seats", parts=True)


@pytest.fixture
def folder(done: Compiled, tmp_path: Path) -> Path:
    return shutil.copytree(done.adapter, tmp_path / "copy.lora")


def write_in_four_bits(done: Compiled, out: Path) -> Path:
    """Write the adapter with its parts in four bits."""
    content = read_content(read_info(done.adapter), purpose="read")
    eight = content.parts
    assert eight is not None
    assert content.provenance is not None
    parts = keep_memories(eight.index, [eight.read(n) for n in range(len(eight.records))], 4)
    provenance = content.provenance.model_copy(update={"parts_sha256": parts.sha256})
    return write_adapter(replace(content, parts=parts, provenance=provenance), out)


def read(folder: Path) -> Parts:
    parts = read_parts(read_info(folder))
    assert parts is not None
    return parts


def written(parts: Parts, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    write_parts(parts, folder)
    return read_files(folder)


def values(parts: Parts) -> list[torch.Tensor]:
    assert parts.read is not None
    return [
        t for n in range(len(parts.records)) for t in vars(parts.read(n)).values() if t is not True
    ]


@pytest.mark.parametrize("bits", [8, 4])
def test_reading_and_writing_gives_the_same_bytes(
    bits: int, done: Compiled, tmp_path: Path
) -> None:
    adapter = done.adapter if bits == 8 else write_in_four_bits(done, tmp_path / "four.lora")
    original = {name: (adapter / name).read_bytes() for name in NAMES}
    assert written(read(adapter), tmp_path / "parts") == original
    content = read_content(read_info(adapter), purpose="read")
    again = read_files(write_adapter(content, tmp_path / "again.lora"))
    assert {name: again[name] for name in NAMES} == original


def test_selected_and_joined_parts_are_the_whole_again(done: Compiled, tmp_path: Path) -> None:
    parts = read(done.adapter)
    n = len(parts.records)
    assert n > 2
    head, tail = parts.select(range(1)), parts.select(range(1, n))
    joined = join_parts([head, tail])
    assert joined.sha256 == parts.sha256 != tail.sha256
    assert written(joined, tmp_path / "joined") == written(parts, tmp_path / "parts")
    back = parts.select([n - 1, 0])
    assert back.records == (parts.records[-1], parts.records[0])
    assert all(map(torch.equal, values(back)[:2], values(parts)[-2:]))


def test_parts_of_eight_and_of_four_bits_join(done: Compiled, tmp_path: Path) -> None:
    """Files of eight bits are those of older versions, which cannot read the other format."""
    eight, four = read(done.adapter), read(write_in_four_bits(done, tmp_path / "four.lora"))
    assert (eight.index.format, four.index.format) == (1, 2)
    assert '"format": 2' in (tmp_path / "four.lora" / PARTS).read_text("utf-8")
    joined = join_parts([eight, four])
    assert joined.index.format == join_parts([four, eight]).index.format == 2
    data = written(joined, tmp_path / "joined")
    stored = load(data[PART_VALUES])
    assert {t.dtype for name, t in stored.items() if name.endswith("keys")} == {
        torch.int8,
        torch.uint8,
    }
    assert all(map(torch.equal, values(joined), values(eight) + values(four)))


def change_json(change: Callable[[dict[str, Any]], None], *, signed: bool) -> Harm:
    """Change parts.json; signed, d2l.json names the changed file."""

    def harm(folder: Path) -> None:
        index = json.loads((folder / PARTS).read_text("utf-8"))
        change(index)
        (folder / PARTS).write_text(json.dumps(index), "utf-8")
        if signed:
            made = json.loads((folder / PROVENANCE).read_text("utf-8"))
            made["parts_sha256"] = hashlib.sha256((folder / PARTS).read_bytes()).hexdigest()
            (folder / PROVENANCE).write_text(json.dumps(made), "utf-8")

    return harm


def change_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Harm:
    def harm(folder: Path) -> None:
        tensors = load_file(folder / PART_VALUES)
        change(tensors)
        save_file(tensors, folder / PART_VALUES)

    return harm


def forged(change: Callable[[dict[str, torch.Tensor]], Any]) -> Harm:
    """Change tensors, with digests that fit, as a stranger would."""

    def sign(index: dict[str, Any], folder: Path) -> None:
        tensors = load_file(folder / PART_VALUES)
        for n, part in enumerate(index["parts"]):
            own = {
                name.removeprefix(f"{n}."): t
                for name, t in tensors.items()
                if name.startswith(f"{n}.")
            }
            part["values_sha256"] = digest_rounded(own)

    def harm(folder: Path) -> None:
        change_tensors(change)(folder)
        change_json(lambda index: sign(index, folder), signed=True)(folder)

    return harm


def change_bytes(name: str, change: Callable[[bytes], bytes]) -> Harm:
    def harm(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return harm


HARMS = {
    "a byte": (change_bytes(PARTS, lambda d: d.replace(b"pump", b"pumb", 1)), CHANGED),
    "another's": (change_json(lambda v: v["parts"].reverse(), signed=False), CHANGED),
    "empty": (change_bytes(PARTS, lambda _: b""), CHANGED),
    "no json": (change_json(lambda v: v.update(format=3), signed=True), "format"),
    "fewer": (change_json(lambda v: v["parts"].pop(), signed=True), "parts for"),
    "more": (change_json(lambda v: v["parts"].append(v["parts"][0]), signed=True), "parts for"),
    "missing": (lambda folder: (folder / PART_VALUES).unlink(), "is missing"),
    "cut": (change_bytes(PART_VALUES, lambda d: d[:-9]), "cut short"),
    "no values": (change_bytes(PART_VALUES, lambda _: b""), "cut short"),
    "fewer values": (change_tensors(lambda t: t.pop("0.keys")), "does not hold the values"),
    "more values": (
        change_tensors(lambda t: t.update({"99.keys": torch.zeros(1)})),
        "does not hold the values",
    ),
    "nan": (forged(lambda t: t["0.keys_scales"].fill_(float("nan"))), "part 0 is damaged"),
    "shape": (forged(lambda t: t.update({"0.keys": torch.zeros(3)})), "0.keys is F32 of [3], exp"),
    "heads": (
        forged(lambda t: t.update({n: v[..., 1:].contiguous() for n, v in t.items()})),
        "0.keys is",
    ),
    "half": (
        forged(lambda t: t.update({n: v[..., : v.shape[-1] // 2].clone() for n, v in t.items()})),
        "0.keys is",
    ),
    "layers": (forged(lambda t: t.update({"0.keys": t["0.keys"][1:].clone()})), "0.keys is"),
    "no seats": (forged(lambda t: t.update({"0.keys": t["0.keys"][:, :0]})), "0.keys is"),
    "flat": (forged(lambda t: t.update({n: v.flatten() for n, v in t.items()})), "0.keys is"),
    "type": (forged(lambda t: t.update({"0.keys": t["0.keys"].short()})), "0.keys is I16"),
    "other values": (change_tensors(lambda t: t["1.keys"].add_(1)), f"part 1 {CHANGED}"),
    "other scales": (change_tensors(lambda t: t["0.values_scales"].neg_()), f"part 0 {CHANGED}"),
    "zeros": (change_tensors(lambda t: [v.zero_() for v in t.values()]), f"part 0 {CHANGED}"),
    "reversed": (change_json(lambda v: v["parts"].reverse(), signed=True), "tokens, its chunk"),
    "no opening": (change_json(lambda v: v.pop("opening"), signed=True), "an opening is missing"),
    "empty opening": (
        change_json(lambda v: v["opening"].update(ids=[], seats=[]), signed=True),
        "opening: has 0 tokens, expected 1 to 2,049",
    ),
    "large opening": (
        change_json(lambda v: v["opening"].update(ids=[1] * 9000), signed=True),
        "opening: has 9,000 tokens",
    ),
    "long lead": (
        change_json(lambda v: v["opening"].update(ids=[1] * 600, seats=[]), signed=True),
        "an opening of 600 tokens, at most 512",
    ),
    **{
        f"{n} seats": (
            change_json(lambda v, n=n: v["parts"][0].update(n_seats=n), signed=True),
            said,
        )
        for n, said in ((0, "part 0 has 0 seats"), (1, "0.keys is"), (10**9, "1,000,000,000 seats"))
    },
    "long end": (change_json(lambda v: v.update(n_end=99), signed=True), "expected 100 to"),
    "long turns": (
        change_json(lambda v: v.update(turns=["word " * 200] * 7), signed=True),
        "turns are 7 texts, expected 7 of 4,096 characters at most",
    ),
    "long source": (
        change_json(lambda v: v["parts"][0].update(source="p. " + "9" * 10**5), signed=True),
        "parts[0].source: 100,003 characters",
    ),
    "large text": (
        change_json(lambda v: v["parts"][0].update(text="word " * 10**6), signed=True),
        "bytes, more than",
    ),
}


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("harm", HARMS)
def test_damaged_parts_are_one_clear_error(
    harm: str, bits: int, done: Compiled, folder: Path, tmp_path: Path
) -> None:
    change, said = HARMS[harm]
    if bits == 4:
        folder = write_in_four_bits(done, tmp_path / "four.lora")
    change(folder)
    with pytest.raises(AdapterError) as caught:
        values(read(folder))
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint == "compile the document again, or ask with --whole"


@pytest.mark.filterwarnings(PEFT_DEPRECATION)
def test_an_opening_with_ids_that_the_base_lacks_is_refused(done: Compiled, folder: Path) -> None:
    change_json(lambda v: v["opening"]["ids"].append(10**6), signed=True)(folder)
    with pytest.raises(AdapterError, match=f"{PARTS}: the opening has token 1000000, and the base"):
        load_adapted(done, folder)
    model = load_adapted(done)
    with pytest.raises(AdapterError, match=PARTS):
        model.set_adapter(folder)
    assert model.ask(QUESTION) == load_adapted(done).ask(QUESTION)


@pytest.mark.parametrize("size", [0, 9_000, 1 << 20])
def test_a_file_that_is_cut_or_grows_after_it_was_opened_is_an_error(
    size: int, folder: Path
) -> None:
    """Of a mapped file, the process would end with SIGBUS."""
    parts = read(folder)
    os.truncate(folder / PART_VALUES, size)
    with pytest.raises(AdapterError, match="was changed"):
        values(parts)


@pytest.mark.filterwarnings(PEFT_DEPRECATION)
def test_a_folder_whose_parts_were_deleted_answers_as_one_memory(
    done: Compiled, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in NAMES:
        (folder / name).unlink()
    asker = load_adapted(done, folder)
    assert "its parts are gone" in caplog.text
    answer = asker.answer([{"role": "user", "content": QUESTION}])
    assert answer.citations == ()
    assert not asker.kept.chooses
    assert load_adapted(done).kept.chooses
    weights = "adapter_model.safetensors"
    assert (folder / weights).read_bytes() == (done.adapter / weights).read_bytes()
    peft.PeftModel.from_pretrained(tiny.make_causal("llama"), str(folder))


def test_a_disk_that_fills_up_while_parts_are_written_leaves_the_old_adapter(
    done: Compiled, folder: Path
) -> None:
    content, before = read_content(read_info(done.adapter), purpose="read"), read_files(folder)
    parts = content.parts
    assert parts is not None
    stored = parts.stored
    assert stored is not None

    def enlarge(n: int) -> dict[str, torch.Tensor]:  # no other file is as large as theirs
        return {name: np.tile(t, [9] * t.ndim) for name, t in stored(n).items()}

    large = Parts(parts.index, enlarge)
    with room_for(max(map(len, before.values()))), pytest.raises(D2LError) as caught:
        write_adapter(replace(content, parts=large), folder, force=True)
    assert "cannot be written" in caught.value.message
    assert read_files(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
