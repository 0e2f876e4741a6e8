"""Training recipes: a TOML file in, checked values out.

Every key is known by name, type and range; what is wrong is one line with the file, the line and
the key. Knows no network and loads nothing.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from d2l.errors import RecipeError
from d2l.training.toml_lines import find_line

_MOST = 10**9  # steps, documents, tokens: more is a slip of the pen


def _number(low: float, high: float = _MOST, *, above: bool = False, default: Any = MISSING) -> Any:
    """A number's range, both ends included; `above` leaves the lower one out."""
    return field(default=default, metadata={"low": low, "high": high, "above": above})


def _choice(*choices: str, default: str) -> Any:
    return field(default=default, metadata={"choices": choices})


#: Keys that only seat networks make use of; 0 switches them off.
_FOR_SEATS = (
    "unanswerable_share",
    "general_share",
    "tokens_per_seat",
    "dense_seats",
    "shared_rank",
    "statistics_draws",
)
_OF_LENGTHS_FOR_SEATS = ("tokens_per_seat", "general_weight")


@dataclass(frozen=True)
class Source:
    """A data file (JSON lines of doc, question, answers; or of doc alone) and how often it is drawn
    from, relative to the others. Of a longer file, `max_documents` are taken, by chance. Of files
    of tasks, each task is drawn so often, and `hold_out` says whether any may be held out."""

    path: str
    weight: float = _number(0, above=True)
    max_documents: int = _number(1, default=100_000)
    hold_out: bool = True

    def __post_init__(self) -> None:
        _check_all(self, "sources: ")


@dataclass(frozen=True)
class Length:
    """One class of steps: `chunks` passages of at most `tokens` tokens in each of `memories`
    memories, `questions` about each memory; drawn as often as `weight` says. `tokens_per_seat`:
    the density of its seats, and `general_weight`: what general prompts count in it, where these
    are not the recipe's (seat networks; 0 changes nothing)."""

    tokens: int = _number(1)
    chunks: int = _number(1, 1024)
    memories: int = _number(1, 4096)
    questions: int = _number(1, 4096)
    weight: float = _number(0, above=True)
    tokens_per_seat: int = _number(0, default=0)
    general_weight: float = _number(0, default=0.0)

    def __post_init__(self) -> None:
        _check_all(self, "lengths: ")


