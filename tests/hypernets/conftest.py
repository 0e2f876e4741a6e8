"""Fixtures for the seat network: the real base where it is installed, and the goldens."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from d2l.bases.models import BaseFiles, load_causal, load_frozen
from d2l.bases.tokenizers import BaseTokenizer
from d2l.hypernets.seats.network import Seats, load_seats
from tests.tools.seat_goldens import BUILTIN, GOLDENS, ORIGINAL, Compiled, compile_case


@pytest.fixture(scope="session")
def cases() -> dict[str, Any]:
    return json.loads((GOLDENS / "cases.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def smollm2(smollm2_files: BaseFiles) -> nn.Module:
    return load_frozen(smollm2_files, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def smollm2_causal(smollm2_files: BaseFiles) -> Any:
    return load_causal(smollm2_files, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def smollm2_tokenizer(smollm2_files: BaseFiles) -> BaseTokenizer:
    return BaseTokenizer(smollm2_files.folder)


@pytest.fixture(scope="session")
def shared_seats() -> Path:
    """The original checkpoint, bf16 weights and all goldens: beside the repository or nowhere."""
    if not ORIGINAL.is_dir():
        pytest.skip("the original seats-v0 is not here")
    return ORIGINAL


@pytest.fixture(scope="session")
def shipped(smollm2: nn.Module) -> Seats:
    return load_seats(BUILTIN, smollm2)


@pytest.fixture(scope="session")
def original(smollm2: nn.Module, shared_seats: Path) -> Seats:
    return load_seats(shared_seats, smollm2)


@pytest.fixture(scope="session")
def compile_shipped(shipped: Seats, cases: dict[str, Any]) -> Callable[[str], Compiled]:
    """Compile a golden document by its name with the small network; each only once."""
    return cache(lambda name: compile_case(shipped, cases, name))


@pytest.fixture(scope="session")
def compile_original(original: Seats, cases: dict[str, Any]) -> Callable[[str], Compiled]:
    """Compile a golden document by its name with the original weights; each only once."""
    return cache(lambda name: compile_case(original, cases, name))
