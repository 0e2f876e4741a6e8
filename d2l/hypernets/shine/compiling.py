"""Compiling a document with a SHINE network: everything but the weights."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch

from d2l.documents.chunks import Chunk
from d2l.documents.document import Document
from d2l.errors import OptionError
from d2l.hypernets.formats.format import Format, native_format
from d2l.hypernets.network import LoadedNetwork, Network, load_reading
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.protocol import Cut
from d2l.hypernets.shine import released
from d2l.hypernets.shine.network import TRAINED_TOKENS, MemoryEncoder, ShineConfig, build


class ShineNetwork(Network[ShineConfig]):
    """A SHINE network: the beginning of one document becomes LoRA weights of a fixed rank."""

    kind: ClassVar[str] = ShineConfig.kind
    build = staticmethod(build)
    formats: ClassVar[tuple[Format, ...]] = (
        native_format(ShineConfig.kind, "SHINE", ShineConfig.from_json),
        Format(
            name="released_shine",
            description=f"a released SHINE checkpoint ({', '.join(released.FILES)})",
            matches=released.matches,
            read_config=released.read_config,
            read_tensors=released.read_tensors,
            find_weights=released.find_file,
            weights=tuple(released.FILES),
            texts=(released.SETTINGS,),
        ),
    )

    def cut(self, documents: Sequence[Document], options: CompileOptions) -> Cut:
        """Cut the end of the only document off: the network reads its beginning, without a
        template."""
        given = {
            "other documents": len(documents) > 1,
            "--tokens-per-seat": options.tokens_per_seat is not None,
            "--parts": bool(options.parts),
            "--bias-scale": options.bias_scale != 1.0,
        }
        if refused := " and ".join(name for name, is_given in given.items() if is_given):
            raise OptionError(
                f"{self.files.name}: writes one LoRA of one document", hint=f"leave out {refused}"
            )
        (document,) = documents
        text, limit = document.text, options.chunk_tokens or TRAINED_TOKENS
        ids, stop, warnings = self.tokenizer.encode(text), len(text), list[str]()
        if n_left_out := max(0, len(ids) - limit):
            stop = self.tokenizer.token_starts(text)[limit]
            warnings.append(
                f"the network reads the first {limit:,} tokens (--chunk-tokens); the last "
                f"{n_left_out:,} of {document.name} are left out"
            )
        if (n_read := len(ids) - n_left_out) > TRAINED_TOKENS:
            warnings.append(
                f"{n_read:,} tokens are more than a text of the network's training had, "
                f"{TRAINED_TOKENS:,}: less may come back"
            )
        rank, source = self.config.rank, document.where(0, stop)
        chunk = Chunk(0, tuple(ids[:limit]), source, document.name, rank, (0, stop))
        counts, own = Counter({document.name: len(ids)}), min(rank, options.max_rank or rank)
        return Cut((chunk,), counts, own, rank, warnings=tuple(warnings))

    @property
    def chunk_lengths(self) -> tuple[int, ...]:
        """The longest texts of training."""
        return (TRAINED_TOKENS,)

    def count_working(self, n_tokens: int) -> int:
        """Numbers of a mixer, in float32, or of the base's widest layer: three of its tensors."""
        config = self.config
        mixed = config.n_layers * config.n_memory * (6 * config.hidden + config.feed_forward)
        return max(2 * mixed, 3 * (n_tokens + config.n_memory) * max(config.d_out))

    def load(self, *, device: str, dtype: torch.dtype | None = None) -> LoadedNetwork:
        """Load network and base; the base reads with memory tokens and the meta-LoRA."""
        loaded = load_reading(self, device=device, dtype=dtype)
        return replace(loaded, encode=MemoryEncoder(loaded.encode.model, loaded.hypernet))

    def explain_prompt(self, rank: int) -> str:
        """A paragraph of the model card on the prompt: Qwen's template with its own settings."""
        return super().explain_prompt(rank) + (
            "Leave the template's thinking on: in training the answer followed the question at "
            "once. Without thinking the template writes an empty thought before it.\n"
        )
