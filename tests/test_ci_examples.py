"""The examples for CI and containers: the script runs, and their files name what exists."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from d2l.bases.catalog import BY_ALIAS
from d2l.hypernets.registry import ALIASES
from tests import tiny
from tests.compiled import write_files
from tests.processes import make_environment

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "ci" / "check-adapters.sh"
WORKFLOW = yaml.safe_load((ROOT / "examples" / "ci" / "adapters.yml").read_text("utf-8"))
DOCKERFILE = ROOT / "examples" / "docker" / "Dockerfile"
LINES = [
    line for line in DOCKERFILE.read_text("utf-8").splitlines() if line and not line.startswith("#")
]


@pytest.mark.slow
def test_the_script_compiles_checks_and_probes(tmp_path: Path) -> None:
    base, checkpoint = write_files(tmp_path, "seats")
    for name in ("docs", "questions", "bin"):
        (tmp_path / name).mkdir()
    (tmp_path / "docs" / "handbook.txt").write_text(tiny.DOCUMENT)
    row = {"question": "How often is the filter rinsed?", "answers": ["14 days"]}
    (tmp_path / "questions" / "handbook.jsonl").write_text(json.dumps(row))
    program = tmp_path / "bin" / "d2l"  # the command, with a base that nobody has
    fixed = f"--base {base} --device cpu --offline"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m d2l "$@" {fixed}\n')
    program.chmod(0o755)

    def run() -> subprocess.CompletedProcess[str]:
        environment = make_environment(
            PATH=f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            D2L_CHECKPOINT=str(checkpoint),
            D2L_CACHE_DIR=str(tmp_path / "cache"),
        )
        words = [str(SCRIPT), "docs", "questions", "adapters", "0.5"]
        options = {"capture_output": True, "text": True, "check": False}
        return subprocess.run(words, cwd=tmp_path, env=environment, **options)

    made = run()
    assert (made.returncode, "\ntime " in made.stdout) == (1, True)
    assert "right, less than 0.5\n" in made.stderr
    assert made.stderr.endswith("\nfailed: handbook\n")
    (tmp_path / "questions" / "handbook.jsonl").unlink()
    unchanged = run()
    assert (unchanged.returncode, unchanged.stderr) == (0, "")
    assert "\nunchanged " in unchanged.stdout
    (tmp_path / "adapters" / "handbook.lora" / "README.md").write_text("altered")
    altered = run()
    assert (altered.returncode, altered.stdout) == (1, "")
    assert altered.stderr.endswith("\nfailed: handbook\n")


def test_the_script_is_short_and_can_be_run() -> None:
    assert len(SCRIPT.read_text("utf-8").splitlines()) <= 41
    assert os.access(SCRIPT, os.X_OK)


def test_the_workflow_runs_the_script_when_documents_or_questions_change() -> None:
    steps = WORKFLOW["jobs"]["check"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    alias = commands[1].removeprefix("d2l bases fetch ")
    network = WORKFLOW["jobs"]["check"]["env"]["D2L_CHECKPOINT"]
    assert BY_ALIAS[alias].name == ALIASES[network].base
    path, docs, questions, adapters, _ = commands[-1].split()
    assert Path(path).name == SCRIPT.name
    for event in WORKFLOW[True].values():  # YAML takes "on" for a truth value
        assert event["paths"] == [f"{docs}/**", f"{questions}/**"]
    cached = [step["with"]["path"].split() for step in steps if "cache" in step.get("uses", "")]
    assert cached == [["cache", adapters]]


def test_the_dockerfile_copies_what_is_here_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copied = [source for line in LINES if line[:5] == "COPY " for source in line.split()[1:-1]]
    assert "d2l" in copied
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
    assert "://" not in "\n".join(LINES)


def test_the_image_has_a_base_a_cache_and_no_root() -> None:
    (base,) = [line.partition("=")[2] for line in LINES if line.startswith("ARG BASE=")]
    assert BY_ALIAS[base].name == ALIASES[base].base
    assert "ENV D2L_CHECKPOINT=$BASE T2L_CHECKPOINT=$BASE" in LINES
    cache = re.search(r"D2L_CACHE_DIR=(\S+)", "\n".join(LINES))
    assert cache is not None
    assert f"VOLUME {cache[1]}" in LINES
    assert LINES.index("USER d2l") < LINES.index('RUN test -z "$BASE" || d2l bases fetch "$BASE"')
    assert LINES[-1] == 'ENTRYPOINT ["d2l"]'


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not installed")
def test_the_image_builds_and_runs() -> None:
    def docker(*words: str) -> str:
        return subprocess.run(
            ["docker", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout

    image = docker("build", "-q", "-f", str(DOCKERFILE), "--build-arg", "BASE=", ".").strip()
    assert "d2l" in docker("run", "--rm", image, "--version")
