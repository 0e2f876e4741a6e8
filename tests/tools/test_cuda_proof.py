"""The proof for people with a card: all its steps pass on the CPU, and a difference is found."""

import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import conftest
from tests.compiled import write_files
from tests.hypernets import loading
from tests.processes import ROOT, run_python
from tests.test_pretend_gpu import has_python_backends
from tests.tools import cuda_full_size, cuda_proof
from tests.tools.cuda_machine import Machine, Row

PROVEN = ["goldens fp32", "goldens bf16", "pipelines "]
PROVEN += [f"full size eager {n}" for n in (40, 60, 80)]
PROVEN += ["full size blocks", *(f"full size blocks {n}" for n in (40, 60, 80))]


@pytest.mark.skipif(not has_python_backends(), reason="this torch has no devices of Python")
def test_a_dry_run_passes_all_steps(tmp_path: Path) -> None:
    """With the pipelines on the pretended GPU, which no other test runs."""
    out = tmp_path / "proof.json"
    done = run_python("-m", "tests.tools.cuda_proof", "--dry-run", "--out", out, folder=ROOT)
    facts = json.loads(out.read_text("utf-8"))
    assert done.returncode == 0, json.dumps(facts["rows"], indent=1)[-10_000:]
    rows = {f"{row['step']} {row['name']}": row for row in facts["rows"]}
    passed = (facts["passed"], facts["dry_run"], facts["card"])
    assert passed == (True, True, "pretended card, pretended card")
    skipped = {name for name, row in rows.items() if row["passed"] is None}
    assert skipped <= {"full size flash", "note vllm"}
    assert [*rows][: len(PROVEN)] == PROVEN
    assert {"use rank 4", "use ask", "use metering", "cards batch"} <= {*rows} - skipped
    n_passed, n_run = map(int, re.findall(r"\d+", rows["pipelines "]["note"]))
    assert n_passed == n_run > 30
    assert rows["pipelines "]["facts"]["skipped"] >= 2  # the tests that need a real card
    for row in rows.values():
        assert row["note"] in done.stdout
    assert done.stdout.endswith("please send proof.json as an issue of the project\n")


@pytest.mark.usefixtures("one_thread")
def test_another_golden_is_a_difference_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    goldens = shutil.copytree(loading.COMMITTED, tmp_path / "goldens")
    monkeypatch.setattr(loading, "COMMITTED", goldens)
    monkeypatch.setattr(loading, "SIBLING", tmp_path / "none")
    words = ["--dry-run", "--only", "goldens", "--out", str(tmp_path / "proof.json")]
    assert cuda_proof.main(words) == 0
    (path,) = goldens.glob("d2l/*/expected.safetensors")
    recorded = load_file(path)
    changed = next(name for name in recorded if name.startswith("three.merged"))
    recorded[changed] = recorded[changed] * 1.001  # more than fp32 rounds, and less than bf16
    save_file(recorded, path)
    capsys.readouterr()
    assert cuda_proof.main(words) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[1:3]] == ["DIFFERS", "pass"]
    assert lines[-1].startswith("verdict    something differs")
    facts = json.loads((tmp_path / "proof.json").read_text("utf-8"))
    assert (facts["passed"], [row["passed"] for row in facts["rows"]]) == (False, [False, True])


def test_an_error_is_a_difference_and_the_next_step_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setitem(cuda_proof.STEPS, "goldens", fail)
    monkeypatch.setitem(
        cuda_proof.STEPS, "cards", lambda _: iter([Row("cards", "", None, "one card")])
    )
    words = ["--dry-run", "--only", "goldens", "--only", "cards"]
    assert cuda_proof.main([*words, "--out", str(tmp_path / "proof.json")]) == 1
    shown = capsys.readouterr().out
    assert "DIFFERS  RuntimeError: no kernel image is available\n" in shown
    assert "skipped  one card\n" in shown


@pytest.mark.usefixtures("one_thread")
def test_a_peak_over_the_estimate_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_full_size, "SLACK", 0)  # the pretended card tells 101 MB
    out = tmp_path / "proof.json"
    assert cuda_proof.main(["--dry-run", "--only", "full-size", "--out", str(out)]) == 1
    rows = {row["name"]: row["passed"] for row in json.loads(out.read_text("utf-8"))["rows"]}
    assert rows == {
        **{f"eager {n}": True for n in (40, 60, 80)},  # d2l estimates none, as it never picks it
        "blocks": True,
        **{f"blocks {n}": False for n in (40, 60, 80)},
        "flash": None,
    }


def test_full_memory_is_a_difference_where_the_estimate_says_that_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0")

    machine = Machine(("cpu",), tmp_path, True)
    compiler = machine.make_compiler(write_files(tmp_path, "gemma2"), chunk_tokens=1 << 20)
    monkeypatch.setattr("d2l.bases.activations.ActivationEncoder._run", fill)
    for free, kind, passed in (
        (10**9, "blocks", False),
        (10, "blocks", None),
        (10**9, "eager", None),
    ):
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda _, free=free: (free, free))
        row = cuda_full_size.measure_length(compiler, kind, 40)
        assert (row.passed, row.note.startswith("the memory of cuda:0 is full")) == (passed, True)


def test_vllm_is_asked_if_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pretended vLLM, which answers what the adapter does not."""
    (tmp_path / "vllm" / "lora").mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").write_text(
        "from types import SimpleNamespace\n"
        "SamplingParams = dict\n"
        "class LLM:\n"
        "    __init__ = lambda self, base, **_: None\n"
        "    chat = lambda *_, **__: [SimpleNamespace(outputs=[SimpleNamespace(text='blue')])]\n"
    )
    (tmp_path / "vllm" / "lora" / "request.py").write_text("LoRARequest = lambda *_: None\n")
    (tmp_path / "vllm-1.2.dist-info").mkdir()
    (tmp_path / "vllm-1.2.dist-info" / "METADATA").write_text("Name: vllm\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    words = ["--dry-run", "--only", "note", "--out", str(tmp_path / "proof.json")]
    assert cuda_proof.main(words) == 1
    assert "note       vllm          DIFFERS  'blue'\n" in capsys.readouterr().out


def test_without_a_card_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: False)
    assert cuda_proof.main([]) == 2
    assert "error: this torch has no CUDA\n" in capsys.readouterr().err


@pytest.mark.parametrize(("asked", "seen"), [("", ""), ("not slow", ""), ("gpu", "7")])
def test_cards_are_hidden_unless_tests_for_them_are_asked_for(
    asked: str, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    conftest.pytest_configure(SimpleNamespace(getoption=lambda _: asked))  # type: ignore[arg-type]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


def test_this_run_has_no_card(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("markexpr") != "gpu":
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
