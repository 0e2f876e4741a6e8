"""Options of a compilation, written once.

The command line, the Python API, rows of a batch, the lock and d2l.json are made from these models.
Needs no torch.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from d2l.errors import OptionError
from d2l.hypernets.registry import DEFAULT, DEFAULT_TEXT, DEFAULT_VARIABLE, default_checkpoint
from d2l.spelling import Spelling, list_spellings, option, refuse_unknown

Merge = Literal["concat", "average"]
Chunking = Literal["usual", "stable"]
Dtype = Literal["bf16", "fp16", "fp32"]
Scaling = Literal["standard", "config"]
Encoder = Literal["plain", "nf4"]
MAX_RANK = 10**9  # PEFT's own floats hold no more
# Commands that have an option; those of the network have all of them.
_COMPILE = ("compile",)
_MAKE = ("make",)


@dataclass(frozen=True)
class MergeOptions:
    """Joining of chunks to one adapter; both strengths are linear in the delta.

    `method`: "concat" or "average". `scale` multiplies the document's weights, `bias_scale` the
    learned bias that is the same for every document, if the network has any.
    """

    method: str = "concat"
    scale: float = 1.0
    bias_scale: float = 1.0


@dataclass(frozen=True)
class NetworkOptions:
    """The options of a network that is opened: its files, its base and its device."""

    checkpoint: str = option(
        default_checkpoint,
        "Alias, folder, file or org/repo[@revision][:subfolder].",
        of="network",
        envvar=DEFAULT_VARIABLE,
        usual=DEFAULT,
    )
    base: str | None = option(
        None, "Folder, GGUF file or hub name; default: the network's.", of="network"
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps.", of="network")
    offline: bool = option(False, "Open no socket.", of="network")


@dataclass(frozen=True)
class CompileOptions(NetworkOptions):
    """The options of a compilation, with the defaults of the command line.

    `merge`, `chunking`, `dtype`, `scaling` and `encoder` take the choices of their types.
    `base_dtype` is the precision that the base runs in; None: as network and device need. `cache`:
    parts are looked up and kept in the cache folder. Raises OptionError for values that no network
    can use.
    """

    embedder: str | None = option(
        None,
        "Folder or hub name of the embedder; default: the network's.",
        of="network",
        commands=_MAKE,
        expert=True,
    )
    encoder: Encoder = option(
        "plain",
        "nf4: the base reads with 4-bit weights, as in the training of public checkpoints.",
        of="network",
        commands=_COMPILE,
        expert=True,
    )
    merge: Merge = option(
        "concat", "How chunks become one adapter.", commands=_COMPILE, expert=True
    )
    max_rank: int | None = option(
        None, "Highest rank: smaller files recall less.", commands=("compile", "batch"), minimum=1
    )
    scale: float = option(
        1.0, "Strength of the document's weights.", commands=_COMPILE, expert=True
    )
    bias_scale: float = option(
        1.0, "Strength of the network's learned bias.", commands=_COMPILE, expert=True
    )
    chunk_tokens: int | None = option(
        None,
        "Most tokens of a chunk; default: the network's.",
        commands=_COMPILE,
        minimum=1,
        expert=True,
    )
    tokens_per_seat: int | None = option(
        None,
        "Fewer: better recall, more side effects; default: the network's.",
        commands=("compile", "batch"),
        minimum=1,
        expert=True,
    )
    parts: bool | None = option(
        None,
        "Keep a part for each chunk, for questions to choose; default: for documents longer than "
        "one memory holds.",
        commands=_COMPILE,
    )
    dtype: Dtype = option(
        "bf16",
        "Precision of the written weights.",
        commands=("compile", "batch", "make"),
        expert=True,
    )
    chunking: Chunking = option(
        "usual",
        "stable: for documents that change often; fewer chunks are read again.",
        commands=_COMPILE,
        expert=True,
    )
    keep_paths: bool = option(
        False, "Name inputs in d2l.json by their whole paths.", commands=_COMPILE, expert=True
    )
    scaling: Scaling = option(
        "standard",
        "standard: alpha / rank; config: what the checkpoint's files say.",
        commands=_MAKE,
        expert=True,
    )
    base_dtype: str | None = None
    cache: bool = False

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise OptionError(
                    f"unknown {name} {value!r}", hint=f"choose from {', '.join(choices)}"
                )
        if self.max_rank is not None and not 1 <= self.max_rank <= MAX_RANK:
            raise OptionError(
                f"--max-rank is not from 1 to {MAX_RANK:,}", hint="leave it out for no bound"
            )

    def changed(self, **options: Any) -> "CompileOptions":
        """The same with other options of the adapter; raises TypeError for any other keyword."""
        refuse_unknown(options, ADAPTER_OPTIONS)
        return replace(self, **options)

    @property
    def merging(self) -> MergeOptions:
        """How parts become one adapter."""
        return MergeOptions(self.merge, self.scale, self.bias_scale)

    def record(self, names: Mapping[str, str]) -> dict[str, Any]:
        """The options that change a compiled document's adapter, by name, as JSON values.

        `names`: what to write in place of the checkpoint's name.
        """
        values = {name: getattr(self, name) for name in sorted(DOCUMENT_OPTIONS)}
        name = names.get(self.checkpoint, self.checkpoint)
        return {"checkpoint": name, "encoder": self.encoder, **values}


@dataclass(frozen=True)
class TaskCompileOptions(CompileOptions):
    """The same for task descriptions, which another network may be the default for."""

    checkpoint: str = option(
        DEFAULT_TEXT, "Alias, folder, file or org/repo[@revision][:subfolder].", of="network"
    )


#: Choices of each option that has some.
CHOICES: Mapping[str, tuple[str, ...]] = {
    name: get_args(hint)
    for name, hint in get_type_hints(CompileOptions).items()
    if get_args(hint) and all(isinstance(choice, str) for choice in get_args(hint))
}
SPELLINGS: Mapping[str, Spelling] = list_spellings(CompileOptions)
#: Options of one adapter: keywords of `d2l.compile` and `Compiler.plan`.
ADAPTER_OPTIONS = {name for name, spelling in SPELLINGS.items() if spelling.of == "adapter"} | {
    "cache"
}
#: Options of one adapter that change what a document becomes.
DOCUMENT_OPTIONS = ADAPTER_OPTIONS - {"cache", "scaling"}
DEFAULTS: Mapping[str, Any] = {
    item.name: item.default for item in fields(CompileOptions) if item.default is not MISSING
}


def describe_keywords() -> str:
    """One line for each option of an adapter, for docstrings."""
    return "\n".join(
        f"{name}: {spelling.help[0].lower()}{spelling.help[1:]} Default: {DEFAULTS[name]!r}."
        for name, spelling in SPELLINGS.items()
        if spelling.of == "adapter"
    )
