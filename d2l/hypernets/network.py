"""A hypernetwork without its weights, for planning, records and cards.

`Network` is a checkpoint that was opened: files, configuration and base. Each kind of network is
one subclass in its own folder; `networks.py` lists them. `LoadedNetwork` has the weights. README.md
lists what a subclass must write; all other methods have defaults.
"""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import nn

from d2l.adapters.parts import PartKind
from d2l.adapters.provenance import Prompt
from d2l.bases.activations import ActivationEncoder, Activations
from d2l.bases.devices import pick_device, pick_dtype
from d2l.bases.models import BaseFiles, find_base, load_frozen, same_model
from d2l.bases.tokenizers import BaseTokenizer, load_tokenizer
from d2l.datasets.tasks import Example
from d2l.documents.chunks import Chunk
from d2l.documents.document import Document
from d2l.errors import BaseModelError, CheckpointError
from d2l.files.hub import Need
from d2l.hypernets.formats.format import Format, load_checked
from d2l.hypernets.options import CompileOptions, Scaling
from d2l.hypernets.protocol import (
    Assembled,
    ChunkWeights,
    Cut,
    HypernetConfig,
    Loaded,
    PromptFiles,
)
from d2l.hypernets.registry import DEFAULT, CheckpointFiles, digest_files
from d2l.progress import Progress, announce, log_time, silent

_log = logging.getLogger(__name__)
Config = TypeVar("Config", bound=HypernetConfig)
#: The prompt of adapters without an opening.
BASE_PROMPT = Prompt(chat_template="base", turns="user", opening=None)


@dataclass(frozen=True)
class LoadedNetwork:
    """A network that reads chunks with a base: its module, the base as encoder, the device.

    `hypernet` has `generate(activations, rank)` and `assemble(written, merging)`.
    """

    hypernet: Any
    encode: ActivationEncoder
    device: str

    def read_ahead(self, chunk: Chunk) -> None:
        """Read the tokens that every chunk begins with, as part of start-up."""
        if n_leading := self.encode.reading.skip_tokens:
            self.encode.read_ahead(chunk.token_ids[:n_leading])

    def read(self, chunks: Sequence[Chunk]) -> list[Activations]:
        """Read chunks side by side."""
        return self.encode.read_together([chunk.token_ids for chunk in chunks])

    def write(
        self, chunk: Chunk, activations: Activations, ranks: Sequence[int]
    ) -> list[ChunkWeights]:
        """Write the weights of a chunk that was read, of each of these ranks, on the CPU."""
        del chunk
        return [self.hypernet.generate(activations, rank) for rank in ranks]

    def assemble(self, written: Iterable[ChunkWeights], options: CompileOptions) -> Assembled:
        """Join the weights of chunks, in document order, into one adapter."""
        assembled: Assembled = self.hypernet.assemble(written, options.merging)
        return assembled


