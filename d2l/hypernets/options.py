"""Options of a compilation, written once.

The command line, the Python API, rows of a batch, the lock and d2l.json are made from these models.
Needs no torch.
"""

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Literal, Self, get_args

from d2l.errors import OptionError
from d2l.hypernets.registry import DEFAULT, DEFAULT_VARIABLE, KV, TEXT_VARIABLE
from d2l.spelling import list_choices, list_spellings, option, refuse_other_types, refuse_unknown

Merge = Literal["concat", "average"]
Chunking = Literal["usual", "stable"]
Dtype = Literal["bf16", "fp16", "fp32"]
Scaling = Literal["standard", "config"]
MAX_RANK = 10**9  # PEFT's own floats hold no more
_MANY = ("batch",)  # commands that make many adapters


@dataclass(frozen=True)
class MergeOptions:
    """Options of joining chunks to one adapter; both strengths are linear in the delta.

    `method`: "concat" or "average". `scale` multiplies the document's weights, `bias_scale` the
    learned bias that is the same for every document, if the network has any.
    """

    method: str = "concat"
    scale: float = 1.0
    bias_scale: float = 1.0


@dataclass(frozen=True)
class NetworkOptions:
    """Options of a network that is opened: its files, its base and its device.

    Without a checkpoint, the network is the KV cache of the base. `base_dtype` is None for
    the precision that network and device need. Raises OptionError for a value that is none of a
    field's choices.
    """

    checkpoint: str = option(
        "",
        "Alias, folder, file or org/repo[@revision][:subfolder].",
        of="network",
        also=_MANY,
        envvar=DEFAULT_VARIABLE,
        usual=DEFAULT,
    )
    base: str | None = option(
        None,
        "Folder, GGUF file or hub name; default: the network's. Alone, any base is a network.",
        of="network",
        also=_MANY,
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps.", of="network", also=_MANY)
    offline: bool = option(False, "Open no socket.", of="network", also=_MANY)
    base_dtype: str | None = option(
        None,
        "Precision of the base: bf16, fp16 or fp32; default: bf16 where it is faster, with seats.",
        of="network",
        also=_MANY,
        expert=True,
    )

    def __post_init__(self) -> None:
        refuse_other_types(self)
        for name, choices in list_choices(type(self)).items():
            if (value := getattr(self, name)) not in choices:
                hint = f"choose from {', '.join(choices)}"
                raise OptionError(f"unknown {name} {value!r}", hint=hint)
        if self.base_dtype not in (None, *get_args(Dtype)):
            hint = f"choose from {', '.join(get_args(Dtype))}"
            raise OptionError(f"unknown base_dtype {self.base_dtype!r}", hint=hint)
        if not self.checkpoint:
            variable = list_spellings(type(self))["checkpoint"].envvar
            named = os.environ.get(variable) if variable else None
            usual = DEFAULT if self.base is None else KV
            object.__setattr__(self, "checkpoint", named or usual)

    @classmethod
    def list_keywords(cls) -> set[str]:
        """List the options of one adapter: keywords of the API."""
        return {name for name, one in list_spellings(cls).items() if one.of == "adapter"}

    def changed(self, **options: Any) -> Self:
        """Change options of the adapter; raises TypeError for any other keyword."""
        refuse_unknown(options, self.list_keywords(), list_spellings(type(self)))
        return replace(self, **options)

    def locate(self) -> dict[str, Any]:
        """Locate the network's models: keywords of `open_network`."""
        return {"base": self.base, "offline": self.offline}


@dataclass(frozen=True)
class CompileOptions(NetworkOptions):
    """Options of a compilation of documents, with the defaults of the command line.

    `merge`, `chunking` and `dtype` take the choices of their types. `cache`: parts are
    looked up and kept in the cache folder. Raises OptionError for values that no network can use.
    """

    merge: Merge = option("concat", "How chunks become one adapter.", expert=True)
    max_rank: int | None = option(
        None, "Highest rank: smaller files recall less.", also=("batch",), minimum=1
    )
    scale: float = option(1.0, "Strength of the document's weights.", expert=True)
    bias_scale: float = option(1.0, "Strength of the network's learned bias.", expert=True)
    chunk_tokens: int | None = option(
        None, "Most tokens of a chunk; default: the network's.", minimum=1, expert=True
    )
    tokens_per_seat: int | None = option(
        None,
        "Fewer: better recall, more side effects; default: the network's.",
        also=("batch",),
        minimum=1,
        expert=True,
    )
    parts: bool | None = option(
        None,
        "Keep a part for each chunk, for questions to choose; default: for documents longer than "
        "one memory holds.",
    )
    dtype: Dtype = option("bf16", "Precision of the written weights.", also=("batch",), expert=True)
    chunking: Chunking = option(
        "usual",
        "stable: for documents that change often; fewer chunks are read again.",
        expert=True,
    )
    keep_paths: bool = option(False, "Name inputs in d2l.json by their whole paths.", expert=True)
    no_text: bool = option(False, "Keep no text beside one memory: answers name no place.")
    cache: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_rank is not None and not 1 <= self.max_rank <= MAX_RANK:
            raise OptionError(
                f"--max-rank is not from 1 to {MAX_RANK:,}", hint="leave it out for no bound"
            )

    @classmethod
    def list_keywords(cls) -> set[str]:
        """List the options of one adapter, and `cache`."""
        return super().list_keywords() | {"cache"}

    @property
    def merging(self) -> MergeOptions:
        """Options of joining chunks to one adapter."""
        return MergeOptions(self.merge, self.scale, self.bias_scale)

    def record(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Record the options that change a document's adapter, by name, as JSON values.

        `names`: a name to write in place of the checkpoint's.
        """
        values = {name: getattr(self, name) for name in sorted(DOCUMENT_OPTIONS)}
        if not self.no_text:  # older locks lack this key
            del values["no_text"]
        name = names.get(self.checkpoint, self.checkpoint)
        return {"checkpoint": name, **values}


@dataclass(frozen=True)
class TaskCompileOptions(NetworkOptions):
    """Options of a compilation of task descriptions, with the defaults of the command line.

    `scaling` and `dtype` take the choices of their types.
    """

    checkpoint: str = option(
        "",
        "Alias, folder, file or org/repo[@revision][:subfolder].",
        of="network",
        envvar=TEXT_VARIABLE,
        usual=DEFAULT,
    )
    embedder: str | None = option(
        None,
        "Folder or hub name of the embedder; default: the network's.",
        of="network",
        expert=True,
    )
    scaling: Scaling = option(
        "standard", "standard: alpha / rank; config: what the checkpoint's files say.", expert=True
    )
    dtype: Dtype = option("bf16", "Precision of the written weights.", expert=True)

    def locate(self) -> dict[str, Any]:
        """Locate the network's models, with the embedder: keywords of `open_network`."""
        return super().locate() | {"embedder": self.embedder}

    def as_document(self) -> CompileOptions:
        """Make the options of a document, which seat networks read a description as."""
        return CompileOptions(
            **{item.name: getattr(self, item.name) for item in fields(NetworkOptions)},
            dtype=self.dtype,
            no_text=True,
        )

    def record(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Record the options that change a task's adapter, like `CompileOptions.record`."""
        values = {name: getattr(self, name) for name in sorted(TASK_OPTIONS)}
        return {"checkpoint": names.get(self.checkpoint, self.checkpoint), **values}


#: Options of one adapter of documents that change what a document becomes.
DOCUMENT_OPTIONS = CompileOptions.list_keywords() - {"cache"}
#: Options of one adapter of a task description.
TASK_OPTIONS = TaskCompileOptions.list_keywords()


def list_defaults(model: type) -> dict[str, Any]:
    """List a model's default values by name."""
    return {item.name: item.default for item in fields(model) if item.default is not MISSING}


def describe_keywords() -> str:
    """Describe each option of a document's adapter in a line, for docstrings."""
    defaults, spellings = list_defaults(CompileOptions), list_spellings(CompileOptions)
    return "\n".join(
        f"{name}: {spelling.help[0].lower()}{spelling.help[1:]} Default: {defaults[name]!r}."
        for name, spelling in spellings.items()
        if spelling.of == "adapter"
    )
