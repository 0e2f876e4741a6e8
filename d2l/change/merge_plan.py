"""Plan of a merge, made before any weights are read.

Adapters and a network's configuration in, numbers and warnings out. Needs no torch for folders, so
conflicts and losses are reported at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from d2l.change.kinds import AnyParent, read_parent, sort_parents
from d2l.change.parents import Parent
from d2l.errors import AdapterError, MergeError, OptionError
from d2l.hypernets.kv.config import read_seated
from d2l.hypernets.registry import find_on_disk, name_known
from d2l.hypernets.seats.seated_config import SeatedConfig
from d2l.hypernets.seats.sharing import (
    SeatShare,
    find_forgotten,
    level_seats,
    name_forgotten,
    split_seats,
)

if TYPE_CHECKING:
    from d2l.adapters.peft_folder import AdapterContent

#: Keys of `merge_methods.METHODS`, which needs torch; a test compares them.
METHODS = ("concat", "average")


@dataclass(frozen=True)
class MergePlan:
    """Plan of a merge.

    `shares` multiply the deltas, in order; `rank`: the new adapter's. `before` and `after`: seats
    of each adapter, 0 without seats; `heads`: key-value heads of the base, if there are seats.
    `checkpoint`: the network that the user named, if any.
    """

    parents: tuple[AnyParent, ...]
    shares: tuple[float, ...]
    method: str
    max_rank: int | None
    rank: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    heads: int = 0
    warnings: tuple[str, ...] = ()
    checkpoint: str | None = None


def prepare(
    adapters: "Sequence[AdapterContent | Path]",
    *,
    shares: Sequence[float] | None = None,
    method: str = "concat",
    max_rank: int | None = None,
    checkpoint: str | None = None,
    offline: bool = False,
) -> MergePlan:
    """Plan the merging of adapters of one base, in memory or in folders; raises D2LError.

    "concat": the delta is Σ share · delta, "average": the same with shares that sum to 1. Exact in
    fp32; `max_rank` cuts the sum to the nearest delta of that rank.

    While all seats fit into one opening, each adapter keeps its own. Otherwise they get fewer, as
    documents that are compiled together: in proportion, or, if that would leave more tokens a seat
    than the network remembers, so that small adapters keep theirs.
    """
    if not adapters:
        raise MergeError("there is nothing to merge", hint="name at least one adapter")
    if method not in METHODS:
        raise MergeError(f"cannot merge by {method!r}", hint=f"choose from {', '.join(METHODS)}")
    if max_rank is not None and max_rank < 1:
        raise OptionError(f"the rank is bounded by {max_rank}, expected 1 or more")
    parents = tuple(map(read_parent, adapters))
    checked = _check_shares(parents, shares, method)
    before = tuple(parent.count_seats() for parent in parents)
    after, heads, warnings = before, 0, list[str]()
    seated, rest = sort_parents(parents)
    rank = sum(parent.rank for parent in rest)
    if seated:
        _refuse_different(seated)
        config = _read_config(seated[0], checkpoint, offline)
        heads = config.kv_heads
        if sum(before) > config.max_seats:
            # In proportion, or level if the network would remember too little of small adapters.
            n_tokens = sum(_count_tokens(parent, config) for parent in parents)
            dense = not 0 < n_tokens <= config.held_density * config.max_seats
            after = tuple((level_seats if dense else split_seats)(before, config.max_seats))
        n_seats = max(sum(after), config.min_seats)  # of the shortest opening
        rank += n_seats if rest else config.find_rank(n_seats)
        if after != before:
            warnings += _warn_of_fewer(parents, before, after, config)
        if max_rank is not None and max_rank < rank:
            raise MergeError(
                f"seats need rank {n_seats} and cannot be cut to {max_rank}",
                hint="compile the documents together with --max-rank, which shares the seats out",
            )
    rank = rank if max_rank is None else min(rank, max_rank)
    warnings += _warn(parents)
    return MergePlan(
        parents, tuple(checked), method, max_rank, rank, before, after, heads, tuple(warnings),
        checkpoint,
    )  # fmt: skip


def _read_config(parent: Parent, checkpoint: str | None, offline: bool) -> SeatedConfig:
    """Read the configuration of the network that made a seats adapter."""
    provenance = parent.provenance
    assert provenance is not None  # it has seats
    made_by = provenance.checkpoint
    name = checkpoint or name_known(made_by.name, made_by.sha256)
    path = find_on_disk(name)
    if path is None:  # imports torch
        from d2l.hypernets.networks import find_checkpoint

        path = find_checkpoint(name, base=provenance.base.name, offline=offline).path
    return read_seated(path / "config.json")


def _check_shares(
    parents: Sequence[Parent], shares: Sequence[float] | None, method: str
) -> list[float]:
    given = list(shares) if shares is not None else [1.0] * len(parents)
    if len(given) != len(parents):
        raise MergeError(
            f"{len(parents)} adapters and {len(given)} weights",
            hint="give one --weight for each adapter, in their order",
        )
    if any(not math.isfinite(share) for share in given):
        raise MergeError("a weight is not a finite number")
    if method == "average":
        total = sum(given)
        if total == 0:
            raise MergeError("weights that sum to 0 have no average")
        return [share / total for share in given]
    return given


def _refuse_different(parents: Sequence[Parent]) -> None:
    """Refuse seats that cannot be in one opening, whatever their number."""
    first = parents[0]
    for parent in parents:
        assert parent.checkpoint is not None  # it has seats, which d2l.json says
        assert first.checkpoint is not None
        if parent.checkpoint.sha256 != first.checkpoint.sha256:
            raise AdapterError(
                f"{parent.name} was compiled by another network than {first.name}, so their seats "
                "cannot be in one opening",
                hint="compile the documents again, with one checkpoint",
            )
    if len(parents) > 1 and any(parent.options.merge == "average" for parent in parents):
        raise MergeError(
            "seats that were averaged are shared by all of a document and cannot be joined",
            hint="compile with --merge concat",
        )
    strengths = {float(parent.options.bias_scale) for parent in parents}
    if len(strengths) > 1:
        raise MergeError(
            f"the learned part has different strengths in them: {sorted(strengths)}",
            hint="compile the documents again, with the same --bias-scale",
        )


def _count_tokens(parent: Parent, config: SeatedConfig) -> int:
    """Count the tokens of the documents in an adapter; 0 if it does not record them."""
    return sum(max(chunk.n_tokens - len(config.read_opening), 0) for chunk in parent.chunks)


def _warn_of_fewer(
    parents: Sequence[Parent], before: Sequence[int], after: Sequence[int], config: SeatedConfig
) -> list[str]:
    if all(map(_has_parts, parents)):
        return [
            "questions choose among the parts of all adapters; the one memory that other engines "
            f"load holds {sum(after):,} of their {sum(before):,} seats, so it recalls less"
        ]
    names = [PurePath(parent.name).name for parent in parents]
    rows = list(zip(parents, names, before, after, strict=True))
    fewer = [f"{name} with {left:,} of {had:,}" for _, name, had, left in rows if left < had]
    warnings = [
        f"the adapters have {sum(before):,} seats together, and an opening has at most "
        f"{config.max_seats:,}: they are seated with fewer ({', '.join(fewer)}), and less comes "
        "back than of each alone"
    ]
    shares = [
        SeatShare(name, _count_tokens(parent, config), left)
        for parent, name, had, left in rows
        if left < had
    ]
    if forgotten := find_forgotten(shares, config):
        warnings.append(name_forgotten(forgotten, config, alone="a turn alone, unmerged"))
    return warnings


def _has_parts(parent: Parent) -> bool:
    """True if d2l.json records parts; a merged adapter keeps them if all its parents have some."""
    return parent.provenance is not None and parent.provenance.parts_sha256 is not None


def _warn(parents: Sequence[AnyParent]) -> list[str]:
    warnings = []
    seated, rest = sort_parents(parents)
    if seated and rest:
        warnings.append(
            "seats were made for the base as it is, and the other adapters change what it "
            "computes: what comes back of the documents is not known; measure it with d2l probe"
        )
    without = [PurePath(parent.name).name for parent in parents if not _has_parts(parent)]
    if 0 < len(without) < len(parents):
        bare = ", ".join(without)
        warnings.append(
            f"{bare}: has no parts, so the merged adapter has none either, and questions choose no "
            "page; compile it again with --parts"
        )
    learned = [p.provenance.bias_ranks for p in parents if p.provenance is not None]
    biased = [span for span in learned if span is not None and span[0] < span[1]]
    if len(biased) > 1 and not seated:
        warnings.append(
            f"{len(biased)} of the adapters hold their network's learned, document-independent "
            "part, which the sum now holds as often; compiling the documents together holds it once"
        )
    return warnings