@dataclass(frozen=True)
class Network(ABC, Generic[Config]):
    """A network without its weights. The base and its tokenizer are looked up on first use.

    `given` is the user's location of the base, if the checkpoint's name leads elsewhere; `embedder`
    is the same for a model that reads descriptions. With the `need` "plan" no weights are
    downloaded, and none can be loaded.
    """

    files: CheckpointFiles
    config: Config
    format: Format
    given: str | None = None
    offline: bool = False
    embedder: str | None = None
    need: Need = "weights"

    #: Kind of network, as configuration files and d2l.json name it.
    kind: ClassVar[str]
    #: Formats of its checkpoints, in the order in which they are tried.
    formats: ClassVar[tuple[Format, ...]]
    #: Makes the module of a configuration and its tensors.
    build: ClassVar[Callable[..., nn.Module]]
    #: Kind of the parts that it keeps of long documents (`d2l.parts`).
    part_kind: ClassVar[PartKind] = "ranks"
    #: The unit of an adapter's width.
    unit: ClassVar[str] = "ranks"
    #: Examples can be read beside a description.
    reads_examples: ClassVar[bool] = False
    #: The network imposes values on the base: it reads with the weights that answer.
    imposes_on_base: ClassVar[bool] = False
    #: Averaged chunks have all ranks in common.
    averages_share: ClassVar[bool] = False
    #: The adapter folder holds its own tokenizer and chat template.
    own_tokenizer: ClassVar[bool] = False
    #: d2l.json lists the chunks with their ranks, so that they can be taken out again.
    keeps_chunks: ClassVar[bool] = True

    # ---- facts of each kind of network ----------------------------------------------------------

    @property
    def reads(self) -> tuple[str, ...]:
        """Inputs of its training: "documents", "descriptions" or both."""
        return ("documents",)

    @property
    def reader(self) -> BaseFiles:
        """The model that reads for the network, nearly always the base; raises BaseModelError if
        it does not fit."""
        return self.base

    @abstractmethod
    def cut(self, documents: Sequence[Document], options: CompileOptions) -> Cut:
        """Cut documents into chunks; raises OptionError or DocumentError."""

    @classmethod
    def load_hypernet(
        cls, path: Path, entry: Format, *, device: str, base: nn.Module | None = None
    ) -> Any:
        """Read the network's weights, in the format `entry`, onto a device; a network that takes
        part in the base goes to the base's device. Raises CheckpointError."""
        del base
        return load_checked(path, entry, cls.build, device=device)

    def load(self, *, device: str, dtype: torch.dtype | None) -> Loaded:
        """Load network and base onto a device (as in `pick_device`); raises D2LError.

        Loads only the base's layers that the network reads. `dtype`: None for the device's
        own.
        """
        return load_reading(self, device=device, dtype=dtype)

    def prepare(self, *, device: str, watch: Progress = silent) -> None:
        """Measure what the network needs of a base, once for all documents; most need nothing."""

    def for_tasks(self) -> Self:
        """The network as it reads descriptions; most read them as documents."""
        return self

    def cut_task(
        self, description: Document, examples: Sequence[Example], options: CompileOptions
    ) -> Cut:
        """Cut a description, with some of its solved examples if there are any. Raises
        CheckpointError if the network reads no examples, or TaskError if none fits."""
        if examples:
            raise CheckpointError(
                f"{self.files.name}: reads descriptions, and no examples",
                hint=f"leave the examples out, or use the checkpoint {DEFAULT}",
            )
        return self.cut((description,), options)

    @property
    def models(self) -> dict[str, str | None]:
        """The models whose weights it reads with, each with the user's location."""
        return {self.config.base: self.given}

    @property
    def embedder_name(self) -> str:
        """The model that reads descriptions, as the checkpoint names it."""
        return next(iter(self.models))

    def describe_prompt(self, rank: int) -> PromptFiles:
        """The prompt that an adapter of this rank answers to, with the files that make it."""
        del rank
        return PromptFiles(BASE_PROMPT)

    def explain_prompt(self, rank: int) -> str:
        """A paragraph of the model card on the prompt."""
        del rank
        return "Ask with the base's own chat template: one user turn, no system text.\n"

    def explain_limits(self) -> str:
        """Lines of the model card on the limits."""
        return self.explain_base()

    def find_export_limit(self, chunks: Sequence[Chunk]) -> int | None:
        """Find the --chunk-tokens that other engines need for the parts; None: these will do."""
        del chunks
        return None

    def explain_base(self) -> str:
        """Lines of the card on the bases that the adapter fits."""
        return "- The delta is computed for this base model only.\n"

    def explain_scale(self, scaling: Scaling) -> tuple[float, str] | None:
        """Factor of b @ a that is folded into b, with its reason, if the network has a choice."""
        del scaling
        return None

    def find_moments(self) -> Path | None:
        """Find second moments that were measured on this base, if the network uses any."""
        return None

    def digest_base(self) -> str | None:
        """SHA-256 of the base's weights, in hex; None if they take no part."""
        return self.base.digest()

    @property
    def chunk_lengths(self) -> tuple[int, ...]:
        """Lengths of chunks, in tokens, that preflights name the memory for."""
        return ()

    def count_working(self, n_tokens: int) -> int:
        """Numbers that the network itself holds at a time for a chunk of so many tokens."""
        del n_tokens
        return 0

    # ---- common methods -------------------------------------------------------------------------

    def require(self, reads: str) -> None:
        """Refuse a network that does not read "documents", or "descriptions"; raises
        CheckpointError."""
        if reads in self.reads:
            return
        name, kind = self.files.name, self.config.kind
        if reads == "documents":
            raise CheckpointError(
                f"{name}: is a {kind} network, which reads task descriptions and no documents",
                hint="use t2l make, or name another checkpoint",
            )
        raise CheckpointError(
            f"{self.files.path}: is a {kind} network, which reads documents and no descriptions",
            hint="use d2l compile, or name a checkpoint that reads descriptions",
        )

    def pick_dtype(self, device: str) -> torch.dtype:
        """Pick the precision of the base on a device; a network that was made for exact states
        gets them on every CPU."""
        return pick_dtype(device, measured=self.imposes_on_base)

    def count_tokens(self, documents: Sequence[Document]) -> Counter[str]:
        """Count the tokens of each document's text, without any template, by its name."""
        encode, counts = self.load_tokenizer(self.reader).encode, Counter[str]()
        for document in documents:
            counts[document.name] += len(encode(document.text))
        return counts

    def find_base(self, *, need: Need | None = None) -> BaseFiles:
        """Find the base without checking its shapes; raises BaseModelError. `need`: files to
        download at most; None: the network's own need."""
        return self.find_model(self.config.base, given=self.given, need=need)

    def find_model(
        self, name: str, *, given: str | None = None, need: Need | None = None
    ) -> BaseFiles:
        """Find a model of the network by its name in the configuration; raises BaseModelError."""
        return find_base(name, override=given, offline=self.offline, need=need or self.need)

    @cached_property
    def base(self) -> BaseFiles:
        """The base, whose shapes fit; raises BaseModelError."""
        base = self.find_base()
        check_fit(self.config, base, given=self.given)
        return base

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the checkpoint and the base."""
        return self.list_warnings(self.base)

    def list_warnings(self, base: BaseFiles) -> tuple[str, ...]:
        """Check a base, and list warnings about it and the checkpoint."""
        fit = check_fit(self.config, base, given=self.given)
        return (*self.format.list_warnings(self.files.path), *fit)

    def load_tokenizer(self, reader: BaseFiles) -> BaseTokenizer:
        """The tokenizer of the model that reads."""
        return self.tokenizer if reader is self.base else load_tokenizer(reader.folder)

    @cached_property
    def tokenizer(self) -> BaseTokenizer:
        """The base's tokenizer."""
        return load_tokenizer(self.base.folder)

    def digest(self) -> str:
        """SHA-256 of the network's weights file, in hex."""
        return self.format.digest(self.files.path)

    def digest_files(self) -> dict[str, str]:
        """SHA-256 of every file of the checkpoint, by its path in the folder."""
        return digest_files(self.files.path, self.format.list_files(self.files.path))


