"""Recipe of a trained suffix: the keys of a TOML file, as checked values."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from d2l.errors import RecipeError
from d2l_lab.training.learners.recipes import Count, Number, Text, Weight

_CHECKS = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, config=_CHECKS)
class PageSource:
    """File of questions: JSON lines of doc, question, answers, maybe title; plain or gzip."""

    path: Text
    """The file, in the folder `data`."""
    weight: Weight
    """Pages of this file, relative to the other sources."""
    joins: Literal["nothing", "titles", "all"] = "nothing"
    """Neighbors that may make one page: none, those of one title, or any."""


@dataclass(frozen=True, config=_CHECKS)
class SuffixRecipe:
    """Recipe of a suffix; paths are from the working directory."""

    base: Text
    """Base: a folder, GGUF file, alias or hub name."""
    data: Text
    """Folder of the sources' files."""
    sources: tuple[PageSource, ...]
    steps: Number
    """Steps, a page each."""
    pages: Number
    """Pages that are drawn; the first ones are trained on."""
    seed: Count = 0
    """Seed of the pages."""
    offline: bool = False
    """Open no socket."""
    device: Text = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    rate: Weight = 0.02
    """Peak of Adam's learning rate, after 20 steps of warm-up; then a cosine down to 0."""


def read_suffix_recipe(path: Path) -> SuffixRecipe:
    """Read and check a recipe; raises RecipeError."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
        return TypeAdapter(SuffixRecipe).validate_python(values)
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}", hint="name a TOML file") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RecipeError(
            f"{path}: {place}: {first['msg']}", hint="recipes/suffix.toml has all keys"
        ) from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise RecipeError(f"{path}: {error}", hint="name a TOML file") from error
