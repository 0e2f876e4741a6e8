"""Devices: which one is taken, and what is said of one that is not there."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch

import d2l
from d2l.bases import devices
from d2l.bases.devices import name_dtype, pick_device, pick_dtype
from d2l.bases.precision import Speedup
from d2l.errors import BaseModelError
from tests.command import Command
from tests.refusals import refuse

WORDS = "use auto, cpu, cuda, cuda:N or mps"
AUTO = "use --device auto"
ABSENT = "device {!r} is not available on this machine"
CARDS = "`nvidia-smi` shows driver and cards; or use --device auto"
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have one. Get it."
refusal = partial(refuse, BaseModelError)


def test_devices_of_this_machine() -> None:
    assert pick_device("cpu") == "cpu"
    assert pick_device("cpu:0") == "cpu:0"
    best = "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device("auto") == ("cuda" if torch.cuda.is_available() else best)
    torch.zeros(1).to(pick_device("auto"))


@pytest.mark.parametrize(
    "device",
    ["", "CPU", " cpu", "cpu\n", "cpu:", "cpu:x", "cpu:-1", "cpu:0:1", "cpu:²", "xpu", "cuda:"],
)
def test_other_words_are_no_devices(device: str) -> None:
    assert refusal(pick_device, device) == (f"unknown device {device!r}", WORDS)


@pytest.mark.parametrize("device", ["cpu:1", "mps:1"])
def test_device_that_is_not_there_is_refused(device: str) -> None:
    assert refusal(pick_device, device) == (ABSENT.format(device), AUTO)


@pytest.mark.parametrize(
    ("built", "error", "n_cards", "reason", "hint"),
    [
        (False, None, 0, "this torch has no CUDA", f"install the CUDA build of torch, or {AUTO}"),
        (True, NO_DRIVER, 0, "Found no NVIDIA driver on your system", CARDS),
        (True, "No CUDA GPUs are available", 0, "No CUDA GPUs are available", CARDS),
        (True, None, 2, "CUDA devices here: 2", AUTO),
    ],
)
def test_why_a_cuda_device_is_not_there(
    built: bool,
    error: str | None,
    n_cards: int,
    reason: str,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init() -> None:
        raise RuntimeError(error)

    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: built)
    monkeypatch.setattr("torch.cuda.is_available", lambda: n_cards > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: n_cards)
    monkeypatch.setattr("torch.cuda.init", init)
    assert refusal(pick_device, "cuda:2") == (f"{ABSENT.format('cuda:2')}: {reason}", hint)
    if n_cards:
        assert [pick_device(name) for name in ("auto", "cuda:1")] == ["cuda", "cuda:1"]


@pytest.mark.parametrize(
    "words",
    [
        ("ask", "org/adapter", "Where?"),
        ("probe", "org/adapter", "--qa", "notes.txt"),
        ("serve", "org/adapter"),
        ("compile", "notes.txt", "--checkpoint", "org/network"),
    ],
)
def test_the_device_is_checked_before_anything_is_looked_up(
    words: tuple[str, ...],
    working_folder: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (working_folder / "notes.txt").write_text("The valve is copper.")
    done = command(*words, "--device", "cuda", "--offline")
    assert done.code == 1
    assert done.err.startswith(f"error: {ABSENT.format('cuda')}: ")


@pytest.mark.parametrize(("is_fast", "on_cpu"), [(False, "fp32"), (True, "bf16")])
def test_bases_are_half_as_wide_on_cuda_and_on_processors_that_are_faster_then(
    is_fast: bool, on_cpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("D2L_BASE_DTYPE")
    speed = Speedup(4.0 if is_fast else 0.5, 1.0)
    monkeypatch.setattr("d2l.bases.devices.find_speedup", lambda: speed)
    names = ("cpu", "mps", "cuda", "cuda:1")
    picked = [name_dtype(pick_dtype(name)) for name in names]
    assert picked == [on_cpu, "fp32", "bf16", "bf16"]
    assert pick_dtype("cpu", measured=False) == torch.float32
    monkeypatch.setenv("D2L_BASE_DTYPE", "fp16")
    assert {pick_dtype(name, measured=False) for name in names} == {torch.float16}


def test_an_unknown_precision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D2L_BASE_DTYPE", "int4")
    told = ("D2L_BASE_DTYPE is 'int4'", "choose from bf16, fp16, fp32")
    assert refusal(pick_dtype, "cpu") == told


def test_code_asks_one_function_whether_a_device_is_cuda() -> None:
    sources = {path: path.read_text("utf-8") for path in Path(d2l.__file__).parent.rglob("*.py")}
    asking = {path for path in sources if re.search(r'(== |with\()"cuda"', sources[path])}
    assert asking == {Path(devices.__file__)}
