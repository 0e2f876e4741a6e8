"""A task description as a vector, for how alike it is to those that a network was trained on.

What the base makes of a description as the network reads it in, one vector out.
"""

from torch import Tensor

from d2l.bases.activations import Activations
from d2l.bases.embedders import scale_embedding
from d2l.hypernets.seats.config import SeatsConfig


def embed(read: Activations, config: SeatsConfig) -> Tensor:
    """(hidden,) float32 on the CPU, of length √hidden: the mean of one layer's states over the
    tokens of a description's first chunk, which the network reads anyway. Raises BaseModelError
    where it is not finite.
    """
    states = read.hidden[_pick_state(config)]  # (tokens, hidden)
    return scale_embedding(states.float().mean(dim=0), config.base)


def _pick_state(config: SeatsConfig) -> int:
    """Which of the states that the network reads: the last but one, if a layer wrote it.

    Of the fifth, tenth, fifteenth, twentieth and last layer of the default's base, the fifteenth
    told descriptions from other texts best; it reads all of these but the last.
    """
    written = [place for place, layer in enumerate(config.features) if layer > 0]
    return written[-2] if len(written) > 1 else len(config.features) - 1
