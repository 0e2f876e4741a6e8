"""Training recipes: the keys of a TOML file, as checked values; a table for each kind of network.

Every key has a name, a type, a range, and a line of text below it. Needs no network and loads
nothing.
"""

from itertools import product
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from d2l.errors import RecipeError

_MOST = 10**9  # steps, documents, tokens: more is a slip of the pen
_CHECKS = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
_TASKS = "tasks = true stands in [[sources]] that hold tasks and in [[lengths]] that draw them"


def _check_text(value: str) -> str:
    if not (value.strip() and value.isprintable() and len(value) < 1000):
        raise PydanticCustomError("text", "Input should be a line of text")
    return value


Text = Annotated[str, AfterValidator(_check_text)]
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0, le=_MOST)]
Number = Annotated[int, Field(strict=True, ge=1, le=_MOST)]
Few = Annotated[int, Field(strict=True, ge=1, le=4096)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Strength = Annotated[float, Field(strict=True, ge=0, le=_MOST)]
Weight = Annotated[float, Field(strict=True, gt=0, le=_MOST)]
Decay = Annotated[float, Field(strict=True, ge=0, le=1 - 1e-9)]
Hours = Annotated[float, Field(strict=True, ge=0, le=1e6)]


class MisfitError(RecipeError):
    """Error of a key or a table; `location`, a key and a table with its number from 0, finds its
    line in the file."""

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        key: str | None = None,
        table: tuple[str, int] | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.location = (key, table)


@dataclass(frozen=True, config=_CHECKS)
class DataSource:
    """Data file: JSON lines of doc, question, answers, or of doc alone; or of tasks."""

    path: Text
    """The file, in the folder `data`."""
    weight: Weight
    """Weight of its draws, relative to the other sources; of tasks, of each of its tasks."""
    max_documents: Number = 100_000
    """Most documents or tasks that are taken of it, by chance."""
    hold_out: Flag = True
    """True: its tasks may be held out."""
    tasks: Flag = False
    """True: it holds tasks, not documents. Seat networks only: text networks have no others."""


@dataclass(frozen=True, config=_CHECKS)
class Length:
    """Class of steps. Of tasks, a memory is a task's description, a question one of its examples;
    for a text network `chunks` is 1."""

    tokens: Number
    """Most tokens of a passage; of an example with its answer and the chat's template."""
    chunks: Annotated[int, Field(strict=True, ge=1, le=1024)]
    """Passages in a memory; of a description at most, longer ones are not drawn."""
    memories: Few
    """Memories in a step."""
    questions: Few
    """Questions about each memory."""
    weight: Weight
    """Weight of the class in draws, relative to the others."""
    tokens_per_seat: Count = 0
    """Density of the seats in this class; 0: the recipe's. Seat networks only."""
    general_weight: Strength = 0.0
    """Weight of general prompts in this class; 0: as in [seats]. Seat networks only."""
    unanswerable_share: Share | None = None
    """Part of questions asked of a neighboring passage in this class; unset: as in [seats]. Seat
    networks only."""
    tasks: Flag = False
    """True: its steps draw tasks, not documents. Seat networks only."""


@dataclass(frozen=True, config=_CHECKS)
class OptimizerTable:
    """Optimizer and its learning rate."""

    name: Literal["adamw", "muon"] = "adamw"
    """muon takes the matrices of linear layers, and AdamW all else, at one learning rate."""
    learning_rate: Annotated[float, Field(strict=True, gt=0, le=1e3)] = 5e-4
    """Peak of the rate, after the warm-up; then a cosine down."""
    warmup_steps: Count = 30
    """Steps until the peak."""
    final_share: Share = 0.1
    """Part of the peak that is left at the end."""
    averaged_share: Share = 0.0
    """Last part of the run over which weights are averaged for the checkpoint; 0: the last ones."""
    clip: Weight = 0.5
    """Largest norm of the gradient."""
    beta1: Decay = 0.9
    """AdamW's."""
    beta2: Decay = 0.98
    """AdamW's."""
    weight_decay: Annotated[float, Field(strict=True, ge=0, le=1e3)] = 0.0
    """Decay of matrices."""


@dataclass(frozen=True, config=_CHECKS)
class Questions:
    """Questions about documents. Passages without questions get recitations and clozes alone."""

    recitation_share: Share = 0.15
    """Part of questions that give the beginning of a sentence and ask for the rest."""
    cloze_share: Share = 0.0
    """Part of questions that ask for a name or a number of a sentence."""


@dataclass(frozen=True, config=_CHECKS)
class Tasks:
    """Choice of tasks, and of their texts; tasks without a clear license are left out."""

    excluded: tuple[str, ...] = ()
    """Names of tasks that are left out."""
    held_out: Count = 0
    """Number of tasks that are never trained on: those with the smallest SHA-256 of their names."""
    descriptions: Number = 32
    """Most descriptions of a task that are used, drawn by chance."""
    examples: Count = 0
    """Most examples of a task that are used, drawn by chance; 0: all."""


@dataclass(frozen=True, config=_CHECKS)
class SeatsTable(Tasks, Questions):
    """Keys of seat networks alone, for documents and tasks. General prompts belong to neither, and
    their target is the base's own distribution."""

    unanswerable_share: Share = 0.0
    """Part of questions asked of a neighboring passage: the document does not say."""
    unanswerable_weight: Strength = 1.0
    """Weight in the loss: theirs is a mean over seven tokens, of which only the first are
    uncertain; an answer's is a mean over two or three."""
    general_share: Share = 0.125
    """Part of questions that are general prompts, the shipped ones among them."""
    general_weight: Strength = 1.0
    """Weight of general prompts in the loss."""
    general_questions: Annotated[int, Field(strict=True, ge=0, le=10**5)] = 0
    """Number of the data's questions, without their documents, that are general prompts, too."""
    general_sampled: Annotated[int, Field(strict=True, ge=0, le=10**5)] = 0
    """Number of general prompts that the base writes."""
    tokens_per_seat: Strength = 0.0
    """Another density of seats than the checkpoint's; 0: the checkpoint's."""
    dense_seats: Count = 0
    """Number of seats that hold one token each if a document is short; 0: as the checkpoint."""
    learned_places: Flag = False
    """Seats lie closer where tokens say more; learned from even places if the checkpoint's are."""
    statistics_draws: Annotated[int, Field(strict=True, ge=0, le=10**6)] = 0
    """Second moments of ordinary text are measured anew over so many draws; 0: not measured."""


@dataclass(frozen=True, config=_CHECKS)
class TextToLoraTable(Tasks):
    """Keys of text networks alone. Tasks without a clear license are left out."""

    embedding_noise: Annotated[float, Field(strict=True, ge=0, le=1e3)] = 0.0
    """Deviation of noise on a description's embedding, whose every coordinate has deviation 1."""


@dataclass(frozen=True, config=_CHECKS)
class Recipe:
    """Recipe of a training; its fields are the keys of the file. Paths are from the working
    directory."""

    checkpoint: Text
    """Network to train: a folder, file or name, as for `d2l compile --checkpoint`."""
    data: Text
    """Folder of the sources' files."""
    sources: tuple[DataSource, ...]
    lengths: tuple[Length, ...]
    base: Text | None = None
    """Folder, GGUF file or hub name of the base; unset: what the checkpoint names."""
    offline: Flag = False
    """Open no socket."""
    fresh: Flag = False
    """Draw new weights from `seed`; of the checkpoint, take config and statistics alone."""
    seed: Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)] = 0
    """Seed of every draw."""
    steps: Count = 0
    """Steps of the run; 0: no limit."""
    hours: Hours = 0.0
    """Hours of training; 0: no limit. Steps or hours must be set."""
    device: Text = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the frozen base."""
    save_minutes: Annotated[float, Field(strict=True, gt=0, le=1e6)] = 5.0
    """Time between saved states."""
    optimizer: OptimizerTable = OptimizerTable()
    seats: SeatsTable = SeatsTable()
    text_to_lora: TextToLoraTable = TextToLoraTable()

    def __post_init__(self) -> None:
        if self.steps == 0 and self.hours == 0:
            raise MisfitError("the recipe never ends", "set steps, hours, or both")
        if not self.sources or not self.lengths:
            raise MisfitError("the recipe needs [[sources]] and [[lengths]]")
        if self.seats.recitation_share + self.seats.cloze_share > 1:
            raise MisfitError(
                "seats: recitation_share and cloze_share are more than 1 together",
                table=("seats", 0),
            )
        for tasks, kind in ((False, "documents"), (True, "tasks")):
            held, drawn = bool(self.sources_of(tasks=tasks)), bool(self.lengths_of(tasks=tasks))
            if held != drawn:
                holds = "a source holds" if held else "a length draws"
                other = "length draws" if held else "source holds"
                raise MisfitError(f"{holds} {kind}, and no {other} any", _TASKS)

    def sources_of(self, *, tasks: bool) -> tuple[DataSource, ...]:
        """Select the sources of tasks, or those of documents."""
        return tuple(source for source in self.sources if source.tasks == tasks)

    def lengths_of(self, *, tasks: bool) -> tuple[Length, ...]:
        """Select the classes of steps that draw tasks, or those of documents."""
        return tuple(length for length in self.lengths if length.tasks == tasks)


#: The tables that only one kind of network has, by the kind.
KINDS: dict[str, type[Any]] = {
    "seats": SeatsTable,
    "text_to_lora": TextToLoraTable,
}
#: All tables by their names in a file; the keys above the first header have none.
TABLES: dict[str, type[Any]] = {
    "": Recipe,
    "sources": DataSource,
    "lengths": Length,
    "optimizer": OptimizerTable,
    **KINDS,
}
#: Keys of lists of tables that only seat networks make use of.
FOR_SEATS = {
    "sources": ("tasks",),
    "lengths": ("tokens_per_seat", "general_weight", "unanswerable_share", "tasks"),
}


def refuse_other_kinds(recipe: Recipe, kind: str) -> None:
    """Refuse keys of networks of another kind than the checkpoint's; raises MisfitError."""
    for name, table in KINDS.items():
        if name != kind and getattr(recipe, name) != table():
            raise MisfitError(
                f"[{name}] is for {name} networks, and {recipe.checkpoint} is a {kind} network",
                f"leave [{name}] out",
                None,
                (name, 0),
            )
    for title, names in FOR_SEATS.items() if kind != "seats" else ():
        for (index, row), name in product(enumerate(getattr(recipe, title)), names):
            if value := getattr(row, name):
                raise MisfitError(
                    f"{name} of a {title[:-1]} is {str(value).lower()}, and that is for seat "
                    "networks",
                    f"leave it out to train a {kind} network",
                    name,
                    (title, index),
                )
