"""The configuration of seats on a base: sizes, token ids and layers, without any weights."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from pathlib import Path

from d2l.adapters.provenance import MOST_SEATS
from d2l.adapters.rounding import count_bytes
from d2l.bases.families import Reading
from d2l.errors import CheckpointError, MergeError
from d2l.hypernets.formats.fields import naming, read_json, read_typed, show, to_float
from d2l.hypernets.registry import OWN

#: Both kinds.
KINDS = ("seats", OWN)
#: Values of `reads`.
READS = ("documents", "descriptions", "both")


@dataclass(frozen=True)
class SeatsConfig:
    """Sizes and constants of seats on a base; the fields are the keys of config.json.

    Keys with a default may be missing; files of version 0 have none of them. A network "own" has no
    weights: a memory is the base's own keys and values, a seat a token.
    """

    network: str  # "seats" or "own"
    version: int
    base: str
    base_file: str
    end_token: int
    # Sizes of the base, and its lowest layer with memory.
    hidden: int
    layers: int
    kv_heads: int
    head_dim: int
    first_layer: int
    # Seats and chunks, in tokens.
    tokens_per_seat: float
    min_seats: int
    max_seats: int
    chunk_tokens: int
    min_chunk_tokens: int
    # Constants of the solve (`seating`).
    statistics_ridge: float
    solve_epsilon: float
    # Token ids. `read_opening` precedes a chunk when the base reads it. A prompt is `opening_head`
    # (the sink and the first seats), `opening_words` (a seat each), `after_opening`, the question,
    # `before_answer`.
    read_opening: tuple[int, ...]
    opening_head: tuple[int, ...]
    opening_words: tuple[int, ...]
    after_opening: tuple[int, ...]
    before_answer: tuple[int, ...]
    opening_head_text: str
    opening_words_text: str
    # Sizes of the network; none without weights. `features`: the layers whose input states it
    # reads.
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
    document_tokens: int = 0  # longest document with some recall; 0: all seats filled
    dense_seats: int = 0  # a short document gets a seat for each token, up to this number
    base_digest: str = ""  # SHA-256 of the base's weights that the second moments belong to
    reads: str = "documents"
    adapted_layers: tuple[int, ...] = ()  # layers with memory; empty: all from `first_layer` on
    learned_places: bool = False  # informative tokens get a larger share of a seat
    value_ridge: float = 0.0  # ridge that protects ordinary text from values (`seating.soften`)
    # Addresses, in place of a shared LoRA: neurons of the MLP below the memory, one for each
    # opening word, and the rank of all their gates; 0: a rank for each word.
    address_neurons: tuple[int, ...] = ()
    gate_rank: int = 0
    # Of a base's own keys and values: the base's chat template around turns (`TurnTexts`), the
    # system text, and the text behind each part.
    turns: tuple[str, ...] = ()
    instruction: str = ""
    part_end: str = ""

    def __post_init__(self) -> None:
        optional = {field.name for field in fields(self) if field.default is not MISSING}
        zero = {"version", "end_token", "first_layer", "min_chunk_tokens", *optional}
        for field in fields(self):
            value = getattr(self, field.name)
            low = 0 if field.name in zero else 1
            if field.type is int and value < low:
                raise CheckpointError(f"{field.name} is {value}, expected {low} or more")
            number = to_float(value) if field.type is float else 1.0
            if not (math.isfinite(number) and (number > 0 or (number == 0 and field.name in zero))):
                least = "of at least 0" if field.name in zero else "above 0"
                raise CheckpointError(f"{field.name} is {show(value)}, expected a number {least}")
            empty = field.name in ("adapted_layers", "address_neurons", "features") or (
                field.name == "opening_words" and self.max_seats == self.min_seats
            )
            if field.type == tuple[int, ...] and (min(value, default=-1 + empty) < 0):
                raise CheckpointError(f"{field.name} is empty or holds a negative number")
        rules = {
            'network is "seats" or "own"': self.network in KINDS,
            "a network with weights has sizes, and features": self.is_own or self._has_sizes(),
            "a network without weights has the seven texts around turns, others none": len(
                self.turns
            )
            == 7 * self.is_own,
            "version is 0 or 1": self.version in (0, 1),
            "tokens_per_seat is at least 1": self.tokens_per_seat >= 1,
            f"reads is one of {', '.join(READS)}": self.reads in READS,
            f"max_seats is at most {MOST_SEATS:,}": self.max_seats <= MOST_SEATS,
            "shared_rank is at most min_seats": self.shared_rank <= self.min_seats,
            "dense_seats is at most max_seats": self.dense_seats <= self.max_seats,
            "a shared LoRA has intermediate above 0": self.intermediate > 0 or not self.shared_rank,
            "first_layer and features are layers": max((self.first_layer, *self.features))
            < self.layers,
            "adapted_layers rise from first_layer": self._names_layers(),
            "a shared LoRA lies in all layers from first_layer on": not self.adapted_layers
            or not self.shared_rank,
            **self._address_rules(),
            "width is a multiple of encoder_heads": self.width % max(self.encoder_heads, 1) == 0,
            "opening_head has min_seats + 1 tokens": len(self.opening_head) == self.min_seats + 1,
            "opening_words has max_seats - min_seats tokens": len(self.opening_words)
            == self.max_seats - self.min_seats,
        }
        for rule, holds in rules.items():
            if not holds:
                raise CheckpointError(f"the configuration breaks a rule: {rule}")

    @property
    def kind(self) -> str:
        """Network kind, as in `HypernetConfig`."""
        return self.network

    @property
    def is_own(self) -> bool:
        """True if a memory is the base's own keys and values."""
        return self.network == OWN

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Short names of adapted modules: k_proj and v_proj for seats, the MLP's for the rest."""
        if self.address_neurons:
            return ("down_proj", "gate_proj", "k_proj", "v_proj")
        return ("down_proj", "k_proj", "v_proj") if self.shared_rank else ("k_proj", "v_proj")

    @property
    def n_base_layers(self) -> int:
        """Number of decoder layers of the base."""
        return self.layers

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

    def _names_layers(self) -> bool:
        """True if `adapted_layers` are empty, or layers of the base in order."""
        named = self.adapted_layers
        return not named or (
            named[0] == self.first_layer
            and named[-1] < self.layers
            and all(lower < upper for lower, upper in pairwise(named))
        )

    @property
    def memory_layers(self) -> tuple[int, ...]:
        """The base's layers with memory, from below."""
        return self.adapted_layers or tuple(range(self.first_layer, self.layers))

    @property
    def n_adapted_layers(self) -> int:
        """Number of layers with memory."""
        return len(self.memory_layers)

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

    @property
    def values_a_rank(self) -> int:
        """Numbers in an adapter for each rank that all modules have."""
        return sum(self._count_a_rank().values())

    def _count_a_rank(self) -> dict[str, int]:
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

    def find_rank(self, n_seats: int) -> int:
        """Find the highest of `find_ranks`, for which servers reserve memory."""
        return max(self.find_ranks(n_seats).values())

    def count_values(self, n_seats: int) -> int:
        """Count the numbers in an adapter with so many seats."""
        sizes = self._count_a_rank()
        return sum(rank * sizes[name] for name, rank in self.find_ranks(n_seats).items())

    def count_part_bytes(self, rank: int) -> int:
        """Size of a part with so many seats."""
        n_channels = len(self.reading.key_value_layers) * self.kv_heads * self.head_dim
        return count_bytes(n_channels, rank, self.part_bits)

    @property
    def part_bits(self) -> int:
        """Bits of a number in a part: four for a base's own keys and values."""
        return 4 if self.is_own else 8

    @property
    def bias_rank(self) -> int:
        """Rank of the shared LoRA: 0, since it is in other modules than the seats."""
        return 0

    @property
    def held_tokens(self) -> int:
        """Longest document with some recall; if unknown, the length that fills all seats."""
        return self.document_tokens or int(self.max_seats * self.tokens_per_seat)

    @property
    def held_density(self) -> float:
        """Most tokens a seat with some recall."""
        return max(float(self.tokens_per_seat), self.held_tokens / self.max_seats)

    @property
    def reading(self) -> Reading:
        """Hidden states, and keys and values of the layers of a memory, without the read opening:
        of all adapted layers, or for a network without weights of all layers."""
        layers = tuple(range(self.layers)) if self.is_own else self.memory_layers
        return Reading(self.layers, self.features, layers, len(self.read_opening))

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "SeatsConfig":
        """Check names and types of JSON values, and make the configuration."""
        return cls(**read_typed(cls, values, kind="seats"))

    def opening(self, n_seats: int) -> tuple[int, ...]:
        """Token ids that every prompt begins with: the sink, then one token for each seat."""
        if not self.min_seats <= n_seats <= self.max_seats:
            raise MergeError(
                f"{n_seats} seats, but openings have {self.min_seats} to {self.max_seats}",
                hint="compile the documents together instead, or merge with average",
            )
        return self.opening_head + self.opening_words[: n_seats - self.min_seats]


def read_config(path: Path) -> SeatsConfig:
    """Read config.json of a seats checkpoint."""
    values = read_json(path)
    with naming(path):
        return SeatsConfig.from_json(values)
