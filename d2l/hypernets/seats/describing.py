"""A task description as a vector, for how alike it is to those that a network was trained on.

Token ids of a description in, one vector out: what the base that reads for the network makes of it.
"""

from collections.abc import Sequence

from torch import Tensor

from d2l.bases.activations import ActivationEncoder
from d2l.bases.embedders import scale_embedding
from d2l.hypernets.seats.config import SeatsConfig


def embed(encode: ActivationEncoder, config: SeatsConfig, token_ids: Sequence[int]) -> Tensor:
    """(hidden,) float32 on the CPU, of length √hidden; `token_ids` are those of a chunk, with the
    words that the network reads before it.

    The description stands as a user's question, and the state is that of the last token before the
    answer: it says what the base is about to do. Raises BaseModelError where it is not finite.
    """
    states = encode([*token_ids, *config.before_answer]).hidden
    return scale_embedding(states[_pick_state(config), -1], config.base)


def _pick_state(config: SeatsConfig) -> int:
    """Which of the states that the network reads: the last but one, if a layer wrote it.

    Of the fifth, tenth, fifteenth, twentieth and last layer of the default's base, the fifteenth
    told descriptions from other texts best; it reads all of these but the last.
    """
    written = [place for place, layer in enumerate(config.features) if layer > 0]
    return written[-2] if len(written) > 1 else len(config.features) - 1
