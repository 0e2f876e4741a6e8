"""The verbs of the API: compile, merge, edit, check, load_base.

Heavy libraries come with a call.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2l.api.arguments import AdapterLike, find_content
from d2l.change.parents import ChangeOptions
from d2l.hypernets.options import CompileOptions, describe_keywords
from d2l.memory import memory_errors
from d2l.spelling import from_keywords, show_keywords

if TYPE_CHECKING:
    from d2l.api.adapter import Adapter
    from d2l.change.edit import EditPlan
    from d2l.change.merge_plan import MergePlan
    from d2l.documents.intake import InputLike, ReadOptions
    from d2l.runtimes.check import CheckReport


@show_keywords(CompileOptions, *CompileOptions.list_keywords())
def compile(
    inputs: "InputLike",
    *,
    checkpoint: str | None = None,
    base: str | None = None,
    device: str = "auto",
    local_files_only: bool = False,
    reading: "ReadOptions | None" = None,
    **options: Any,
) -> "Adapter":
    """Compile documents into one adapter, in memory.

    inputs: a path, "-" for standard input, a `Document`, or several of these; folders are read with
    their subfolders. checkpoint: an alias, folder, file or org/repo[@revision][:subfolder];
    None: `D2L_CHECKPOINT` if it is set, else the default. base: where the base lies, if not
    where the checkpoint's name leads; alone, any base by its KV cache. device: "auto",
    "cpu", "cuda", "cuda:N" or "mps". local_files_only: open no socket. reading: formats, encodings
    and limits.
    Further keywords: options of one adapter, listed below.

    Loads the network for this one adapter; a `Compiler` loads it once for many. Raises
    DocumentError, CheckpointError, BaseModelError, OptionError or MergeError.
    """
    from d2l.api.compiler import Compiler

    compiler = Compiler.from_pretrained(
        checkpoint, base=base, device=device, local_files_only=local_files_only
    )
    return compiler(inputs, reading=reading, **options)


def plan_merge(
    adapters: Sequence[AdapterLike],
    *,
    weights: Sequence[float] | None = None,
    method: str = "concat",
    max_rank: int | None = None,
    checkpoint: str | None = None,
    local_files_only: bool = False,
) -> "MergePlan":
    """Plan a merge without reading weights: parents, strengths, seats, rank and warnings.

    checkpoint: the network that seats were compiled with, if its name leads elsewhere by now.
    local_files_only: open no socket. Raises MergeError, AdapterError, OptionError, or
    CheckpointError where the network of seats cannot be found.
    """
    from d2l.change.merge_plan import prepare

    return prepare(
        [find_content(adapter) for adapter in adapters],
        shares=weights,
        method=method,
        max_rank=max_rank,
        checkpoint=checkpoint,
        offline=local_files_only,
    )


@show_keywords(ChangeOptions)
def merge(
    adapters: "Sequence[AdapterLike] | MergePlan",
    *,
    weights: Sequence[float] | None = None,
    method: str = "concat",
    max_rank: int | None = None,
    **options: Any,
) -> "Adapter":
    """Merge adapters of one base into a new one, in memory; or do what `plan_merge` planned.

    adapters: in memory, or folders, or names on the hub. weights: a factor for each delta, in their
    order; default: 1. method: "concat", the weighted sum, or "average", with weights that sum to 1.
    max_rank: the sum is cut to the nearest delta of that rank. Further keywords: fields of
    `ChangeOptions`.

    Adapters with seats are not added up, since they claim the same tokens. Their memories are
    joined and seated again, as if the documents had been compiled together. If the opening has too
    few seats, each memory gets fewer; the plan and the provenance warn of that.

    Raises MergeError, AdapterError, OptionError, CheckpointError or BaseModelError.
    """
    from d2l.api.adapter import Adapter
    from d2l.change import merge as merging
    from d2l.change.merge_plan import MergePlan

    wanted = from_keywords(ChangeOptions, options)
    if not isinstance(adapters, MergePlan):
        adapters = plan_merge(
            adapters,
            weights=weights,
            method=method,
            max_rank=max_rank,
            checkpoint=wanted.checkpoint,
            local_files_only=wanted.offline,
        )
    return Adapter.of(merging.run(adapters, wanted))


def plan_edit(
    adapter: AdapterLike, *, drop: Sequence[str] = (), keep: Sequence[str] = ()
) -> "EditPlan":
    """Plan an edit without reading weights: the chunks that stay, and warnings."""
    from d2l.change import edit as editing

    return editing.prepare(find_content(adapter), drop=drop, keep=keep)


@show_keywords(ChangeOptions)
def edit(
    adapter: "AdapterLike | EditPlan",
    *,
    drop: Sequence[str] = (),
    keep: Sequence[str] = (),
    **options: Any,
) -> "Adapter":
    """Drop or keep chunks of an adapter, and return a new one; or do what `plan_edit` planned. No
    document is read again.

    drop, keep: selectors of chunks: "manual.pdf", "manual.pdf:p. 12-14", "manual.pdf:#3". Further
    keywords: fields of `ChangeOptions`.

    Raises AdapterError for unknown selectors and for adapters whose chunks cannot be told apart,
    CheckpointError or BaseModelError where seats cannot be seated again.
    """
    from d2l.api.adapter import Adapter
    from d2l.change import edit as editing

    if not isinstance(adapter, editing.EditPlan):
        adapter = plan_edit(adapter, drop=drop, keep=keep)
    return Adapter.of(editing.run(adapter, from_keywords(ChangeOptions, options)))


def check(
    path: str | Path,
    *,
    runtimes: Sequence[str] = (),
    max_lora_rank: int | None = None,
    base: str | None = None,
    local_files_only: bool = False,
) -> "CheckReport":
    """Check which runtimes load an adapter folder, by which line, and what is wrong with it.

    runtimes: names to check; none: all. max_lora_rank: the server's option.
    base: where the base lies. The report has `passes`, `faults`, and `runtimes`, the verdicts by
    name: `d2l.check("manual.lora").runtimes["vllm"]`. Works for adapters of any tool. Raises
    AdapterError where the folder cannot be read at all.
    """
    from d2l.adapters.adapter_paths import find_adapter
    from d2l.runtimes import check as pipeline

    folder = find_adapter(path, local_files_only=local_files_only)
    options = pipeline.CheckOptions(tuple(runtimes), max_lora_rank, base, local_files_only)
    return pipeline.check(folder, options)


@memory_errors()
def load_base(
    adapter: AdapterLike,
    *,
    device: str = "auto",
    dtype: str | None = None,
    local_files_only: bool = False,
) -> Any:
    """Load an adapter's base, for PEFT: a causal model of transformers, frozen.

    adapter: in memory, a folder, or a name on the hub; or the base itself: an alias or a name that
    `d2l bases ls` shows, a model folder or a GGUF file. A base that d2l knows is the file that `d2l
    bases fetch` got. device: "auto", "cpu", "cuda", "cuda:N" or "mps". dtype: "bf16", "fp16" or
    "fp32"; None: bf16 on CUDA, else fp32. local_files_only: open no socket.

    Raises AdapterError; BaseModelError where the base is not on this machine, nor on the hub.
    """
    from d2l.adapters.peft_folder import pick_torch_dtype
    from d2l.bases.devices import pick_device, pick_dtype
    from d2l.bases.models import find_base, load_causal

    device = pick_device(device)
    base = find_base(_name_base(adapter, local_files_only), offline=local_files_only)
    precision = pick_dtype(device) if dtype is None else pick_torch_dtype(dtype)
    return load_causal(base, device=device, dtype=precision)


def _name_base(adapter: AdapterLike, offline: bool) -> str:
    """Name an adapter's base; a base's own name stays as it is."""
    from d2l.adapters.adapter_paths import find_adapter
    from d2l.adapters.info import is_adapter, read_base_name, read_info
    from d2l.bases.catalog import find_known, find_used
    from d2l.files.cache import find_local

    if not isinstance(adapter, str | Path):
        return adapter.weights.base
    path = find_local(str(adapter))
    if find_known(str(adapter)) or (path is not None and not is_adapter(path)):
        return str(adapter)
    folder = find_adapter(adapter, local_files_only=offline)
    name = read_base_name(folder)
    return find_used(name, read_info(folder).base_sha256) or name


compile.__doc__ = f"{compile.__doc__}\n{describe_keywords()}\n"
