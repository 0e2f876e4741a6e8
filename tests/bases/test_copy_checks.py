import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from d2l.bases import gguf as gguf_files
from d2l.bases.catalog import list_weights
from d2l.bases.fetch import verify_bases
from d2l.bases.gguf import ensure_weights, prepare_folder
from d2l.bases.models import BaseFiles, load_frozen
from d2l.errors import BaseModelError
from d2l.files.cache import file_digest
from tests.bases.gguf_samples import write_gguf

HINT = "free some space, or name another cache folder in D2L_CACHE_DIR"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test, and no reading without a copy."""
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("d2l.bases.gguf_weights.read_weights", lambda *_: None)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A GGUF file, and the copy that is made of it."""
    root = tmp_path_factory.mktemp("sample")
    gguf = write_gguf(root / "base.gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2L_CACHE_DIR", str(root / "cache"))
        folder = prepare_folder(gguf)
        ensure_weights(gguf, folder)
    return gguf, folder


@pytest.fixture
def copy(sample: tuple[Path, Path], cache: Path) -> Path:
    """The copy, in the test's own cache."""
    folder = cache / "bases" / sample[1].name
    shutil.copytree(sample[1], folder)
    return folder


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose_a_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(4096)
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def nest(path: Path) -> None:
    path.write_text("[" * 100_000)


def use(gguf: Path) -> Path:
    folder = prepare_folder(gguf)
    ensure_weights(gguf, folder)
    return folder


