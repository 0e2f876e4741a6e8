"""Names of adapted modules and of their factors, taken apart.

"model.layers.3.self_attn.q_proj" gives layer 3, stack "model" and path "self_attn.q_proj".
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

#: PEFT's prefix of the name of a module in a tensor's key.
PREFIX = "base_model.model."
_LAYER = re.compile(r"(?:^|\.)layers\.([0-9]{1,9})\.")  # longer numbers count no layers
_FACTOR = re.compile(r"\.lora_([AB])(\.default)?\.weight$")


class ModuleName(NamedTuple):
    """A module's name. `stack` is the module with the layers ("model"). Outside layers, `layer` and
    `stack` are None, and `path` is the whole name."""

    layer: int | None
    stack: str | None
    path: str  # below the layer: "self_attn.q_proj"

    @property
    def short(self) -> str:
        """The last word: "q_proj"."""
        return self.path.rpartition(".")[2]

    @property
    def in_decoder(self) -> bool:
        """True for a module in a layer of the decoder itself, as adapters of d2l name it."""
        return self.stack == "model"


@lru_cache(maxsize=65_536)
def parse(name: str) -> ModuleName:
    """Take the name of a module apart; any text has a path."""
    match = _LAYER.search(name)
    if match is None or match.end() == len(name):
        return ModuleName(None, None, name)
    return ModuleName(int(match[1]), name[: match.start()], name[match.end() :])


def parse_key(key: str) -> tuple[str, str] | None:
    """Take a tensor's key apart: (module without PEFT's prefix, "A" or "B"); None for other
    keys."""
    match = _FACTOR.search(key)
    return (key[: match.start()].removeprefix(PREFIX), match[1]) if match is not None else None


def join(layer: int, path: str) -> str:
    """Name a module of the decoder: the inverse of `parse`."""
    return f"model.layers.{layer}.{path}"


def list_short(names: Iterable[str]) -> list[str]:
    """List the last words of modules' names, each once, sorted."""
    return sorted({parse(name).short for name in names})


def list_layers(names: Iterable[str]) -> list[int]:
    """List the layers of modules, each once, sorted."""
    return sorted({layer for name in names if (layer := parse(name).layer) is not None})


def is_uneven(names: Iterable[str]) -> bool:
    """True if a layer lacks a module that another layer has."""
    inside = [name for name in map(parse, names) if name.layer is not None]
    shorts, layers = {name.short for name in inside}, {name.layer for name in inside}
    return len(inside) != len(shorts) * len(layers)
