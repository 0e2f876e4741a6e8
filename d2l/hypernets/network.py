"""A hypernetwork: what the pipeline asks of it, before its weights are loaded and after.

`Network` is a checkpoint that was opened: files, configuration and base, no weights. Each kind of
network is one subclass in its own folder; `networks.py` lists them. `Loaded` has the weights.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch

from d2l.adapters.provenance import Prompt
from d2l.bases.activations import ActivationEncoder, Activations
from d2l.bases.devices import pick_device
from d2l.bases.models import BaseFiles, find_base, load_frozen, same_model
from d2l.bases.tokenizers import BaseTokenizer, load_tokenizer
from d2l.datasets.tasks import Example
from d2l.documents.chunks import Chunk
from d2l.documents.document import Document
from d2l.errors import BaseModelError, CheckpointError
from d2l.files.hub import Need
from d2l.hypernets.checkpoints import checkpoint_digest, list_warnings, load_hypernet
from d2l.hypernets.familiarity import Familiarity, read_familiarity
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.protocol import Assembled, HypernetConfig, Hypernetwork, Part
from d2l.hypernets.registry import CheckpointFiles

Config = TypeVar("Config", bound=HypernetConfig)
#: What adapters without an opening answer to.
BASE_PROMPT = Prompt(chat_template="base", turns="user", opening=None)


@dataclass(frozen=True)
class Loaded:
    """A network, the base as its encoder, and the device that both are on."""

    hypernet: Hypernetwork
    encode: ActivationEncoder
    device: str

    def read(self, token_ids: Sequence[int]) -> Activations:
        """Read a chunk with the base."""
        return self.encode(token_ids)

    def read_description(self, chunks: Sequence[Chunk], text: str) -> Activations:
        """Read a task description, as the first chunk has it."""
        del text
        return self.read(chunks[0].token_ids)

    def measure(self, familiarity: Familiarity, read: Activations, text: str) -> float:
        """How alike a description is to those of training, from 0 to 1. `Network.require` keeps
        networks away that read none."""
        raise NotImplementedError(f"{type(self).__name__} reads no descriptions")

    def assemble(self, parts: Sequence[Part], options: CompileOptions) -> Assembled:
        """Join parts into one adapter, in document order."""
        return self.hypernet.assemble(parts, options.merging)

    def copy_turns(self, read: Activations, n_seats: int) -> Part:
        """The memory of turns, as the base reads them; of networks with `reads_examples`."""
        raise NotImplementedError(f"{type(self).__name__} reads no examples")

    def warn_description(self, text: str) -> list[str]:
        """List warnings that only the loaded network can give about a description."""
        del text
        return []

    def make_part(
        self, token_ids: Sequence[int], rank: int, read: Activations | None = None
    ) -> Part:
        """Write the part of a chunk, as `Hypernetwork.generate` says. `read` is what the base
        makes of the chunk, if that is known."""
        return self.hypernet.generate(self.read(token_ids) if read is None else read, rank)

    def read_ahead(self, token_ids: Sequence[int]) -> None:
        """Read the tokens that every chunk begins with, as part of start-up. `token_ids` are those
        of any chunk."""
        if n_leading := self.encode.reading.skip_tokens:
            self.encode.read_ahead(token_ids[:n_leading])


@dataclass(frozen=True)
class Network(ABC, Generic[Config]):
    """A network without its weights. The base and its tokenizer are looked up on first use.

    `given` is where the user says that the base lies, if the checkpoint's name leads elsewhere;
    `embedder` is the same for a model that reads descriptions. With the `need` "plan" no weights
    are downloaded, and none can be loaded.
    """

    files: CheckpointFiles
    config: Config
    given: str | None = None
    offline: bool = False
    embedder: str | None = None
    need: Need = "weights"

    #: Examples can be read beside a description.
    reads_examples: ClassVar[bool] = False
    #: The base must run in fp32, because the network imposes values on it.
    imposes_on_base: ClassVar[bool] = False
    #: Averaged chunks have all ranks in common.
    averages_share: ClassVar[bool] = False
    #: The adapter folder holds its own tokenizer and chat template.
    own_tokenizer: ClassVar[bool] = False
    #: d2l.json lists the chunks with their ranks, so that they can be taken out again.
    keeps_chunks: ClassVar[bool] = True

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """What the network was trained to read: "documents", "descriptions" or both."""

    def require(self, reads: str) -> None:
        """Raise CheckpointError unless the network reads "documents", or "descriptions"."""
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

    @property
    def models(self) -> dict[str, str | None]:
        """The models whose weights it reads with, each with where the user says that it lies."""
        return {self.config.base: self.given}

    @abstractmethod
    def find_reader(self) -> BaseFiles:
        """Find the model that reads for the network; raises BaseModelError if it does not fit."""

    @cached_property
    def reader(self) -> BaseFiles:
        """The model that reads for the network: nearly always the base."""
        return self.find_reader()

    @property
    def embedder_name(self) -> str:
        """The model that reads descriptions, as the checkpoint names it."""
        return self.config.base

    @property
    def embedding_size(self) -> int:
        """Width of a description as a vector. `require` keeps networks away that read none."""
        raise NotImplementedError(f"{type(self).__name__} reads no descriptions")

    @property
    def description_rank(self) -> int | None:
        """Rank of every description's adapter; None if it depends on the description."""
        return None

    @cached_property
    def familiarity(self) -> Familiarity | None:
        """Descriptions of training, if they lie beside the weights; raises CheckpointError."""
        path = self.files.path
        return read_familiarity(path if path.is_dir() else path.parent, self.embedding_size)

    @abstractmethod
    def cut(self, documents: Sequence[Document], options: CompileOptions) -> list[Chunk]:
        """Cut documents into chunks; raises OptionError or DocumentError."""

    def cut_examples(
        self, description: Document, examples: Sequence[Example]
    ) -> tuple[Chunk, tuple[int, ...]]:
        """The chunk of a description and of those examples that are read with it, and their
        places. Networks that read none are kept away before (`reads_examples`)."""
        raise NotImplementedError(f"{type(self).__name__} reads no examples")

    @abstractmethod
    def count_ranks(self, chunks: Sequence[Chunk], options: CompileOptions) -> tuple[int, int]:
        """Count the adapter's ranks before and after --max-rank."""

    def find_file_rank(self, rank: int) -> int:
        """The highest rank of the written weights for `rank` ranks, or seats."""
        return rank

    @property
    def most_seats(self) -> int:
        """Seats of the longest opening; 0 for networks without seats."""
        return 0

    @property
    def held_by_one(self) -> int:
        """Tokens that one adapter has room for; longer documents keep parts."""
        return 0

    def count_values(self, rank: int) -> int:
        """Count the numbers in the written weights."""
        return rank * self.config.values_a_rank

    def count_part_bytes(self, rank: int) -> int:
        """Size of a part with so many seats; 0 where parts are ranks of the adapter itself."""
        del rank
        return 0

    def count_tokens(self, documents: Sequence[Document]) -> Counter[str]:
        """Tokens of each document's text, without any template, by the document's name."""
        encode, counts = self.load_tokenizer(self.reader).encode, Counter[str]()
        for document in documents:
            counts[document.name] += len(encode(document.text))
        return counts

    def warn(
        self, chunks: Sequence[Chunk], tokens: Counter[str], options: CompileOptions
    ) -> list[str]:
        """List warnings about chunks of documents that have so many tokens, by name."""
        del chunks, tokens, options
        return []

    def warn_description(self, chunks: Sequence[Chunk]) -> list[str]:
        """List warnings about the chunks of a task description."""
        del chunks
        return []

    def find_scale(self, options: CompileOptions) -> float:
        """Factor of b @ a that is folded into b."""
        del options
        return 1.0

    def explain_scaling(self, options: CompileOptions) -> str | None:
        """Words of the card on the scale, if the network has a choice."""
        del options
        return None

    def describe_prompt(self, rank: int) -> Prompt:
        """The prompt that the adapter answers to, for d2l.json: the base's own chat."""
        del rank
        return BASE_PROMPT

    def write_texts(self, rank: int) -> dict[str, str]:
        """Text files that make the prompt, by name: chat template and tokenizer."""
        del rank
        return {}

    def explain_prompt(self, rank: int) -> str:
        """A paragraph of the model card on the prompt."""
        del rank
        return "Ask with the base's own chat template: one user turn, no system text.\n"

    def explain_limits(self) -> str:
        """Lines of the model card on the limits."""
        return self.explain_base()

    def explain_base(self) -> str:
        """Lines of the card on the bases that the adapter fits."""
        return "- The delta is computed for this base model only.\n"

    def find_moments(self) -> Path | None:
        """Find second moments that were measured on this base, if the network uses any."""
        return None

    def load(self, *, device: str, dtype: torch.dtype) -> Loaded:
        """Load network and base onto a device (as in `pick_device`); raises D2LError.

        Of the base no more layers are loaded than the network reads.
        """
        device = pick_device(device)
        n_layers = self.config.reading.n_layers
        model = load_frozen(self.reader, device=device, dtype=dtype, n_layers=n_layers)
        hypernet = load_hypernet(self.files.path, device=device, base=model)
        return Loaded(hypernet, ActivationEncoder(model, self.config.reading), device)

    def find_base(self, *, need: Need | None = None) -> BaseFiles:
        """Find the base without checking its shapes; raises BaseModelError. No more of it is
        downloaded than is needed: None means what the network itself does."""
        need = need or self.need
        return find_base(self.config.base, override=self.given, offline=self.offline, need=need)

    def find_other(self, name: str, *, given: str | None = None) -> BaseFiles:
        """Find a second model that the network reads with, by its name in the configuration."""
        return find_base(name, override=given, offline=self.offline, need=self.need)

    @cached_property
    def base(self) -> BaseFiles:
        """The base, whose shapes fit; raises BaseModelError."""
        base = self.find_base()
        self.check_base(base)
        return base

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the checkpoint and the base."""
        return self.list_warnings(self.base)

    def list_warnings(self, base: BaseFiles) -> tuple[str, ...]:
        """Check a base, and list warnings about it and the checkpoint."""
        return (*list_warnings(self.files.path), *self.check_base(base))

    def digest_base(self) -> str | None:
        """SHA-256 of the base's weights, in hex; None if they take no part."""
        return self.base.digest()

    def check_base(self, base: BaseFiles) -> list[str]:
        """Refuse a base of other shapes (BaseModelError); warn about one of another name."""
        return check_fit(self.config, base, given=self.given)

    def load_tokenizer(self, reader: BaseFiles) -> BaseTokenizer:
        """The tokenizer of the model that reads."""
        return self.tokenizer if reader is self.base else load_tokenizer(reader.folder)

    @cached_property
    def tokenizer(self) -> BaseTokenizer:
        """The base's tokenizer."""
        return load_tokenizer(self.base.folder)

    def digest(self) -> str:
        """SHA-256 of the network's weights file, in hex."""
        return checkpoint_digest(self.files.path)


AnyNetwork = Network[Any]


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
