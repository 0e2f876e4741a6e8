"""Making adapters from task descriptions with a Text-to-LoRA network: embedder, network, card.

No weights of the base are loaded unless the base itself embeds descriptions.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from d2l.adapters.weights import LoraWeights
from d2l.bases.activations import Activations
from d2l.bases.devices import pick_device
from d2l.bases.models import BaseFiles
from d2l.documents.chunks import Chunk
from d2l.documents.document import Document
from d2l.errors import BaseModelError
from d2l.hypernets.formats.format import Format, native_format
from d2l.hypernets.network import Network
from d2l.hypernets.options import CompileOptions, Scaling
from d2l.hypernets.protocol import Assembled, ChunkWeights, Cut
from d2l.hypernets.text_to_lora import released
from d2l.hypernets.text_to_lora.embedders import (
    Embedder,
    Words,
    load_embedder,
    read_base_words,
    read_encoder_words,
)
from d2l.hypernets.text_to_lora.network import TextToLora, TextToLoraConfig, build


@dataclass(frozen=True)
class LoadedText:
    """A Text-to-LoRA network with its embedder."""

    hypernet: TextToLora
    embedder: Embedder
    device: str

    def read_ahead(self, chunk: Chunk) -> None:
        """Do nothing: descriptions have no beginning in common."""

    def read(self, chunks: Sequence[Chunk]) -> list[Activations]:
        """Embed descriptions: one state each, (hidden,)."""
        return [Activations(self.embedder.embed(chunk.text)) for chunk in chunks]

    def write(
        self, chunk: Chunk, activations: Activations, ranks: Sequence[int]
    ) -> list[ChunkWeights]:
        """Write the weights of an embedded description; the network has one rank."""
        del chunk
        assert isinstance(activations.states, Tensor)
        embedding = activations.states.to(next(self.hypernet.parameters()).device)
        return [self.hypernet.generate(embedding) for _ in ranks]

    def assemble(self, written: Iterable[ChunkWeights], options: CompileOptions) -> Assembled:
        """Make the adapter of a description's weights, with the standard scale."""
        del options
        (weights,) = written
        assert isinstance(weights, LoraWeights)
        return Assembled(weights)


class TextToLoraNetwork(Network[TextToLoraConfig]):
    """A Text-to-LoRA network: the embedding of a description becomes LoRA weights."""

    kind: ClassVar[str] = TextToLoraConfig.kind
    build = staticmethod(build)
    formats: ClassVar[tuple[Format, ...]] = (
        native_format(TextToLoraConfig.kind, "Text-to-LoRA", TextToLoraConfig.from_json),
        Format(
            name="released_text",
            description="a released Text-to-LoRA checkpoint (hypermod.pt, args.yaml and "
            "adapter_config.json)",
            matches=released.matches,
            read_config=lambda path: released.read_released(path).config,
            read_tensors=lambda path: released.read_released(path).read_tensors(),
            find_weights=released.find_file,
            weights=(released.WEIGHTS_FILE,),
            texts=(released.ARGUMENTS_FILE, released.ADAPTER_FILE),
        ),
    )
    keeps_chunks: ClassVar[bool] = False

    @property
    def reads(self) -> tuple[str, ...]:
        """Descriptions alone."""
        return ("descriptions",)

    @property
    def models(self) -> dict[str, str | None]:
        """The embedder; only the configuration of another base is read."""
        name = self.config.embedder
        return super().models if name is None else {name: self.embedder}

    @cached_property
    def reader(self) -> BaseFiles:
        """The embedder, or the base if it embeds; raises BaseModelError."""
        if self.config.embedder is not None:
            return self.find_model(self.config.embedder, given=self.embedder)
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

    def cut(self, documents: Sequence[Document], options: CompileOptions) -> Cut:
        """Make one chunk of a description; the embedder reads its text."""
        del options
        (document,) = documents
        rank, text = self.config.rank, document.text
        chunk = Chunk(0, (), "", document.name, rank, (0, len(text)), text=text)
        words, warnings = self._read_words(), tuple[str, ...]()
        if n_left_out := words.count_left_out(text):
            warnings = (
                f"{words.name} reads {words.window:,} tokens; the last {n_left_out:,} of the "
                "description are left out",
            )
        return Cut((chunk,), Counter(), rank, rank, warnings=warnings)

    def _read_words(self) -> Words:
        """Read the tokenizer of the embedder."""
        if self.config.embedder is not None:
            return read_encoder_words(self.reader)
        return read_base_words(self.reader, as_questions=self.config.embeds_question)

    def explain_scale(self, scaling: Scaling) -> tuple[float, str]:
        """The factor of b @ a, which is folded into lora_B, and its reason."""
        scale = self.config.scaling(own=scaling == "config")
        if not self.config.rank_stabilized:
            return scale, "alpha / rank"
        if scaling == "config":
            return scale, "alpha / √rank, as the checkpoint's own configuration says"
        return scale, (
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

    def load(self, *, device: str, dtype: torch.dtype | None = None) -> LoadedText:
        """Load embedder and network; raises D2LError if they do not fit."""
        device = pick_device(device)
        config, reader = self.config, self.reader
        embeds = config.embedder is None
        embedder = load_embedder(
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
        network = self.load_hypernet(self.files.path, self.format, device=device)
        return LoadedText(network, embedder, device)
