"""The configuration of a trained seat network, without any weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from d2l.bases.families import Reading
from d2l.hypernets.formats.fields import naming, read_json, read_typed
from d2l.hypernets.seats.seated_config import SeatedConfig

KIND = "seats"
#: Fields of a base's KV cache, which older files have, empty.
_OF_KV = ("turns", "instruction", "part_end")


@dataclass(frozen=True)
class SeatsConfig(SeatedConfig):
    """Sizes and constants of a seat network on a base."""

    # Sizes of the network. `features`: the layers whose input states it reads.
    width: int = 0
    encoder_layers: int = 0
    encoder_heads: int = 0
    relative_clip: int = 0
    features: tuple[int, ...] = ()
    group_dim: int = 0
    seat_table: int = 0
    # The shared LoRA on down_proj: the width of its inputs, and its rank; 0: none.
    intermediate: int = 0
    shared_rank: int = 0
    learned_places: bool = False  # informative tokens get a larger share of a seat
    # Addresses, in place of a shared LoRA: neurons of the MLP below the memory, one for each
    # opening word, and the rank of all their gates; 0: a rank for each word.
    address_neurons: tuple[int, ...] = ()
    gate_rank: int = 0

    def list_rules(self) -> dict[str, bool]:
        """List the rules on the fields, each with its result."""
        return {
            'network is "seats"': self.network == KIND,
            "a network has sizes, and features": self._has_sizes(),
            **super().list_rules(),
            "shared_rank is at most min_seats": self.shared_rank <= self.min_seats,
            "a shared LoRA has intermediate above 0": self.intermediate > 0 or not self.shared_rank,
            "features are layers": max(self.features, default=0) < self.layers,
            "a shared LoRA lies in all layers from first_layer on": not self.adapted_layers
            or not self.shared_rank,
            **self._address_rules(),
            "width is a multiple of encoder_heads": self.width % max(self.encoder_heads, 1) == 0,
        }

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Short names of adapted modules: k_proj and v_proj for seats, the MLP's for the rest."""
        if self.address_neurons:
            return ("down_proj", "gate_proj", "k_proj", "v_proj")
        return ("down_proj", "k_proj", "v_proj") if self.shared_rank else ("k_proj", "v_proj")

    def _has_sizes(self) -> bool:
        """True if all sizes of the network are positive."""
        encoder = (self.width, self.encoder_layers, self.encoder_heads, self.relative_clip)
        return min(*encoder, self.group_dim, self.seat_table) > 0 and bool(self.features)

    def _address_rules(self) -> dict[str, bool]:
        """Rules on addresses, each with its result."""
        named = self.address_neurons
        return {
            "addresses stand in for a shared LoRA": not (named and self.shared_rank),
            "addresses have a layer below the memory": not named or self.first_layer > 0,
            "gates of some rank have addresses": bool(named) or not self.gate_rank,
            "each opening word has a neuron of its own among intermediate": not named
            or (
                len(named) == len(set(named)) == self.max_seats - self.min_seats
                and max(named) < self.intermediate
            ),
        }

    @property
    def module_shapes(self) -> dict[str, tuple[int, int]]:
        """(d_in, d_out) of the target modules."""
        return {
            name: {
                "down_proj": (self.intermediate, self.hidden),
                "gate_proj": (self.hidden, self.intermediate),
            }.get(name, (self.hidden, self.kv_heads * self.head_dim))
            for name in self.target_modules
        }

    def count_a_rank(self) -> dict[str, int]:
        """Numbers for a rank of each target module in all its layers."""
        layers = dict.fromkeys(self.target_modules, self.n_adapted_layers)
        if self.address_neurons:
            layers |= {"down_proj": 1, "gate_proj": 1}
        return {name: sum(self.module_shapes[name]) * n for name, n in layers.items()}

    def find_ranks(self, n_seats: int) -> dict[str, int]:
        """Find each target module's rank in an adapter with so many seats: at most the outputs of
        k_proj and v_proj; other modules may need more."""
        outputs = min(self.kv_heads * self.head_dim, self.hidden)
        words = n_seats - self.min_seats if self.address_neurons else 0
        if self.gate_rank:
            words = max(words, 1)  # a LoRA has at least one rank, of zeros
            own = {"down_proj": words, "gate_proj": min(self.gate_rank, words)}
            return own | dict.fromkeys(("k_proj", "v_proj"), min(outputs, n_seats))
        rank = n_seats if n_seats <= outputs else max(outputs, self.shared_rank, words)
        return dict.fromkeys(self.target_modules, rank)

    @property
    def reading(self) -> Reading:
        """Hidden states, and keys and values of the adapted layers, without the read opening."""
        return replace(super().reading, hidden_states=self.features)

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "SeatsConfig":
        """Check names and types of JSON values, and make the configuration."""
        given = {name: value for name, value in values.items() if value or name not in _OF_KV}
        return cls(**read_typed(cls, given, kind=KIND))


def read_config(path: Path) -> SeatsConfig:
    """Read config.json of a seats checkpoint."""
    values = read_json(path)
    with naming(path):
        return SeatsConfig.from_json(values)
