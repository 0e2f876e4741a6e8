"""Names of adapted modules, and of their factors in a file, taken apart.

"model.layers.3.self_attn.q_proj" and "lm_head" in, the parts that others ask for out; knows
nothing of tensors or files.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

#: Before the name of a module in the keys that PEFT writes.
PREFIX = "base_model.model."
_LAYER = re.compile(r"(?:^|\.)layers\.([0-9]{1,9})\.")  # longer numbers count no layers
_FACTOR = re.compile(r"\.lora_([AB])(\.default)?\.weight$")


class ModuleName(NamedTuple):
    """A module's name. `layer` and `stack` (what the layers belong to: "model") are None for
    modules outside layers, whose `path` is the whole name."""

    layer: int | None
    stack: str | None
    path: str  # below the layer: "self_attn.q_proj"

    @property
    def short(self) -> str:
        """The last word: "q_proj"."""
        return self.path.rpartition(".")[2]

    @property
    def in_decoder(self) -> bool:
        """Whether it lies in a layer of the decoder itself, as adapters of d2l name it."""
        return self.stack == "model"


@lru_cache(maxsize=65_536)
def parse(name: str) -> ModuleName:
    """Take the name of a module apart; every name has a last word, so this never fails."""
    match = _LAYER.search(name)
    if match is None or match.end() == len(name):
        return ModuleName(None, None, name)
    return ModuleName(int(match[1]), name[: match.start()], name[match.end() :])


def parse_key(key: str) -> tuple[str, str] | None:
    """(module without PEFT's prefix, "A" or "B") of a tensor's key; None for another form."""
    match = _FACTOR.search(key)
    return (key[: match.start()].removeprefix(PREFIX), match[1]) if match is not None else None


def join(layer: int, path: str) -> str:
    """Name of a module of the decoder: the inverse of `parse`."""
    return f"model.layers.{layer}.{path}"


def list_short(names: Iterable[str]) -> list[str]:
    """Last words of modules' names, each once, sorted."""
    return sorted({parse(name).short for name in names})


def list_layers(names: Iterable[str]) -> list[int]:
    """Layers that modules lie in, each once, sorted."""
    return sorted({layer for name in names if (layer := parse(name).layer) is not None})


def is_uneven(names: Iterable[str]) -> bool:
    """Whether some layer lacks a module that another one has."""
    inside = [name for name in map(parse, names) if name.layer is not None]
    shorts, layers = {name.short for name in inside}, {name.layer for name in inside}
    return len(inside) != len(shorts) * len(layers)