@pytest.mark.parametrize("damage", [flip_a_bit, lose_a_page, cut, nest])
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_copy_is_made_again_with_one_line(
    name: str,
    damage: Callable[[Path], None],
    sample: tuple[Path, Path],
    copy: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gguf, sound = sample
    damage(copy / name)
    with caplog.at_level(logging.WARNING):
        assert use(gguf) == use(gguf) == copy
    reason = "its digest differs"
    said = f"{copy / name}: damaged ({reason}), made again from base.gguf"
    assert [record.getMessage() for record in caplog.records] == [said]
    for file in sound.iterdir():
        assert (copy / file.name).read_bytes() == file.read_bytes()


def test_a_copy_of_earlier_versions_is_made_again_without_a_line(
    sample: tuple[Path, Path], copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (copy / gguf_files.CHECKS_FILE).unlink()
    use(sample[0])
    assert not caplog.records
    assert (copy / gguf_files.CHECKS_FILE).read_bytes() == (
        sample[1] / gguf_files.CHECKS_FILE
    ).read_bytes()


@pytest.mark.parametrize("content", ["", '{"files": {"a": 1}}', "[" * 99999])
def test_damaged_digests_are_none(content: str, sample: tuple[Path, Path], copy: Path) -> None:
    (copy / gguf_files.CHECKS_FILE).write_text(content)
    use(sample[0])
    assert gguf_files.find_damage(copy, ["config.json", "model.safetensors"]) is None


def test_what_is_sound_is_read_once(
    sample: tuple[Path, Path], copy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(sample[0])
    known = "\n".join(json.loads((cache / "digests.json").read_text()))
    assert f"{copy / 'model.safetensors'}:" in known  # for later starts
    monkeypatch.setattr("d2l.files.cache.hashlib.file_digest", lambda *_: pytest.fail("read"))
    use(sample[0])
    flip_a_bit(copy / "model.safetensors")
    with pytest.raises(pytest.fail.Exception, match="read"):
        use(sample[0])


def test_a_base_that_changed_since_it_was_read_is_refused(
    sample: tuple[Path, Path], tmp_path: Path
) -> None:
    """The digest of a file is remembered by its size and time, which bits that rot do not change:
    the memory is changed here instead."""
    gguf = tmp_path / "base.gguf"
    shutil.copyfile(sample[0], gguf)
    folder = prepare_folder(gguf)
    memory = tmp_path / "cache" / "digests.json"
    known = {stamp: "0" * 64 for stamp in json.loads(memory.read_text())}
    memory.write_text(json.dumps(known))
    folder = prepare_folder(gguf)
    with pytest.raises(BaseModelError, match="is no longer the file that"):
        ensure_weights(gguf, folder)
    assert file_digest(gguf) == file_digest(sample[0])  # it was read afresh


def test_verify_reads_all_and_removes_a_damaged_copy(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d2l.bases.fetch.KNOWN", ())
    row = {"what": "unpacked copy", "path": str(copy)}
    assert verify_bases() == [row | {"state": "sound"}]
    times = (copy / "model.safetensors").stat()
    flip_a_bit(copy / "model.safetensors")
    os.utime(copy / "model.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))  # bits rot so
    assert gguf_files.find_damage(copy, ["model.safetensors"]) is None
    reason = "damaged (model.safetensors: its digest differs)"
    assert verify_bases() == [row | {"state": f"{reason}, removed: it is made again when needed"}]
    assert not copy.exists()
    assert verify_bases() == []


def load_as(gguf: Path, dtype: torch.dtype) -> Tensor:
    files = BaseFiles("tiny", prepare_folder(gguf), gguf)
    model = load_frozen(files, device="cpu", dtype=dtype)
    weight: Tensor = model.get_submodule("layers.0.self_attn.k_proj").get_parameter("weight")
    return weight


def test_a_base_that_is_loaded_in_bf16_first_is_unpacked_to_bf16_alone(
    sample: tuple[Path, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf, exact = sample
    weight, folder = load_as(gguf, torch.bfloat16), cache / "bases" / sample[1].name
    assert weight.dtype == torch.bfloat16
    rounded = load_file(folder / "model.bf16.safetensors")
    whole = load_file(exact / "model.safetensors")
    assert rounded.keys() == whole.keys()
    for name, tensor in whole.items():
        assert torch.equal(rounded[name], tensor.to(torch.bfloat16))
    assert not (folder / "model.safetensors").exists()
    assert {"model.bf16.safetensors", "config.json"} < set(gguf_files.read_checks(folder))
    with monkeypatch.context() as patch:  # it is there now
        patch.setattr("d2l.bases.gguf._dequantize", lambda *_: pytest.fail("unpacked again"))
        assert torch.equal(load_as(gguf, torch.bfloat16), weight)
    assert load_as(gguf, torch.float32).dtype == torch.float32
    assert list_weights(folder) == [folder / "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == (exact / "model.safetensors").read_bytes()


def test_a_copy_in_fp32_serves_a_base_in_bf16(sample: tuple[Path, Path], copy: Path) -> None:
    assert load_as(sample[0], torch.bfloat16).dtype == torch.bfloat16
    assert not (copy / "model.bf16.safetensors").exists()


def test_a_damaged_copy_in_bf16_is_made_again_and_verified(
    sample: tuple[Path, Path],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight = load_as(sample[0], torch.bfloat16)
    path = cache / "bases" / sample[1].name / "model.bf16.safetensors"
    flip_a_bit(path)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(load_as(sample[0], torch.bfloat16), weight)
    said = f"{path}: damaged (its digest differs), made again from base.gguf"
    assert [record.getMessage() for record in caplog.records] == [said]
    monkeypatch.setattr("d2l.bases.fetch.KNOWN", ())
    assert [row["state"] for row in verify_bases()] == ["sound"]
    flip_a_bit(path)
    assert path.name in verify_bases()[0]["state"]


def test_a_cache_that_cannot_be_used_is_found_out_before_anything_is_converted(
    sample: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("d2l.bases.gguf._write_texts", lambda *_: pytest.fail("too late"))
    with pytest.raises(BaseModelError, match=r"cannot be written \(Not a directory\)") as caught:
        prepare_folder(sample[0])
    assert caught.value.hint == HINT


def test_a_cache_without_room_is_found_out_before_anything_is_converted(
    sample: tuple[Path, Path], copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_bytes = (copy / "model.safetensors").stat().st_size
    (copy / "model.safetensors").unlink()
    usage = shutil.disk_usage(copy)._replace(free=n_bytes * 3 // 4)  # enough for bf16
    monkeypatch.setattr("d2l.bases.gguf.shutil.disk_usage", lambda _: usage)
    monkeypatch.setattr(
        "d2l.bases.gguf.transformers.AutoModelForCausalLM.from_pretrained",
        lambda *_, **__: pytest.fail("too late"),
    )
    with pytest.raises(BaseModelError, match="No space left on device") as caught:
        ensure_weights(sample[0], copy)
    assert caught.value.hint == HINT
    with pytest.raises(pytest.fail.Exception, match="too late"):
        ensure_weights(sample[0], copy, torch.bfloat16)
