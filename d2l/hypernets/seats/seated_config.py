"""The configuration of seats on a base: sizes, token ids and layers, without any weights."""

import math
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise

from d2l.adapters.provenance import MOST_SEATS
from d2l.adapters.rounding import count_bytes
from d2l.bases.families import Reading
from d2l.bases.turns import TurnTexts
from d2l.errors import CheckpointError, MergeError
from d2l.hypernets.formats.fields import show, to_float

_BETWEEN = 4  # tokens that may divide a part's text from a question
#: Values of `reads`.
READS = ("documents", "descriptions", "both")


@dataclass(frozen=True)
class SeatedConfig:
    """Sizes and constants of memories that are seated on a base; the fields are the keys of
    config.json. Keys with a default may be missing; files of version 0 have none of them."""

    network: str  # the kind
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
    document_tokens: int = 0  # longest document with some recall; 0: all seats filled
    dense_seats: int = 0  # a short document gets a seat for each token, up to this number
    base_digest: str = ""  # SHA-256 of the base's weights that the second moments belong to
    reads: str = "documents"
    adapted_layers: tuple[int, ...] = ()  # layers with memory; empty: all from `first_layer` on
    value_ridge: float = 0.0  # ridge that protects ordinary text from values (`seating.soften`)

    @property
    def exported_tokens(self) -> int:
        """Most tokens of a chunk that an opening holds, with those between it and a question."""
        return self.max_seats - _BETWEEN

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
        for rule, holds in self.list_rules().items():
            if not holds:
                raise CheckpointError(f"the configuration breaks a rule: {rule}")

    def list_rules(self) -> dict[str, bool]:
        """List the rules on the fields, each with its result."""
        return {
            "version is 0 or 1": self.version in (0, 1),
            "tokens_per_seat is at least 1": self.tokens_per_seat >= 1,
            f"reads is one of {', '.join(READS)}": self.reads in READS,
            f"max_seats is at most {MOST_SEATS:,}": self.max_seats <= MOST_SEATS,
            "dense_seats is at most max_seats": self.dense_seats <= self.max_seats,
            "first_layer is a layer": self.first_layer < self.layers,
            "adapted_layers rise from first_layer": self._names_layers(),
            "opening_head has min_seats + 1 tokens": len(self.opening_head) == self.min_seats + 1,
            "opening_words has max_seats - min_seats tokens": len(self.opening_words)
            == self.max_seats - self.min_seats,
        }

    @property
    def kind(self) -> str:
        """Network kind, as in `HypernetConfig`."""
        return self.network

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Short names of adapted modules."""
        return ("k_proj", "v_proj")

    @property
    def instruction(self) -> str:
        """System text of the prompts; empty without one."""
        return ""

    @property
    def texts(self) -> TurnTexts | None:
        """Texts of the base's chat template around turns; None: ChatML."""
        return None

    @property
    def n_base_layers(self) -> int:
        """Number of decoder layers of the base."""
        return self.layers

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
        size = (self.hidden, self.kv_heads * self.head_dim)
        return dict.fromkeys(self.target_modules, size)

    @property
    def values_a_rank(self) -> int:
        """Numbers in an adapter for each rank that all modules have."""
        return sum(self.count_a_rank().values())

    def count_a_rank(self) -> dict[str, int]:
        """Numbers for a rank of each target module in all its layers."""
        shapes, n_layers = self.module_shapes, self.n_adapted_layers
        return {name: sum(shapes[name]) * n_layers for name in self.target_modules}

    def find_ranks(self, n_seats: int) -> dict[str, int]:
        """Find each target module's rank in an adapter with so many seats: at most the outputs of
        k_proj and v_proj."""
        outputs = min(self.kv_heads * self.head_dim, self.hidden)
        return dict.fromkeys(self.target_modules, min(outputs, n_seats))

    def find_rank(self, n_seats: int) -> int:
        """Find the highest of `find_ranks`, for which servers reserve memory."""
        return max(self.find_ranks(n_seats).values())

    def count_values(self, n_seats: int) -> int:
        """Count the numbers in an adapter with so many seats."""
        sizes = self.count_a_rank()
        return sum(rank * sizes[name] for name, rank in self.find_ranks(n_seats).items())

    def count_part_bytes(self, rank: int) -> int:
        """Size of a part with so many seats."""
        n_channels = len(self.reading.key_value_layers) * self.kv_heads * self.head_dim
        return count_bytes(n_channels, rank, self.part_bits)

    @property
    def part_bits(self) -> int:
        """Bits of a number in a part."""
        return 8

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
        """Keys and values of the layers of a memory, without the read opening."""
        return Reading(self.layers, (), self.memory_layers, len(self.read_opening))

    def opening(self, n_seats: int) -> tuple[int, ...]:
        """Token ids that every prompt begins with: the sink, then one token for each seat."""
        if not self.min_seats <= n_seats <= self.max_seats:
            raise MergeError(
                f"{n_seats} seats, but openings have {self.min_seats} to {self.max_seats}",
                hint="compile the documents together instead, or merge with average",
            )
        return self.opening_head + self.opening_words[: n_seats - self.min_seats]
