"""README.md says what is so: its console blocks run here, its generated parts are current."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from d2l.bases.models import BaseFiles, load_frozen
from tests.tools import generated_docs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
_FENCE = re.compile(r"^```(console[^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: Seconds differ from run to run.
_SECONDS = re.compile(r"\d+\.\d+ s\b")


@dataclass(frozen=True)
class Step:
    """One command of a console block and what README says it prints."""

    command: str
    output: str


def read_blocks(kind: str) -> list[list[Step]]:
    """All console blocks of a kind ("console" or "console no-run"), as commands with output."""
    blocks = []
    for match in _FENCE.finditer(README):
        if match[1] != kind:
            continue
        parts = re.split(r"^\$ ", match[2], flags=re.MULTILINE)
        assert not parts[0], "a console block begins with a command"
        split = [part.partition("\n") for part in parts[1:]]
        blocks.append([Step(command, output) for command, _, output in split])
    return blocks


def mask(text: str) -> str:
    """The text without what may differ between machines."""
    return _SECONDS.sub("N s", text)


def run_command(command: str, folder: Path) -> str:
    """What a command prints on both streams; it must succeed."""
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": binaries},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"$ {command}\n{done.stdout}"
    return done.stdout


@pytest.mark.slow
def test_console_blocks_print_what_they_say(tmp_path: Path, smollm2_files: BaseFiles) -> None:
    assert smollm2_files  # the blocks compile with the built-in default
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    blocks = read_blocks("console")
    assert len(blocks) >= 5
    for block in blocks:
        for step in block:
            assert mask(run_command(step.command, tmp_path)) == mask(step.output), step.command


@pytest.mark.slow
def test_python_blocks_run(tmp_path: Path, smollm2_files: BaseFiles) -> None:
    """As a reader would: the adapter and the document that the blocks name lie in the folder, and
    the base's name leads to a local copy instead of the hub."""
    load_weights(smollm2_files)
    shutil.copy(ROOT / "examples" / "handbook.pdf", tmp_path / "manual.pdf")
    run_command("d2l compile manual.pdf -o handbook.lora", tmp_path)
    loading, compiling = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    name = '"HuggingFaceTB/SmolLM2-135M-Instruct"'
    assert name in loading
    (tmp_path / "load.py").write_text(loading.replace(name, repr(str(smollm2_files.folder))))
    printed = run_command("python load.py", tmp_path)
    question, answer = printed.split("<|im_start|>user\n")[1].split("<|im_start|>assistant\n")
    assert question.startswith("Which button starts the Orvane 40?")
    assert answer.strip()
    (tmp_path / "compile.py").write_text(compiling)
    run_command("python compile.py", tmp_path)
    assert (tmp_path / "manual.lora" / "adapter_model.safetensors").is_file()


def load_weights(files: BaseFiles) -> None:
    """Make sure that the base's folder has its weights, which are made when they are needed."""
    load_frozen(files, device="cpu", dtype=torch.float32, n_layers=1)


def test_blocks_that_do_not_run_here_need_a_gpu_a_download_or_make() -> None:
    for block in read_blocks("console no-run"):
        for step in block:
            reasons = ("make ", "--device cuda", "sakana/", "pip install")
            assert any(reason in step.command for reason in reasons), step.command


def test_every_console_block_is_of_a_known_kind() -> None:
    assert {match[1] for match in _FENCE.finditer(README)} <= {"console", "console no-run"}


def test_generated_parts_are_current() -> None:
    for name in generated_docs.SECTIONS.keys() - {"recipes"}:
        assert f"<!-- generated: {name} -->" in README
    recipes = (ROOT / "examples" / "recipes" / "README.md").read_text("utf-8")
    assert "<!-- generated: recipes -->" in recipes
    if generated_docs.rewrite(recipes) != recipes:
        pytest.fail("examples/recipes/README.md is stale: run `make docs`")
    if generated_docs.rewrite(README) != README:
        pytest.fail("README.md is stale: run `make docs`")
    for default, name in (("smollm2-135m", "recall"), ("smollm2-135m-t2l", "tasks")):
        card = (ROOT / "d2l" / "hypernets" / "builtin" / default / "README.md").read_text("utf-8")
        assert f"<!-- generated: {name} -->" in card
        if generated_docs.rewrite(card) != card:
            pytest.fail(f"the card of {default} is stale: run `make docs`")


def test_files_that_are_linked_exist() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_document_begins_with_the_two_commands() -> None:
    first, second = (README.index(f"$ {command}") for command in ("make demo", "make test"))
    assert first < second < README.index("## ")
