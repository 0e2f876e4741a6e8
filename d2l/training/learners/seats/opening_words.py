"""Opening words of a seat network: each adds a seat.

A network on its base, the base's vocabulary and memories in; token ids out. Each word is a token of
its own, and its seat should respond to ordinary text as little as possible. The response follows
from the second moments C of that text: the mean square of seat i is diag((H C⁻¹ Hᵀ + εI)⁻¹)_i,
since A C Aᵀ is that matrix (`seating` on A and H). It depends on the other seats, so words are
tried in groups, behind the words that are already chosen.
"""

import math
import random
import re
from collections.abc import Callable, Container, Mapping, Sequence

import torch
from torch import Tensor

from d2l.adapters.weights import Memory
from d2l.bases.models import batched
from d2l.datasets.prompts import read_prompts
from d2l.documents.chunks import Tokenizer
from d2l.errors import CheckpointError
from d2l.hypernets.seats.calibration import read_plain_text
from d2l.hypernets.seats.network import Seats
from d2l.hypernets.seats.seating import record_inputs, whiten

#: A memory with so many seats, another one at each call.
MakeMemory = Callable[[int], Memory]
_WORD = re.compile("[a-z]+")
_LETTERS = (3, 10)  # of a word: shorter words are common, longer ones exclude others
_COMMON = 1 / 8  # ids of byte-pair vocabularies go by frequency: the first words are too common
_AGAIN, _BEST = 5, 3_000  # all words are tried once, the best 3,000 five times more
_ALIKE = 5  # letters that no two words of an opening begin with together


def read_known_words() -> set[str]:
    """List the words, in small letters, of the shipped texts for calibration and training."""
    texts = [*read_plain_text(), *read_prompts()]
    return {word for text in texts for word in _WORD.findall(text.lower())}


def list_candidates(pieces: Sequence[str], *, known: Container[str]) -> list[int]:
    """List the ids of words in a vocabulary (the text of each id): a space and a few small letters
    that spell one of the `known` words. A vocabulary of the web holds words that do not belong
    into a system text."""
    return [
        number
        for number, piece in enumerate(pieces)
        if number >= _COMMON * len(pieces)
        and piece.startswith(" ")
        and _LETTERS[0] <= len(piece) - 1 <= _LETTERS[1]
        and piece[1:] in known
    ]


def rank_words(
    seats: Seats,
    candidates: Sequence[int],
    n_new: int,
    *,
    make_memory: MakeMemory,
    seed: int,
    watch: Callable[[int, int], object],
) -> list[int]:
    """Rank candidates behind the network's opening: the least response to ordinary text first.

    `n_new` are tried at a time, in groups that the `seed` makes; `watch` gets the number of
    finished groups, and of all. A word's figure is the logarithm of its response, averaged over
    layers, minus the mean of its group, whose memory it shares.
    """
    chance = random.Random(seed)
    figures: dict[int, list[float]] = {}
    order, n_done = list(dict.fromkeys(candidates)), 0
    n_groups = math.ceil(len(order) / n_new)
    n_groups += _AGAIN * math.ceil(min(len(order), _BEST) / n_new)
    for turn in range(1 + _AGAIN):
        if turn == 1:
            order = _sort(figures)[:_BEST]
        chance.shuffle(order)
        for group in batched(order, n_new):
            words = (*seats.config.opening_words, *group)
            opening = (*seats.config.opening_head, *words)
            answers = measure_answers(seats, opening, make_memory(len(opening) - 1))
            own = answers[:, -len(group) :].log().mean(dim=0)  # (words,)
            for word, figure in zip(group, (own - own.mean()).tolist(), strict=True):
                figures.setdefault(word, []).append(figure)
            n_done += 1
            watch(n_done, n_groups)
    tried = set(order)
    return _sort({word: own for word, own in figures.items() if word in tried})


def measure_answers(seats: Seats, opening: Sequence[int], memory: Memory) -> Tensor:
    """Measure the mean squared response of each seat to ordinary text: float64 (layers, seats)."""
    config, statistics = seats.config, seats.statistics
    inputs = record_inputs(
        memory,
        seats.base_model,
        opening=opening,
        layers=config.memory_layers,
        shared=seats.network.shared,
    )  # (layers, tokens, d_in)
    _, factor = whiten(inputs, statistics.cholesky, epsilon=config.solve_epsilon)
    inverse = torch.cholesky_inverse(factor)
    return inverse.diagonal(dim1=1, dim2=2)[:, 1:]  # without the sink


def choose_words(
    seats: Seats, ranked: Sequence[int], n_new: int, *, pieces: Sequence[str], tokenizer: Tokenizer
) -> tuple[int, ...]:
    """Choose the first `n_new` words of a ranking that begin differently from all before them and
    stay one token each in the text of the opening; raises CheckpointError if there are too few."""
    words = list(seats.config.opening_words)
    text = "".join(pieces[word] for word in words)
    wanted = len(words) + n_new
    begun = {_begin(pieces[word]) for word in words}
    for word in ranked:
        if len(words) == wanted:
            break
        if _begin(pieces[word]) in begun:
            continue
        if tokenizer.encode(text + pieces[word]) == [*words, word]:
            words.append(word)
            text += pieces[word]
            begun.add(_begin(pieces[word]))
    if len(words) < wanted:
        raise CheckpointError(
            f"only {len(words) - wanted + n_new} words of the base's vocabulary can lengthen the "
            f"opening, and {n_new} are wanted",
            hint="ask for fewer seats",
        )
    return tuple(words[wanted - n_new :])


def _begin(piece: str) -> str:
    return piece.strip().lower()[:_ALIKE]


def _sort(figures: Mapping[int, Sequence[float]]) -> list[int]:
    return sorted(figures, key=lambda word: math.fsum(figures[word]) / len(figures[word]))
