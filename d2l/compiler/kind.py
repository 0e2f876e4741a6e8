"""What the compiler must know of a kind of network that reads documents.

`seats` and `doc_to_lora` say it, `kinds` lists them; plan, pipeline, provenance and card ask.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from d2l.adapters.provenance import Prompt
from d2l.bases.models import BaseFiles
from d2l.bases.tokenizers import BaseTokenizer
from d2l.compiler.options import CompileOptions
from d2l.documents.chunks import Chunk
from d2l.documents.document import Document
from d2l.errors import BaseModelError
from d2l.hypernets.fit import Config, Kind, OpenNetwork
from d2l.hypernets.protocol import HypernetConfig


@dataclass(frozen=True)
class Reader:
    """The model that reads documents, nearly always the base itself, and its tokenizer."""

    files: BaseFiles
    tokenizer: BaseTokenizer


Cut = Callable[[Sequence[Document], OpenNetwork[Config], Reader, CompileOptions], list[Chunk]]
CountRanks = Callable[[Config, Sequence[Chunk], CompileOptions], tuple[int, int]]


def _same(config: object, rank: int) -> int:
    del config
    return rank


def _count_alike(config: HypernetConfig, rank: int) -> int:
    return rank * config.values_a_rank


@dataclass(frozen=True)
class CompileKind(Kind[Config]):
    """How networks of one configuration compile documents.

    `find_reader` finds the model that reads, and refuses one that does not fit; `cut` makes the
    chunks; `count_ranks` gives the adapter's rank before and after --max-rank; `warn` says what
    the user should know of the chunks.

    `imposes_on_base`: the network writes what the base itself turns into weights, so it is loaded
    with the base, and the base stays fp32. `averages_share`: averaged chunks have all ranks in
    common. `rank_unit` stands behind a rank in the plan; `file_rank` is what the weights have then,
    at most, and `count_values` how many numbers they are.

    `prompt` is what the adapter answers to, for its provenance. The rest is for its folder: text
    files that make the prompt, whether they hold a tokenizer, and two parts of the card.
    """

    find_reader: Callable[[OpenNetwork[Config]], BaseFiles]
    cut: Cut[Config]
    count_ranks: CountRanks[Config]
    warn: Callable[[Config, Sequence[Chunk]], list[str]]
    prompt: Callable[[Config, int], Prompt]
    texts: Callable[[Config, int, BaseFiles], dict[str, str]]
    card_prompt: Callable[[int], str]
    card_limits: Callable[[Config], str]
    imposes_on_base: bool = False
    averages_share: bool = False
    own_tokenizer: bool = False
    rank_unit: str = ""
    file_rank: Callable[[Config, int], int] = _same
    count_values: Callable[[Config, int], int] = _count_alike


def refuse_shallow(network: OpenNetwork[Config], reader: BaseFiles, name: str) -> None:
    """Raise BaseModelError where a model, called `name` by the checkpoint, has fewer layers than
    the network reads."""
    n_layers, needed = int(reader.config.num_hidden_layers), network.config.reading.n_layers
    if n_layers < needed:
        raise BaseModelError(
            f"{reader.folder}: has {n_layers} layers, the checkpoint reads {needed}",
            hint=f"the checkpoint reads documents with {name}",
        )
