"""A full memory, of a GPU or of this machine: one line and what helps, wherever it happens."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
import torch

import d2l
from d2l.bases import gguf
from d2l.errors import OutOfMemoryError
from d2l.memory import explain_shortage
from tests import tiny
from tests.command import Command
from tests.compiled import Compile, make_document
from tests.loaded import load
from tests.refusals import refuse
from tests.serving import Shelf, running, say

pytestmark = pytest.mark.usefixtures("one_thread", "cache")
CUDA = "CUDA out of memory. Tried to allocate {}. GPU {} has a total capacity of 23.64 GiB."
LESS = "; a Doc-to-LoRA network needs less with a smaller --chunk-tokens"
GPU = "use --device cpu" + LESS
HOST = "end other programs" + LESS
NETWORK = ("--checkpoint", "N")
ANSWERING = "d2l.answer.torch_engine.decode"
CARD, HERE = "cuda:0 is full", "this machine is full"
FULL = "the memory of cuda:1 is full: 21.47 GB more are needed, 1.50 GB are free"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card with 1.5 GB free, and 8.25 GB of this machine's memory."""
    host = SimpleNamespace(available=825 * 10**7)
    monkeypatch.setattr("psutil.virtual_memory", lambda: host)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (15 * 10**8, 24 * 10**9))


def fill_cuda(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError(CUDA.format("20.00 GiB", 1))


def fill_host(*_: Any, **__: Any) -> Any:
    return torch.empty(1 << 50)  # fails truly


def catch(call: Callable[[], object]) -> Exception:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("error", "told", "hint"),
    [
        (CUDA.format("20.00 MiB", 0), f"{CARD}: 0.02 GB more are needed, 1.50 GB are free", GPU),
        ("CUDA error: out of memory", f"{CARD}: 1.50 GB are free", GPU),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED", f"{CARD}: 1.50 GB are free", GPU),
        ("MPS backend out of memory", "mps is full", GPU),
        (catch(fill_host), f"{HERE}: 4,503,599.63 GB more are needed, 8.25 GB are free", HOST),
        (catch(lambda: bytearray(1 << 60)), f"{HERE}: 8.25 GB are free", HOST),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), f"{HERE}: 8.25 GB are free", HOST),
    ],
)
def test_what_is_needed_and_free_is_told(error: Exception | str, told: str, hint: str) -> None:
    found = explain_shortage(RuntimeError(error) if isinstance(error, str) else error)
    assert found is not None
    assert (found.message, found.hint) == (f"the memory of {told}", hint)


def test_another_card_is_named_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    told = explain_shortage(catch(fill_cuda))
    assert told is not None
    assert told.hint == f"use another --device cuda:N or --device cpu{LESS}"


@pytest.mark.parametrize(
    "error",
    [RuntimeError("size mismatch"), OSError(errno.ENOSPC, "full"), ValueError("out of memory")],
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert explain_shortage(error) is None


STEPS = {
    "load the base": (("ask", "A", "Where?"), "transformers.PreTrainedModel.from_pretrained"),
    "load the reader": (
        ("compile", "note.txt", *NETWORK),
        "transformers.PreTrainedModel.from_pretrained",
    ),
    "compile": (("compile", "note.txt", *NETWORK), "d2l.bases.activations.ActivationEncoder._run"),
    "put on": (("ask", "A", "Where?"), "peft.PeftModelForCausalLM"),
    "answer": (("ask", "A", "Where?"), ANSWERING),
}


@pytest.mark.parametrize("step", STEPS)
def test_each_step_ends_with_one_line(
    step: str,
    compiled: Compile,
    working_folder: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done, (words, name) = compiled("llama"), STEPS[step]
    (working_folder / "note.txt").write_text(tiny.DOCUMENT)
    given = [{"A": done.adapter, "N": done.checkpoint}.get(word, word) for word in words]
    for fill, line in ((fill_cuda, FULL), (fill_host, "the memory of this machine is full: 4,503")):
        monkeypatch.setattr(name, fill)
        ended = command(*given, "--base", done.base, "--offline", "--device", "cpu")
        message, hint = ended.err.splitlines()[-2:]
        assert (ended.code, ended.out) == (1, "")
        assert message.startswith(f"error: {line}")
        assert hint == f"hint: {GPU if fill is fill_cuda else HOST}"


def test_the_api_raises_the_same(compiled: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    done = compiled("llama")
    asker = load(done)
    monkeypatch.setattr(ANSWERING, fill_cuda)
    assert refuse(OutOfMemoryError, asker.ask, "Where?") == (FULL, GPU)
    monkeypatch.setattr("d2l.bases.activations.ActivationEncoder._run", fill_cuda)
    options = {"base": str(done.base), "device": "cpu", "local_files_only": True}
    compiler = d2l.Compiler.from_pretrained(str(done.checkpoint), **options)
    assert refuse(OutOfMemoryError, compiler, [make_document()]) == (FULL, GPU)


def test_a_file_too_large_is_not_damaged(bases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: Path, **__: bool) -> str:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(gguf, "read_checks", lambda _: {"config.json": ""})
    monkeypatch.setattr(gguf, "file_digest", fill)
    found = refuse(OutOfMemoryError, gguf.find_damage, bases / "llama-tiny", ["config.json"])
    assert found[1] == HOST


def test_a_server_says_so_and_goes_on(compiled: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    done = compiled("llama")
    shelf = Shelf(done.root, done.base)
    with running(shelf) as server, server.client() as client:
        expected = say(client, "tiny", "Where is the pump?")
        with monkeypatch.context() as patch:
            patch.setattr(ANSWERING, fill_cuda)
            with pytest.raises(openai.InternalServerError) as caught:
                say(client, "tiny", "Where is the pump?")
        assert (caught.value.status_code, caught.value.code) == (503, "out_of_memory")
        assert FULL in caught.value.message
        assert say(client, "tiny", "Where is the pump?") == expected
