"""Which of the base's activations a hypernetwork reads: numbers alone, decided without torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """What to keep of one pass of the base.

    `hidden_states` are indices into the states that a Hugging Face decoder returns: 0 is the
    embedding output, i the output of layer i - 1, and `n_layers` the last one after the final
    norm. Only the first `n_layers` decoder layers are needed, so no more are loaded.
    """

    n_layers: int
    hidden_states: tuple[int, ...]
    key_value_layers: tuple[int, ...] = ()
    skip_tokens: int = 0  # leading tokens that are read for context but not kept
