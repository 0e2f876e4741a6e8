"""The tiny tokenizer, and a recipe of a few steps."""

from pathlib import Path

import pytest

from d2l.bases.tokenizers import BaseTokenizer
from d2l_lab.training.learners.recipes import Recipe
from d2l_lab.training.recipe_files import read_recipe
from examples.training.tests.toy import write_recipe


@pytest.fixture(scope="session")
def tokenizer(bases: Path) -> BaseTokenizer:
    return BaseTokenizer(bases / "llama-tiny")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return read_recipe(write_recipe(tmp_path / "a.toml"))
