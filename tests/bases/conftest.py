"""Fixtures for tests of bases: tiny bases in folders, and a machine without network and caches."""

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.bases.gguf_samples import write_gguf


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, empty caches, and no network: opening a socket is a failure."""

    class Refusing(socket.socket):
        def __init__(self, *_arguments: Any, **_options: Any) -> None:
            pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", Refusing)
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def base(bases: Path, tmp_path: Path) -> Path:
    """A tiny Llama's folder of the test's own, to be damaged."""
    return shutil.copytree(bases / "llama-tiny", tmp_path / "llama-tiny")


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama as a GGUF file."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")
