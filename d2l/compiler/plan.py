"""Documents, or a task description → plan of the compilation, before any weights are loaded.

Reads the checkpoint's configuration and the base's config and tokenizer; `run` executes the plan.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any

from d2l.adapters.peft_config import VLLM_RANKS
from d2l.adapters.provenance import Description, ExamplesRecord
from d2l.adapters.weights import LoraWeights
from d2l.bases import devices
from d2l.bases.models import BaseFiles
from d2l.compiler.names import name_task
from d2l.datasets.descriptions import check_description
from d2l.datasets.examples import ExampleFile
from d2l.datasets.tasks import list_labels
from d2l.documents.chunks import Chunk
from d2l.documents.document import Document
from d2l.documents.intake import Intake
from d2l.errors import DocumentError, OptionError
from d2l.hypernets.network import AnyNetwork
from d2l.hypernets.options import CompileOptions, TaskCompileOptions
from d2l.hypernets.protocol import Cut, HypernetConfig
from d2l.hypernets.registry import CheckpointFiles


@dataclass(frozen=True, repr=False)
class CompilePlan:
    """Decisions before computing; `warnings` are for the user.

    `cut` holds the chunks with their ranks, and the tokens that were counted.
    """

    network: AnyNetwork
    cut: Cut
    intake: Intake  # the documents, the unreadable inputs, and the reading options
    options: CompileOptions
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        names = ", ".join(document.name for document in self.documents)
        return (
            f"CompilePlan({names!r:.60}, checkpoint={self.checkpoint.name!r}, "
            f"tokens {self.describe_tokens()}, rank {self.file_rank})"
        )

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The chunks, in document order."""
        return self.cut.chunks

    @property
    def rank(self) -> int:
        """The rank that chunks share, or seats."""
        return self.cut.rank

    @property
    def is_compressed(self) -> bool:
        """True if --max-rank cuts the rank that the chunks have together."""
        return self.cut.rank != self.cut.full_rank

    @property
    def keeps_parts(self) -> bool:
        """True if the adapter keeps a part of each chunk, of which questions choose."""
        return self.cut.keeps_parts

    @property
    def config(self) -> HypernetConfig:
        """The network's configuration."""
        config: HypernetConfig = self.network.config
        return config

    @property
    def checkpoint(self) -> CheckpointFiles:
        """The network's name and files."""
        return self.network.files

    @property
    def base(self) -> BaseFiles:
        """The model that is adapted."""
        return self.network.base

    @property
    def documents(self) -> tuple[Document, ...]:
        """The documents that are compiled."""
        return self.intake.documents

    @property
    def file_rank(self) -> int:
        """Rank of the weights that will be written."""
        return self.config.find_rank(self.rank)

    @property
    def adapter_bytes(self) -> int:
        """Size of the weights that will be written."""
        return self.config.count_values(self.rank) * (4 if self.options.dtype == "fp32" else 2)

    @cached_property
    def device(self) -> str:
        """The device; raises BaseModelError if this machine lacks it."""
        return devices.pick_device(self.options.device)

    @cached_property
    def base_dtype(self) -> str:
        """The precision that the base runs in, as options spell it."""
        dtype = self.options.base_dtype
        return dtype or devices.name_dtype(self.network.pick_dtype(self.device))

    @property
    def parts_bytes(self) -> int:
        """Size of the parts that will be written beside the weights."""
        kept = self.chunks if self.keeps_parts else ()
        return sum(self.config.count_part_bytes(chunk.part_rank) for chunk in kept)

    @property
    def n_tokens(self) -> int:
        """Tokens that the base will read, templates included."""
        return sum(len(chunk.token_ids) for chunk in self.chunks)

    @property
    def n_text_tokens(self) -> int:
        """Tokens of the documents' text, without any template."""
        return self.cut.n_tokens.total()

    @cached_property
    def ranks(self) -> Counter[str]:
        """Ranks, or seats, of each document, by its name."""
        shared = self.network.averages_share and self.options.merge == "average"
        held = Counter[str]()
        for chunk in self.chunks:
            before = held[chunk.document]
            held[chunk.document] = max(before, chunk.rank) if shared else before + chunk.rank
        return held

    @property
    def places(self) -> tuple[str | None, ...]:
        """The user's names of network and base, which may be paths."""
        return self.checkpoint.name, self.options.base

    @property
    def file_name(self) -> str:
        """Name of the adapter's folder, if the user names none."""
        return f"{PurePath(self.documents[0].name).stem or 'documents'}.lora"

    def record_options(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Record the options that change the adapter, as d2l.lock holds them; `names` replace
        the user's."""
        return self.options.record(names) | self.intake.reading.record()

    def rescale(self, weights: LoraWeights) -> LoraWeights:
        """Give the network's weights another scale, if the user chose one."""
        return weights

    def describe_tokens(self) -> str:
        """The text's length, for people: "240", or "4,553 in 36 parts" (or "chunks")."""
        n_chunks, unit = len(self.chunks), "parts" if self.keeps_parts else "chunks"
        return f"{self.n_text_tokens:,}" + (f" in {n_chunks:,} {unit}" if n_chunks > 1 else "")


@dataclass(frozen=True, repr=False)
class TaskPlan(CompilePlan):
    """Plan of a task description, which is compiled as a document. `task`: the user's options;
    `examples`: the solved examples that are read beside it."""

    task: TaskCompileOptions = field(default_factory=TaskCompileOptions)
    examples: ExamplesRecord | None = None

    @property
    def description(self) -> Description:
        """The description as d2l.json holds it, with its examples."""
        (document,), embedder = self.documents, self.network.embedder_name
        made = Description(text=document.text, sha256=document.digest, embedder=embedder)
        more = {} if self.examples is None else {"examples": self.examples}
        return made.model_copy(update=more)

    @property
    def scale(self) -> tuple[float, str] | None:
        """Factor of b @ a with its reason; None if the network has one scaling alone."""
        return self.network.explain_scale(self.task.scaling)

    @property
    def places(self) -> tuple[str | None, ...]:
        """Names that may be paths, the embedder's among them."""
        embedder = self.network.embedder_name
        own = (embedder,) if PurePath(embedder).is_absolute() else ()
        return (*super().places, *own)  # any other is the checkpoint's name for all

    @property
    def file_name(self) -> str:
        """Name of the adapter's folder."""
        return "task.lora"

    def record_options(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Record the options of the task."""
        return self.task.record(names)

    def rescale(self, weights: LoraWeights) -> LoraWeights:
        """Give weights the scale that the user chose."""
        return weights if self.scale is None else replace(weights, scale=self.scale[0])


def prepare(intake: Intake, options: CompileOptions, network: AnyNetwork) -> CompilePlan:
    """Plan the compilation of documents: chunks, rank and size, with all checks.

    `network`: of `open_network` for the same options. Raises CheckpointError, BaseModelError,
    DocumentError or OptionError with what to do about it.
    """
    if not intake.documents:
        raise DocumentError("nothing to compile: no document was read")
    network.require("documents")
    cut = network.cut(intake.documents, options)
    if cut.keeps_parts and options.no_text:
        raise OptionError(
            "--no-text: questions choose the parts of a long document by their text",
            hint="leave it out, or keep one memory: --no-parts",
        )
    warnings = [*network.warnings, *cut.warnings]
    if (file_rank := network.config.find_rank(cut.rank)) > VLLM_RANKS[-1]:
        warnings.append(
            f"rank {file_rank:,} is more than vLLM loads, {VLLM_RANKS[-1]}: choose more "
            f"--chunk-tokens, or --max-rank {VLLM_RANKS[-1]}"
        )
    return CompilePlan(network, cut, intake, options, tuple(warnings))


def prepare_task(
    text: str,
    options: TaskCompileOptions,
    network: AnyNetwork,
    examples: ExampleFile | None = None,
) -> TaskPlan:
    """Plan the adapter of a task description, and of examples if there are any.

    Raises DescriptionError, CheckpointError, BaseModelError, TaskError or OptionError.
    """
    text = check_description(text)
    network.require("descriptions")
    assert network.reader  # refuses a model that does not fit
    if options.scaling != "standard" and network.explain_scale(options.scaling) is None:
        raise OptionError(
            f"{network.files.name}: its adapters have one scaling alone", hint="leave --scaling out"
        )
    document, settings = Document.from_text(text, name=name_task(text)), options.as_document()
    given = () if examples is None else examples.examples
    cut, record = network.cut_task(document, given, settings), None
    warnings = [*network.warnings, *cut.warnings]
    if examples is not None:
        chosen = [given[index] for index in cut.examples]
        rows = tuple(index + 1 for index in cut.examples)
        record = ExamplesRecord(sha256=examples.sha256, n=len(given), rows=rows)
        read = {example.outputs[0] for example in chosen}
        missing = [repr(label) for label in list_labels(given) if label not in read]
        if missing:
            warnings.append(f"no example of {', '.join(missing)} fits: the adapter sees none")
    intake = Intake((document,))
    return TaskPlan(network, cut, intake, settings, tuple(warnings), options, record)
