"""The configuration of a base's own KV cache as a network."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from d2l.bases.families import Reading
from d2l.bases.turns import TurnTexts
from d2l.hypernets.formats.fields import naming, read_json, read_typed
from d2l.hypernets.registry import KV, OLD_KV
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.seated_config import SeatedConfig


@dataclass(frozen=True)
class KvConfig(SeatedConfig):
    """Sizes and texts of a base: a seat is a token. `turns`: the base's chat template around turns
    (`TurnTexts`), `instruction`: the system text, `part_end`: the text behind each part."""

    turns: tuple[str, ...] = ()
    instruction: str = ""
    part_end: str = ""

    def list_rules(self) -> dict[str, bool]:
        """List the rules on the fields, each with its result."""
        return {
            f'network is "{KV}"': self.network == KV,
            "turns are the seven texts around turns": len(self.turns) == 7,
            **super().list_rules(),
        }

    @property
    def texts(self) -> TurnTexts:
        """Texts of the base's chat template around turns."""
        return TurnTexts(*self.turns)

    @property
    def part_bits(self) -> int:
        """Bits of a number in a part: four are enough for a base's own KV cache."""
        return 4

    @property
    def reading(self) -> Reading:
        """Keys and values of all layers, without the read opening."""
        return replace(super().reading, key_value_layers=tuple(range(self.layers)))

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "KvConfig":
        """Check names and types of JSON values, and make the configuration. Older files name the
        kind otherwise, and have the fields of a trained network, empty."""
        own = cls.__dataclass_fields__.keys()
        trained = SeatsConfig.__dataclass_fields__.keys() - own
        given = {name: value for name, value in values.items() if value or name not in trained}
        if given.get("network") == OLD_KV:
            given["network"] = KV
        return cls(**read_typed(cls, given, kind=KV))


def read_config(path: Path) -> KvConfig:
    """Read config.json of a base's KV cache."""
    values = read_json(path)
    with naming(path):
        return KvConfig.from_json(values)


def read_seated(path: Path) -> SeatedConfig:
    """Read config.json of a network whose memories are seated, of either kind."""
    values = read_json(path)
    with naming(path):
        is_kv = values.get("network") in (KV, OLD_KV)
        return KvConfig.from_json(values) if is_kv else SeatsConfig.from_json(values)
