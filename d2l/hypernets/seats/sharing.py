"""Seats shared out among chunks, documents and adapters, and the warning about too few of them.

Numbers of tokens and a seat network's configuration in, numbers of seats out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

from d2l.errors import OptionError
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.seats.seated_config import SeatedConfig

Config = TypeVar("Config", bound=SeatedConfig)
#: Most names in a warning; the rest is counted.
_MOST_NAMED = 5


def count_seats(n_tokens: int, *, config: SeatedConfig, max_seats: int | None = None) -> int:
    """Count the seats for a text of `n_tokens`; `max_seats` may only lower the network's own."""
    most = config.max_seats if max_seats is None else min(max_seats, config.max_seats)
    if most < config.min_seats:
        raise OptionError(
            f"at most {most} seats were asked for, and the shortest opening has {config.min_seats}",
            hint=f"allow a rank of {config.min_seats} or more",
        )
    sparse, dense = math.ceil(n_tokens / config.tokens_per_seat), min(n_tokens, config.dense_seats)
    return min(max(sparse, dense, config.min_seats), most)


def set_density(config: Config, tokens_per_seat: float) -> Config:
    """Set the tokens a seat, whatever the document's length; raises OptionError."""
    if not 1 <= tokens_per_seat < math.inf:  # so NaN is none
        raise OptionError(
            f"{tokens_per_seat:g} tokens per seat, expected a number of 1 or more",
            hint="1 is a seat for every token",
        )
    return replace(config, tokens_per_seat=tokens_per_seat, dense_seats=0)


def split_seats(sizes: Sequence[int], n_seats: int) -> list[int]:
    """Share seats by size, in order: part j ends at round(e · N / T), e its cumulative size."""
    total = sum(sizes)
    ends, read = [0], 0
    for size in sizes:
        read += size
        ends.append(round(read * n_seats / total))
    return [end - start for start, end in pairwise(ends)]


def split_stable(sizes: Sequence[int], n_seats: int) -> list[int]:
    """Share seats by each part's own size: a changed part moves few seats of the others.

    Every part gets its share rounded down; the rest goes to the largest remainders.
    """
    total = sum(sizes)
    shares = [divmod(size * n_seats, total) for size in sizes]
    seats = [whole for whole, _ in shares]
    by_rest = sorted(range(len(shares)), key=lambda index: (-shares[index][1], index))
    for index in by_rest[: n_seats - sum(seats)]:
        seats[index] += 1
    return seats


def level_seats(wanted: Sequence[int], n_seats: int) -> list[int]:
    """Share too few seats: small wishes are granted, and the rest is divided evenly among the
    larger wishes; the largest gets the remainder."""
    granted = [0] * len(wanted)
    hungry = sorted(range(len(wanted)), key=lambda place: wanted[place])
    while hungry:
        place = hungry.pop(0)
        granted[place] = min(wanted[place], n_seats // (len(hungry) + 1))
        n_seats -= granted[place]
    return granted


def centers(n_seats: int, n_tokens: int) -> list[float]:
    """Positions of a chunk's seats in tokens: each in the middle of its equal share."""
    width = n_tokens / n_seats
    return [(i + 0.5) * width - 0.5 for i in range(n_seats)]


def fill_in_order(sizes: Sequence[int], n_seats: int) -> list[int]:
    """Give each token of the first parts a seat, until all seats are taken."""
    filled = []
    for size in sizes:
        filled.append(min(size, n_seats))
        n_seats -= filled[-1]
    return filled


def share_seats(
    lengths: Sequence[Sequence[int]],
    config: SeatedConfig,
    options: CompileOptions,
    *,
    keeps_parts: bool = False,
) -> list[list[int]]:
    """Share seats among the chunks of all documents. If chunks keep parts, and there are too few
    seats, a document's beginning gets them: spread over a manual, they would give no recall."""
    held = config.held_density
    if options.tokens_per_seat is not None:
        config = set_density(config, options.tokens_per_seat)
    flat = [length for document in lengths for length in document]
    if options.merge == "average":
        each = count_seats(max(flat), config=config, max_seats=options.max_rank)
        return [[each] * len(document) for document in lengths]
    most = min(options.max_rank or config.max_seats, config.max_seats)
    spread = split_stable if options.chunking == "stable" else split_seats

    def split(document: Sequence[int], n_seats: int) -> list[int]:
        too_long = keeps_parts and sum(document) > held * n_seats
        return (fill_in_order if too_long else spread)(document, n_seats)

    alone = [
        split(document, count_seats(sum(document), config=config, max_seats=most))
        for document in lengths
    ]
    if sum(map(sum, alone)) <= most:
        return alone
    count_seats(sum(flat), config=config, max_seats=most)  # refuses what no opening is short for
    if sum(flat) <= held * most and not keeps_parts:
        together = iter(split(flat, most))
        return [[next(together) for _ in document] for document in lengths]
    granted = level_seats([sum(document) for document in alone], most)
    return [split(sizes, n_seats) for sizes, n_seats in zip(lengths, granted, strict=True)]


@dataclass(frozen=True)
class SeatShare:
    """Seats of one document or adapter among others."""

    name: str
    n_tokens: int
    n_seats: int


def find_forgotten(shares: Sequence[SeatShare], config: SeatedConfig) -> list[SeatShare]:
    """Find shares without a seat, or with more tokens a seat than the network remembers.

    Beyond `held_density` there was no training, or hardly any recall. One seat is spared for
    rounding.
    """
    return [
        share
        for share in shares
        if share.n_tokens
        and (not share.n_seats or share.n_tokens > config.held_density * (share.n_seats + 1))
    ]


def name_forgotten(forgotten: Sequence[SeatShare], config: SeatedConfig, *, alone: str) -> str:
    """Write the warning: names, reason and remedies; `alone` is the remedy for a short document."""
    shown = [
        f"{one.name} ({one.n_tokens:,} tokens in {one.n_seats:,} seats)"
        for one in forgotten[:_MOST_NAMED]
    ]
    n_more = len(forgotten) - len(shown)
    more = f" and {n_more:,} more" if n_more else ""
    n_long = sum(one.n_tokens > config.held_tokens for one in forgotten)
    remedies = []
    if n_long < len(forgotten):
        remedies.append(f"give each {alone}")
    if n_long:
        remedies.append("compile only the pages that matter of the long ones")
    return (
        f"little will be remembered of {', '.join(shown)}{more}: this network remembers about "
        f"{config.held_density:.0f} tokens a seat, and all share {config.max_seats:,} seats "
        f"({', and '.join(remedies)})"
    )
