"""Training recipes: a TOML file in, checked values out.

Every key is known by name and type; what is wrong is one line with the file and the key. Knows no
network and loads nothing.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from d2l.errors import RecipeError

PRECISIONS = ("bfloat16", "float32")


@dataclass(frozen=True)
class Source:
    """A data file (JSON lines of doc, question, answers; or of doc alone) and how often it is drawn
    from, relative to the others."""

    path: str
    weight: float
    max_documents: int = 100_000


@dataclass(frozen=True)
class Length:
    """One class of steps: `chunks` passages of at most `tokens` tokens in each of `memories`
    memories, `questions` about each memory; drawn as often as `weight` says."""

    tokens: int
    chunks: int
    memories: int
    questions: int
    weight: float


@dataclass(frozen=True)
class Recipe:
    """How to train; the fields are the keys of the file. Paths are from the working directory.

    checkpoint: seat network to start from. data: folder of the sources' files. sources: what to
    read. lengths: classes of steps. seed: of every draw. steps, hours: the run ends after so many
    steps, or hours of training time, whichever comes first; 0 is no limit. learning_rate: its peak,
    after `warmup_steps`; then a cosine down to `final_share` of it. clip: largest norm of the
    gradient. beta1, beta2: AdamW's. recitation_share: part of questions that give the beginning of
    a sentence and ask for the rest. general_share: part of questions that have nothing to do with
    the document, whose target is the base's own distribution; they count `general_weight` times.
    save_minutes: time between saved states. precision: of the base, a name in PRECISIONS.
    """

    checkpoint: str
    data: str
    sources: tuple[Source, ...]
    lengths: tuple[Length, ...]
    seed: int = 0
    steps: int = 0
    hours: float = 0.0
    learning_rate: float = 5e-4
    warmup_steps: int = 30
    final_share: float = 0.1
    clip: float = 0.5
    beta1: float = 0.9
    beta2: float = 0.98
    recitation_share: float = 0.15
    general_share: float = 0.125
    general_weight: float = 1.0
    save_minutes: float = 5.0
    precision: str = "bfloat16"

    def __post_init__(self) -> None:
        if self.steps <= 0 and self.hours <= 0:
            raise RecipeError("the recipe never ends", hint="set steps, hours, or both")
        if not self.sources or not self.lengths:
            raise RecipeError("the recipe needs [[sources]] and [[lengths]]")
        if self.precision not in PRECISIONS:
            raise RecipeError(
                f"precision is {self.precision!r}", hint=f"choose one of {', '.join(PRECISIONS)}"
            )
        for name in ("recitation_share", "general_share", "final_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} is {getattr(self, name)}, expected 0 to 1")
        for name in ("learning_rate", "clip", "save_minutes"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"{name} is {getattr(self, name)}, expected a number above 0")
        items: tuple[Source | Length, ...] = (*self.sources, *self.lengths)
        for item in items:
            for field in fields(item):
                value = getattr(item, field.name)
                if not isinstance(value, str) and not value > 0:
                    kind = type(item).__name__.lower()
                    raise RecipeError(f"{field.name} of a {kind} is {value}, expected above 0")


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe; raises RecipeError."""
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}", hint="name a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not TOML: {error}") from error
    try:
        for key, kind in (("sources", Source), ("lengths", Length)):
            items = raw.get(key, [])
            if not isinstance(items, list):
                raise RecipeError(f"{key} is not a list of tables", hint=f"write [[{key}]]")
            raw[key] = tuple(_build(kind, item, where=f"{key}: ") for item in items)
        recipe: Recipe = _build(Recipe, raw, where="")
    except RecipeError as error:
        raise RecipeError(f"{path}: {error.message}", hint=error.hint) from error
    return recipe


def _build(kind: Any, raw: object, *, where: str) -> Any:
    """A dataclass from a table whose keys must be its fields."""
    if not isinstance(raw, Mapping):
        raise RecipeError(f"{where}{raw!r} is not a table")
    known = {item.name: item for item in fields(kind)}
    for name in raw:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise RecipeError(
                f"{where}unknown key {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}",
            )
    missing = [name for name, item in known.items() if item.default is MISSING and name not in raw]
    if missing:
        raise RecipeError(f"{where}missing key {missing[0]!r}")
    values = {name: _check(name, raw[name], known[name].type, where) for name in raw}
    return kind(**values)


def _check(name: str, value: object, wanted: Any, where: str) -> object:
    """The value if it has a field's type; an integer passes as a float, a bool as neither."""
    if wanted is float and type(value) is int:
        return float(value)
    if isinstance(wanted, type) and type(value) is not wanted:
        raise RecipeError(f"{where}{name} is {value!r}, expected {wanted.__name__}")
    return value