@dataclass(frozen=True)
class Recipe:
    """How to train; the fields are the keys of the file. Paths are from the working directory.

    checkpoint: network to train, a folder, file or name as for `d2l compile --checkpoint`. fresh:
    take only the checkpoint's config.json and statistics, and draw new weights from `seed` (seat
    networks; its weights file may then be missing). tokens_per_seat: another density of seats than
    the checkpoint's; dense_seats: so many of them hold one token each where a document is short;
    shared_rank: a shared LoRA that it lacks, drawn from `seed` (seat networks; 0 changes nothing).
    statistics_draws: measure the second moments of ordinary text anew before the first step, with
    the checkpoint's memories in place, over so many draws (seat networks; 0 takes those there are).
    data: folder of the sources' files. sources, lengths: the mixture; every step draws a length,
    then passages from the sources. seed: of every draw. steps, hours: the run ends after so many
    steps, or hours of training time, whichever comes first; 0 is no limit.

    device: auto, cpu, cuda, cuda:N or mps; with several processes, each takes a CUDA device of its
    own, or all of them the CPU. precision: of the frozen base. mixed_precision: bf16 computes the
    network's matrices in bf16 under autocast, which pays on a GPU; its weights and the optimizer's
    state stay fp32.

    optimizer: adamw, or muon for the matrices of linear layers and AdamW for all else, both at one
    learning rate. learning_rate: its peak, after `warmup_steps`; then a cosine down to
    `final_share` of it. clip: largest norm of the gradient. beta1, beta2: AdamW's. weight_decay: of
    matrices. recitation_share: part of questions that give the beginning of a sentence and ask for
    the rest; cloze_share: part that ask for a name or a number of a sentence; the two together are
    at most 1, and all there is where a passage has no questions. unanswerable_share: part of
    questions that are asked of a neighboring passage, which the right answer to is that the
    document does not say. general_share: part of questions
    that have nothing to do with the document, whose target is the base's own distribution; they
    count `general_weight` times (seat networks; 0 for others). They are the shipped general prompts
    and `general_questions` of the data's questions, asked where their document is not at hand, and
    `general_sampled` prompts that the base writes itself.
    generated_l1: weight of the mean absolute value of what a Doc-to-LoRA network writes.
    save_minutes: time between saved states.

    A text network's sources are files of tasks; a step of a length draws `memories` tasks, a
    description of each, and `questions` examples of at most `tokens` tokens, answer and chat
    template included (`chunks` is 1). Tasks without a clear license are left out, and those named
    in excluded. held_out: so many of the rest are kept out of training, those whose names have the
    smallest SHA-256. descriptions: most of a task's that are used, drawn by chance.
    embedding_noise: deviation of noise on a description's embedding, whose every coordinate has
    deviation 1 over the descriptions of training.
    """

    checkpoint: str
    data: str
    sources: tuple[Source, ...]
    lengths: tuple[Length, ...]
    fresh: bool = False
    tokens_per_seat: int = _number(0, default=0)
    dense_seats: int = _number(0, default=0)
    shared_rank: int = _number(0, default=0)
    statistics_draws: int = _number(0, 10**6, default=0)
    seed: int = _number(-(2**63), 2**63 - 1, default=0)
    steps: int = _number(0, default=0)
    hours: float = _number(0, 1e6, default=0.0)
    device: str = "auto"
    precision: str = _choice("bfloat16", "float32", default="bfloat16")
    mixed_precision: str = _choice("no", "bf16", default="no")
    optimizer: str = _choice("adamw", "muon", default="adamw")
    learning_rate: float = _number(0, 1e3, above=True, default=5e-4)
    warmup_steps: int = _number(0, default=30)
    final_share: float = _number(0, 1, default=0.1)
    clip: float = _number(0, above=True, default=0.5)
    beta1: float = _number(0, 1 - 1e-9, default=0.9)
    beta2: float = _number(0, 1 - 1e-9, default=0.98)
    weight_decay: float = _number(0, 1e3, default=0.0)
    recitation_share: float = _number(0, 1, default=0.15)
    cloze_share: float = _number(0, 1, default=0.0)
    unanswerable_share: float = _number(0, 1, default=0.0)
    general_share: float = _number(0, 1, default=0.125)
    general_weight: float = _number(0, default=1.0)
    general_questions: int = _number(0, 10**5, default=0)
    general_sampled: int = _number(0, 10**5, default=0)
    generated_l1: float = _number(0, default=0.1)
    save_minutes: float = _number(0, 1e6, above=True, default=5.0)
    excluded: tuple[str, ...] = ()
    held_out: int = _number(0, default=0)
    descriptions: int = _number(1, default=32)
    embedding_noise: float = _number(0, 1e3, default=0.0)

    def __post_init__(self) -> None:
        _check_all(self, "")
        if self.steps == 0 and self.hours == 0:
            raise RecipeError("the recipe never ends", hint="set steps, hours, or both")
        if self.recitation_share + self.cloze_share > 1:
            raise RecipeError("recitation_share and cloze_share are more than 1 together")
        if not self.sources or not self.lengths:
            raise RecipeError("the recipe needs [[sources]] and [[lengths]]")


