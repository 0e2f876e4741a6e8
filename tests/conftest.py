"""Fixtures for the whole suite: the built-in network's base, where it is installed."""

import pytest

from d2l.bases.models import BaseFiles, find_base
from d2l.errors import BaseModelError

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture(scope="session")
def smollm2_files() -> BaseFiles:
    try:
        return find_base(BASE, offline=True)
    except BaseModelError as error:
        pytest.skip(f"the built-in network's base is not installed: {error.message}")
