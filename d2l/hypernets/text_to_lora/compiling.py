"""How a Text-to-LoRA network makes an adapter of a task description: embedder, network, card.

No weights of the base are loaded unless the base itself embeds descriptions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from d2l.adapters.weights import LoraWeights
from d2l.bases.devices import pick_device
from d2l.bases.models import BaseFiles
from d2l.documents.chunks import Chunk
from d2l.documents.document import Document
from d2l.errors import BaseModelError
from d2l.hypernets.checkpoints import load_hypernet
from d2l.hypernets.familiarity import Familiarity
from d2l.hypernets.network import Network
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.protocol import Assembled, Part
from d2l.hypernets.text_to_lora.embedders import Embedder, load_embedders
from d2l.hypernets.text_to_lora.network import TextToLora, TextToLoraConfig


@dataclass(frozen=True)
class LoadedText:
    """A Text-to-LoRA network with its embedder; `judge` embeds texts for their familiarity."""

    hypernet: TextToLora
    embedder: Embedder
    judge: Embedder
    device: str

    def read_description(self, chunks: Sequence[Chunk], text: str) -> Tensor:
        """Embed a description: (embedding_size,) float32."""
        del chunks
        return self.embedder.embed(text)

    def measure(self, familiarity: Familiarity, read: Tensor, text: str) -> float:
        """How alike a description is to those of training, from 0 to 1."""
        same = self.judge is self.embedder or familiarity.direction is not None
        return familiarity.measure(read if same else self.judge.embed(text))

    def assemble(self, parts: Sequence[Part], options: CompileOptions) -> Assembled:
        """The weights of a description, with the scale that the options ask for."""
        (weights,) = parts
        assert isinstance(weights, LoraWeights)
        own = options.scaling == "config"
        return Assembled(replace(weights, scale=self.hypernet.config.scaling(own=own)))

    def read_ahead(self, token_ids: Sequence[int]) -> None:
        """Nothing: descriptions have no beginning in common."""

    def make_part(self, token_ids: Sequence[int], rank: int, read: Tensor | None = None) -> Part:
        """Write the weights of an embedded description."""
        del token_ids, rank
        assert read is not None
        return self.hypernet.generate(read.to(next(self.hypernet.parameters()).device))

    def warn_description(self, text: str) -> list[str]:
        """Warn about the end of a description that the embedder does not read."""
        n_left_out = self.embedder.count_left_out(text)
        if not n_left_out:
            return []
        return [
            f"{self.embedder.name} reads {self.embedder.window:,} tokens; the last {n_left_out:,} "
            "of the description are left out"
        ]


class TextToLoraNetwork(Network[TextToLoraConfig]):
    """A Text-to-LoRA network: the embedding of a description becomes LoRA weights."""

    keeps_chunks: ClassVar[bool] = False

    @property
    def reads(self) -> tuple[str, ...]:
        """Descriptions alone."""
        return ("descriptions",)

    @property
    def embedder_name(self) -> str:
        """The model that embeds descriptions, as the checkpoint names it."""
        return self.config.embedder or self.config.base

    @property
    def embedding_size(self) -> int:
        """Width of an embedded description."""
        return self.config.embedding_size

    @property
    def description_rank(self) -> int:
        """The network's rank, for every description."""
        return self.config.rank

    @property
    def models(self) -> dict[str, str | None]:
        """The embedder: of another base no more than the configuration is read."""
        name = self.config.embedder
        return super().models if name is None else {name: self.embedder}

    def find_reader(self) -> BaseFiles:
        """The embedder, or the base if that embeds; raises BaseModelError."""
        if self.config.embedder is not None:
            return self.find_other(self.config.embedder, given=self.embedder)
        if self.embedder is not None:
            raise BaseModelError(
                f"{self.files.name}: its base embeds descriptions, so there is no other embedder",
                hint="leave --embedder out, or say where the base lies with --base",
            )
        return self.base

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the base; the shapes are checked if its configuration is at hand.

        Adapters for a gated base can be made without access to it, if the base does not embed.
        """
        embeds = self.config.embedder is None
        try:
            base = self.find_base(need=None if embeds else "config")
        except BaseModelError:
            if embeds or self.given is not None:
                raise
            return (
                f"the config of {self.config.base} is not at hand, so it was not checked that the "
                "adapter's shapes fit",
            )
        return self.list_warnings(base)

    def digest_base(self) -> str | None:
        """SHA-256 of the base's weights if they take part."""
        return self.base.digest() if self.config.embedder is None else None

    def cut(self, documents: Sequence[Document], options: CompileOptions) -> list[Chunk]:
        """One chunk for a description; the embedder has the text itself."""
        del options
        (document,) = documents
        span = (0, len(document.text))
        return [Chunk(0, (), "", document.name, self.config.rank, span)]

    def count_ranks(self, chunks: Sequence[Chunk], options: CompileOptions) -> tuple[int, int]:
        """The network's own rank."""
        del chunks, options
        return self.config.rank, self.config.rank

    def find_scale(self, options: CompileOptions) -> float:
        """Alpha / rank, or the scale that the checkpoint's own adapters declare."""
        return self.config.scaling(own=options.scaling == "config")

    def explain_scaling(self, options: CompileOptions) -> str:
        """The factor of b @ a, which is folded into lora_B, and its reason."""
        text = f"{self.find_scale(options):g}, folded into lora_B: "
        if not self.config.rank_stabilized:
            return text + "alpha / rank"
        if options.scaling == "config":
            return text + "alpha / √rank, as the checkpoint's own configuration says"
        return text + (
            "alpha / rank. The checkpoint's own configuration says alpha / √rank, but the "
            "published scores of the public checkpoints come from a runtime that used alpha / rank "
            "(`--scaling config` keeps the configuration's)"
        )

    def explain_prompt(self, rank: int) -> str:
        """The base's own chat; Llama's template writes dates, which the network never saw."""
        text = super().explain_prompt(rank)
        if "llama-3" not in self.config.base.lower():
            return text
        return text + (
            "Llama's own template begins with a system turn of dates. The public Text-to-LoRA "
            "network was trained and scored without it, with the task as the system message and "
            "the first words of the answer given; scores in the own template are not known.\n"
        )

    def load(self, *, device: str, dtype: torch.dtype | None = None) -> Any:
        """Load embedder and network (`LoadedText`); raises D2LError if they do not fit."""
        device = pick_device(device)
        config, reader = self.config, self.reader
        embeds = config.embedder is None
        embedder, judge = load_embedders(
            reader if embeds else None,
            None if embeds else reader,
            as_questions=config.embeds_question,
            device=device,
            dtype=dtype,
        )
        width = len(embedder.embed("Answer the question."))
        if width != config.embedding_size:
            raise BaseModelError(
                f"{embedder.name}: embeddings are {width} wide, the checkpoint reads "
                f"{config.embedding_size}",
                hint=f"the checkpoint reads descriptions with {self.embedder_name}",
            )
        network = load_hypernet(self.files.path, device=device)
        return LoadedText(network, embedder, judge, device)
