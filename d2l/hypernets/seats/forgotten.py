"""Which documents, or adapters, will be forgotten beside others, by their tokens a seat.

Numbers and a seat network's configuration in, sentences out; needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from d2l.hypernets.seats.config import SeatsConfig

#: So many are named; the rest is counted.
_MOST_NAMED = 5


@dataclass(frozen=True)
class Share:
    """What one document, or adapter, has of the seats of all."""

    name: str
    n_tokens: int
    n_seats: int


def find_forgotten(shares: Sequence[Share], config: SeatsConfig) -> list[Share]:
    """Those with more tokens a seat than the network remembers, and those without a seat.

    What it remembers is its length of some recall over all of its seats: tokens a seat beyond that
    were not in training, or hardly anything came back. A share may be rounded by one seat.
    """
    return [
        share
        for share in shares
        if share.n_tokens
        and (not share.n_seats or share.n_tokens > config.held_density * (share.n_seats + 1))
    ]


def name_forgotten(forgotten: Sequence[Share], config: SeatsConfig, *, alone: str) -> str:
    """Say which will be forgotten, why, and what to do; `alone` is what a document that fits should
    be given in place of its share."""
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