def refuse_seat_keys(recipe: Recipe, kind: str) -> None:
    """Refuse what only seat networks make use of, for a network of another `kind`; raises
    RecipeError."""
    for name in _FOR_SEATS:
        if value := getattr(recipe, name):
            raise RecipeError(
                f"{name} is {value}, and that is for seat networks",
                hint=f"set {name} = 0 to train a {kind} network",
            )
    for name in _OF_LENGTHS_FOR_SEATS:
        if value := max(getattr(length, name) for length in recipe.lengths):
            raise RecipeError(
                f"{name} of a length is {value}, and that is for seat networks",
                hint=f"leave it out to train a {kind} network",
            )


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe; raises RecipeError with the file, and the line if there is one."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        raw = tomllib.loads(text)
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}", hint="name a TOML file") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RecipeError(
            f"{path}, line {line}: not UTF-8 text", hint="save it as UTF-8"
        ) from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # of TOML: tomllib's own, and int's for 5000 digits
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(f"{path}: not TOML: {reason}") from error
    try:
        for key, kind in (("sources", Source), ("lengths", Length)):
            items = raw.get(key, [])
            if not isinstance(items, list):
                raise _Misfit(f"{key} is not a list of tables", f"write [[{key}]]", key)
            raw[key] = tuple(_build(kind, item, (key, n)) for n, item in enumerate(items))
        if isinstance(raw.get("excluded"), list):
            raw["excluded"] = tuple(raw["excluded"])
        recipe: Recipe = _build(Recipe, raw, None)
    except RecipeError as error:
        place = getattr(error, "place", None)
        line_number = None if place is None else find_line(text, *place)
        where = f"{path}" if line_number is None else f"{path}, line {line_number}"
        raise RecipeError(f"{where}: {error.message}", hint=error.hint) from error
    return recipe


class _Misfit(RecipeError):
    """A key that does not fit; `place` is what `find_line` needs to find it in the file."""

    def __init__(
        self, message: str, hint: str | None, key: str | None, table: tuple[str, int] | None = None
    ) -> None:
        super().__init__(message, hint)
        self.place = (key, table)


def _build(kind: Any, raw: object, table: tuple[str, int] | None) -> Any:
    """A dataclass from a table whose keys must be its fields."""
    where = "" if table is None else f"{table[0]}: "
    if not isinstance(raw, Mapping):
        raise _Misfit(f"{where}{_show(raw)} is not a table", None, table[0] if table else None)
    known = {item.name: item for item in fields(kind)}
    for name in raw:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise _Misfit(f"{where}unknown key {_show(name)}", hint, name, table)
    missing = [name for name, item in known.items() if item.default is MISSING and name not in raw]
    if missing:
        raise _Misfit(f"{where}missing key {missing[0]!r}", None, None, table)
    values = {}
    for name, value in raw.items():
        fit = float(value) if _is_short_int(value) and known[name].type is float else value
        problem = _find_problem(known[name], fit)
        if problem is not None:
            raise _Misfit(f"{where}{problem[0]}", problem[1], name, table)
        values[name] = fit
    return kind(**values)


def _is_short_int(value: object) -> bool:
    return type(value) is int and abs(value) < 2**63


def _check_all(values: Any, where: str) -> None:
    """Raise RecipeError for the first field of a dataclass that does not fit."""
    for item in fields(values):
        problem = _find_problem(item, getattr(values, item.name))
        if problem is not None:
            raise RecipeError(f"{where}{problem[0]}", hint=problem[1])


def _find_problem(item: "Field[Any]", value: Any) -> tuple[str, str | None] | None:
    """What is wrong with a field's value, and a hint; a bool is no number, NaN in no range."""
    if item.name == "excluded" and not (
        isinstance(value, tuple) and all(isinstance(name, str) for name in value)
    ):
        return f"{item.name} is {_show(value)}, expected a list of names", None
    if item.type in (int, float, str, bool) and type(value) is not item.type:
        wanted = getattr(item.type, "__name__", "")
        return f"{item.name} is {_show(value)}, expected {wanted}", None
    if isinstance(value, str) and not (value.strip() and value.isprintable() and len(value) < 1000):
        return f"{item.name} is {_show(value)}, expected text", None
    choices = item.metadata.get("choices")
    if choices and value not in choices:
        return f"{item.name} is {_show(value)}", f"choose one of {', '.join(choices)}"
    if "low" not in item.metadata:
        return None
    low, high, above = (item.metadata[key] for key in ("low", "high", "above"))
    if (low < value if above else low <= value) and value <= high:  # NaN is neither
        return None
    span = f"above {low:g}, at most {high:g}" if above else f"{low:g} to {high:g}"
    return f"{item.name} is {_show(value)}, expected {span}", None


def _show(value: object) -> str:
    """A value on one short line."""
    if isinstance(value, int) and value.bit_length() > 128:
        return "a number of too many digits"  # thousands of them Python refuses to write
    shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"
