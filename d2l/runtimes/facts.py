"""What `d2l check` knows of an adapter before any rule is asked: names, ranks, and its base.

A folder's header and config in, plain values out; needs no torch. Works for adapters of any tool.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from d2l.adapters import module_names
from d2l.adapters.info import CHAT_TEMPLATE, AdapterInfo


@dataclass(frozen=True)
class BaseFacts:
    """The base's config, as far as rules ask for it. `shapes`: (d_in, d_out) by short name."""

    model_type: str
    n_layers: int
    tied: bool
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """One adapter, its base where that is at hand, and the rank that a server is started with."""

    info: AdapterInfo
    base: BaseFacts | None = None
    max_lora_rank: int | None = None

    @property
    def config(self) -> Mapping[str, Any]:
        """The PEFT config."""
        return self.info.config

    @cached_property
    def pairs(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Shapes of A and B, {"A": …, "B": …}, by module name without PEFT's prefix."""
        found: dict[str, dict[str, tuple[int, ...]]] = {}
        for name, tensor in self.info.tensors.items():
            place = module_names.parse_key(name)
            if place is not None:
                found.setdefault(place[0], {})[place[1]] = tensor.shape
        return dict(sorted(found.items()))

    @cached_property
    def ranks(self) -> dict[str, int]:
        """Rank of every module, as its A is stored."""
        return {m: s["A"][0] for m, s in self.pairs.items() if len(s.get("A", ())) == 2}

    @property
    def rank(self) -> int:
        """The highest rank, declared or stored: what servers reserve memory for."""
        declared = [r for r in (self.config.get("r"), *self._pattern_ranks()) if type(r) is int]
        return max([*declared, *self.ranks.values()], default=0)

    @cached_property
    def modules(self) -> list[str]:
        """Short names of the adapted modules, sorted."""
        return module_names.list_short(self.pairs)

    def layers_of(self, module: str) -> set[int]:
        """Layers in which a module is adapted."""
        named = [name for name in self.pairs if module_names.parse(name).short == module]
        return set(module_names.list_layers(named))

    @property
    def name(self) -> str:
        """A name to serve the adapter under: its folder's, of letters, digits, dots and dashes."""
        plain = re.sub(r"[^A-Za-z0-9.-]+", "-", self.info.folder.resolve().name)
        return plain.removesuffix(".lora").strip("-") or "document"

    @property
    def base_name(self) -> str:
        """What the adapter calls its base, or "BASE"."""
        return str(self.config.get("base_model_name_or_path") or "BASE")

    @property
    def template(self) -> str | None:
        """Path of the adapter's own chat template, where it has one."""
        path = self.info.folder / CHAT_TEMPLATE
        return str(path) if path.is_file() else None

    def _pattern_ranks(self) -> list[Any]:
        pattern = self.config.get("rank_pattern")
        return list(pattern.values()) if isinstance(pattern, Mapping) else []
