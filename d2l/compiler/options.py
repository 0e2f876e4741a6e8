"""What the user may choose of a compilation."""

from dataclasses import dataclass, field, replace
from typing import TypedDict, Unpack

from d2l.adapters.peft_folder import pick_torch_dtype
from d2l.errors import OptionError
from d2l.hypernets.protocol import MergeOptions
from d2l.hypernets.registry import default_checkpoint
from d2l.refining.options import RefineOptions, choose_refining

#: How a text is cut: as the network was trained, or at borders that stay where a change is not.
CHUNKINGS = ("usual", "stable")
MAX_RANK = 10**9  # of what --max-rank takes: PEFT's own floats hold no more


@dataclass(frozen=True)
class CompileOptions:
    """What the user may choose; the defaults are those of the command line. Raises OptionError for
    what no network could do."""

    checkpoint: str = field(default_factory=default_checkpoint)
    base: str | None = None  # where the base lies, if not where the checkpoint's name leads
    device: str = "auto"
    merge: MergeOptions = field(default_factory=MergeOptions)
    max_rank: int | None = None
    chunk_tokens: int | None = None
    tokens_per_seat: int | None = None  # seat networks only; None: the checkpoint's own
    dtype: str = "bf16"  # of the written adapter; a key of peft_folder.DTYPES
    offline: bool = False
    base_dtype: str | None = None  # that the base runs in; None: as the network and device need
    refine: RefineOptions | None = None  # None: the prediction as it is
    keep_paths: bool = False  # d2l.json names inputs and checkpoint by their whole paths
    chunking: str = "usual"  # or "stable": a change of the text moves only the borders around it
    cache: bool = False  # whether parts are looked for in the cache folder, and kept there

    def __post_init__(self) -> None:
        pick_torch_dtype(self.dtype)  # refuses what is none
        if self.chunking not in CHUNKINGS:
            raise OptionError(
                f"unknown chunking {self.chunking!r}", hint=f"choose from {', '.join(CHUNKINGS)}"
            )
        if self.max_rank is not None and not 1 <= self.max_rank <= MAX_RANK:
            raise OptionError(
                f"--max-rank is not from 1 to {MAX_RANK:,}",
                hint="leave it out where the rank shall not be bounded",
            )

    def changed(self, **wishes: "Unpack[PlanWishes]") -> "CompileOptions":
        """The same with what is wished for one plan."""
        merge = self.merge
        if "merge" in wishes:
            merge = replace(merge, method=wishes["merge"])
        if "scale" in wishes:
            merge = replace(merge, scale=wishes["scale"])
        if "bias_scale" in wishes:
            merge = replace(merge, bias_scale=wishes["bias_scale"])
        return replace(
            self,
            merge=merge,
            max_rank=wishes.get("max_rank", self.max_rank),
            chunk_tokens=wishes.get("chunk_tokens", self.chunk_tokens),
            tokens_per_seat=wishes.get("tokens_per_seat", self.tokens_per_seat),
            dtype=wishes.get("dtype", self.dtype),
            refine=choose_refining(wishes.get("refine"), wishes.get("refine_steps")) or self.refine,
            keep_paths=wishes.get("keep_paths", self.keep_paths),
            chunking=wishes.get("chunking", self.chunking),
            cache=wishes.get("cache", self.cache),
        )


class PlanWishes(TypedDict, total=False):
    """What may be wished for of one adapter, as keywords of `d2l.compile` and `Compiler.plan`.

    merge: "concat" (the default: chunks' deltas are added up) or "average".
    scale, bias_scale: factors of the document's part and of the network's learned part.
    max_rank: bound of the adapter's rank, 1 or more.
    chunk_tokens: tokens of a chunk at most; default: what the network was trained with.
    tokens_per_seat: of seat networks; fewer recall more, and disturb other answers more.
    dtype: what the weights are written in: "bf16" (the default), "fp16" or "fp32".
    refine: for how long the predicted adapter is corrected on the documents: "2m", or seconds.
    refine_steps: for how many steps at most; both None (the default): the prediction as it is.
    keep_paths: d2l.json names inputs and checkpoint by their whole paths, not by their names.
    chunking: "usual" (the default: as the network was trained) or "stable": a change of the text
    moves only the borders around it.
    cache: whether what chunks became is looked for in the cache folder, and kept there.
    """

    merge: str
    scale: float
    bias_scale: float
    max_rank: int | None
    chunk_tokens: int | None
    tokens_per_seat: int | None
    dtype: str
    refine: str | float | None
    refine_steps: int | None
    keep_paths: bool
    chunking: str
    cache: bool
