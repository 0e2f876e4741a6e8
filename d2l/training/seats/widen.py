"""A seat network's checkpoint → one with more seats: its opening gets more words.

The network's weights do not depend on how many seats there may be, so they are copied; training
must follow, for the network has never seen so many seats. Which words: see `opening_words`.
"""

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from d2l.adapters.weights import Memory
from d2l.bases.activations import ActivationEncoder
from d2l.bases.models import load_frozen
from d2l.bases.tokenizers import BaseTokenizer
from d2l.datasets.questions import Document, read_documents
from d2l.documents.chunks import pack_sentences
from d2l.errors import CheckpointError
from d2l.files.atomic import building
from d2l.hypernets.checkpoints import refuse_checkpoint
from d2l.hypernets.fit import SEATS, OpenNetwork, open_network
from d2l.hypernets.seats.calibration import combine_memories
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import Seats, load_seats
from d2l.learners.seats.opening_words import (
    Trials,
    choose_words,
    list_candidates,
    rank_words,
    read_known_words,
)

_COPIED = ("model.safetensors", "statistics.safetensors")
_KEPT_MEMORIES = 24  # words are tried behind random ones of them, side by side


@dataclass(frozen=True)
class WidenOptions:
    """Which checkpoint, how many seats its opening shall have, and texts to make memories of."""

    checkpoint: str
    n_seats: int
    data: Path
    base: str | None = None
    offline: bool = False


def widen(
    options: WidenOptions, target: Path, *, trials: Trials, force: bool = False
) -> SeatsConfig:
    """Write the checkpoint with more opening words at `target`; raises D2LError.

    On two CPU cores: three minutes for 120 more seats of SmolLM2-135M.
    """
    network = open_network(
        options.checkpoint, kinds=SEATS, base=options.base, offline=options.offline
    )
    source, config = network.files.path, network.config
    if options.n_seats <= config.max_seats:
        raise CheckpointError(
            f"{options.n_seats} seats, and the network has {config.max_seats} already",
            hint="ask for more",
        )
    if options.n_seats >= config.hidden:
        raise CheckpointError(
            f"{options.n_seats} seats, but a base {config.hidden} wide cannot tell so many apart"
        )
    if config.address_neurons:
        raise CheckpointError(
            "the network's seats have addresses, and more seats would have none",
            hint="widen the network that the addresses were given to",
        )
    refuse = partial(refuse_checkpoint, target, force=force)
    refuse()
    words = _find_words(options, network, trials)
    widened = replace(
        config,
        max_seats=options.n_seats,
        opening_words=(*config.opening_words, *words),
        opening_words_text=config.opening_words_text + "".join(words.values()),
    )
    with building(target, refuse) as folder:
        for name in _COPIED:
            shutil.copyfile(source / name, folder / name)
        text = json.dumps(asdict(widened), indent=1) + "\n"
        (folder / "config.json").write_text(text, "utf-8")
    return widened


def _find_words(
    options: WidenOptions, network: OpenNetwork[SeatsConfig], trials: Trials
) -> dict[int, str]:
    """The words to add, and the text of each."""
    documents = read_documents(options.data)
    config, base, tokenizer = network.config, network.base, network.tokenizer
    model = load_frozen(base, device="cpu", dtype=torch.float32, n_layers=config.layers)
    seats = load_seats(network.files.path, model)
    memories = _Memories(seats, documents, tokenizer, random.Random(trials.seed))
    pieces = [tokenizer.decode([number]) for number in range(base.config.vocab_size)]
    n_new = options.n_seats - config.max_seats
    ranked = rank_words(
        seats,
        list_candidates(pieces, known=read_known_words()),
        n_new,
        make_memory=memories.draw,
        trials=trials,
    )
    words = choose_words(seats, ranked, n_new, pieces=pieces, tokenizer=tokenizer)
    return {word: pieces[word] for word in words}


class _Memories:
    """Memories of documents, written once, and put together anew at every draw."""

    def __init__(
        self,
        seats: Seats,
        documents: Sequence[Document],
        tokenizer: BaseTokenizer,
        chance: random.Random,
    ) -> None:
        config = seats.config
        read = ActivationEncoder(seats.base_model, config.reading)
        self._chance = chance
        self._kept: list[Memory] = []
        for document in chance.sample(documents, min(_KEPT_MEMORIES, len(documents))):
            piece = pack_sentences(
                document.text,
                tokenizer=tokenizer,
                limit=config.chunk_tokens,
                minimum=config.min_chunk_tokens,
            )[0]
            read_ids = [*config.read_opening, *piece.token_ids]
            n_seats = max(int(len(piece.token_ids) / config.tokens_per_seat), 1)
            self._kept.append(seats.generate(read(read_ids), n_seats))

    def draw(self, n_seats: int) -> Memory:
        """As many as are needed, by chance, cut off after `n_seats`."""
        return combine_memories(self._kept, n_seats, self._chance)