AnyNetwork = Network[Any]


def load_reading(network: AnyNetwork, *, device: str, dtype: torch.dtype | None) -> LoadedNetwork:
    """Load a network and the model that reads for it; arguments as for `Network.load`."""
    device, reading, path = pick_device(device), network.config.reading, network.files.path
    dtype = network.pick_dtype(device) if dtype is None else dtype
    model = load_frozen(network.reader, device=device, dtype=dtype, n_layers=reading.n_layers)
    announce(f"loading the network {network.files.name}")
    with log_time(_log, "loaded the network from %s", path):
        hypernet = network.load_hypernet(path, network.format, device=device, base=model)
    return LoadedNetwork(hypernet, ActivationEncoder(model, reading), device)


def check_fit(config: HypernetConfig, base: BaseFiles, *, given: str | None = None) -> list[str]:
    """Refuse a base whose shapes differ from the checkpoint's; warn if only its name differs.

    `given` is how the user named the base. Raises BaseModelError.
    """
    n_layers = int(base.config.num_hidden_layers)
    hint = f"the checkpoint needs {config.base}"
    if n_layers != config.n_base_layers:
        raise BaseModelError(
            f"{base.folder}: has {n_layers} layers, the checkpoint is for {config.n_base_layers}",
            hint=hint,
        )
    for module, expected in config.module_shapes.items():
        shape = base.family.module_shape(base.config, module)
        if shape != expected:
            raise BaseModelError(
                f"{base.folder}: {module} is {shape[0]} → {shape[1]}, "
                f"the checkpoint is for {expected[0]} → {expected[1]}",
                hint=hint,
            )
    if same_model(config.base, base):
        return []
    where = given or base.gguf or base.folder
    return [
        f"the checkpoint was trained for {config.base}, and {where} does not look like it: the "
        "shapes fit, so every runtime will accept the adapter, but answers may be nonsense"
    ]


def refuse_shallow(config: HypernetConfig, reader: BaseFiles, name: str) -> None:
    """Raise BaseModelError if a reader has fewer layers than the network reads.

    `name` is the reader's name in the checkpoint.
    """
    n_layers, needed = int(reader.config.num_hidden_layers), config.reading.n_layers
    if n_layers < needed:
        raise BaseModelError(
            f"{reader.folder}: has {n_layers} layers, the checkpoint reads {needed}",
            hint=f"the checkpoint reads documents with {name}",
        )
