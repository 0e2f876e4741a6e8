"""Facts of an adapter for the rules of `d2l check`: names, ranks, and its base.

A folder's header and config in, plain values out; needs no torch. Works for adapters of any tool.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from d2l.adapters import module_names
from d2l.adapters.info import CHAT_TEMPLATE, AdapterInfo
from d2l.bases.catalog import KnownBase, find_known
from d2l.bases.families import ATTENTION, FAMILIES, MLP


@dataclass(frozen=True)
class BaseFacts:
    """Facts of a base's config. `shapes`: (d_in, d_out) by short name; `n_tokens`: size of the
    vocabulary. `gguf`: the base's GGUF file, if it is one."""

    model_type: str
    n_layers: int
    tied: bool
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    n_tokens: int | None = None
    gguf: str | None = None

    @classmethod
    def of(cls, config: Any) -> "BaseFacts":
        """Take the facts of a config of transformers; without shapes if its family is unknown."""
        kind = str(config.model_type)
        family = FAMILIES.get(kind)
        return cls(
            kind,
            int(config.num_hidden_layers),
            bool(getattr(config, "tie_word_embeddings", False)),
            {m: family.module_shape(config, m) for m in (*ATTENTION, *MLP)} if family else {},
            getattr(config, "vocab_size", None),
        )

    def find_misfit(self, module: str, size: tuple[int, int] | None) -> str | None:
        """Compare an adapter's module of this size, (d_in, d_out), with the base; returns a
        message, None if it fits or is unknown. Without a size only its layer is compared."""
        name = module_names.parse(module)
        if name.layer is not None and name.layer >= self.n_layers:
            return f"{module}: the base has {self.n_layers} layers"
        expected = self.shapes.get(name.short)
        if size is None or expected is None or size == expected:
            return None
        return f"{module}: is {size[0]} → {size[1]}, the base has {expected[0]} → {expected[1]}"


@dataclass(frozen=True)
class Facts:
    """Facts of an adapter, its base if that is at hand, and the rank of a server."""

    info: AdapterInfo
    base: BaseFacts | None = None
    max_lora_rank: int | None = None

    @property
    def config(self) -> Mapping[str, Any]:
        """PEFT config."""
        return self.info.config

    @cached_property
    def pairs(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Shapes of A and B, {"A": …, "B": …}, by module name without PEFT's prefix."""
        pairs: dict[str, dict[str, tuple[int, ...]]] = {}
        for name, tensor in self.info.tensors.items():
            if (key := module_names.parse_key(name)) is not None:
                module, letter = key
                pairs.setdefault(module, {})[letter] = tensor.shape
        return dict(sorted(pairs.items()))

    @cached_property
    def ranks(self) -> dict[str, int]:
        """Rank of every module, as its A is stored."""
        return {m: s["A"][0] for m, s in self.pairs.items() if len(s.get("A", ())) == 2}

    @property
    def rank(self) -> int:
        """Highest rank, declared or stored; servers reserve memory for it."""
        pattern = self.config.get("rank_pattern")
        declared = [
            self.config.get("r"),
            *(pattern.values() if isinstance(pattern, Mapping) else ()),
        ]
        whole = [rank for rank in declared if type(rank) is int]
        return max([*whole, *self.ranks.values()], default=0)

    @cached_property
    def modules(self) -> list[str]:
        """Short names of the adapted modules, sorted."""
        return module_names.list_short(self.pairs)

    @property
    def name(self) -> str:
        """Name of the served adapter: its folder's, of letters, digits, dots and dashes."""
        plain = re.sub(r"[^A-Za-z0-9.-]+", "-", self.info.folder.resolve().name)
        return plain.removesuffix(".lora").strip("-") or "document"

    @property
    def base_name(self) -> str:
        """Name of the base in the adapter, or "BASE"."""
        return str(self.config.get("base_model_name_or_path") or "BASE")

    @property
    def rescaled(self) -> KnownBase | None:
        """File that a memory was seated on, if the weights behind the base's name do not fit the
        memory."""
        provenance = self.info.provenance
        if provenance is None or provenance.prompt.opening is None:
            return None
        known = find_known(provenance.base.name)
        fits = known is None or not known.rescaled or provenance.base.sha256 != known.sha256
        return None if fits else known

    def warn_of_base(self) -> tuple[str, ...]:
        """Warn of a base whose weights behind its name do not fit the adapter."""
        if self.rescaled is None:
            return ()
        name = self.rescaled.name
        return (
            f"the weights behind {name} are scaled differently than {self.rescaled.file}, which "
            "the adapter was made on: with them it answers ordinary text wrongly. Compile for "
            f"them: d2l compile --checkpoint CHECKPOINT --base {name}",
        )

    @property
    def template(self) -> str | None:
        """Path of the adapter's own chat template, if it has one."""
        path = self.info.folder / CHAT_TEMPLATE
        return str(path) if path.is_file() else None
