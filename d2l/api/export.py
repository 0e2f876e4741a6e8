"""`d2l.export` and `d2l.plan_export`: an adapter as another runtime loads it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from d2l.api.wishes import AdapterLike, ExportWishes, find_content, refuse_unknown
from d2l.progress import Progress, silent

if TYPE_CHECKING:
    from d2l.runtimes.export import ExportOptions, ExportPlan, ExportResult
    from d2l.runtimes.parts import PartsPlan


def export(
    adapter: AdapterLike,
    path: str | Path,
    *,
    to: str,
    watch: Progress = silent,
    **wishes: Unpack[ExportWishes],
) -> "ExportResult":
    """Write an adapter as another runtime loads it, whole or not at all, and read it back.

    to: "gguf", "ollama", "mlx", "uniform" or "merged"; "parts" or "parts-gguf" for an adapter a
    part. path: a folder; for "gguf" a name in .gguf is one file. watch: gets the parts as they are
    written. Further keywords: `ExportWishes`. The result has `path`, `size_bytes`, `load` (the
    shell line that loads it) and `warnings`. Raises AdapterError or BaseModelError.
    """
    from d2l.runtimes import export as pipeline
    from d2l.runtimes import parts

    options = _export_options(to, wishes)
    with _in_folder(adapter) as (folder, called):
        if to not in parts.TARGETS:
            return pipeline.run(folder, Path(path), options, called=called)
        from d2l.change.parents import ChangeOptions, read_parent
        from d2l.change.parts import split_parts

        parts.refuse_export(Path(path), force=options.force)
        plan = parts.prepare(folder, Path(path), options, called=called)
        seating = ChangeOptions(
            wishes.get("checkpoint"),
            options.base,
            wishes.get("device", "auto"),
            offline=options.offline,
        )
        return parts.write(plan, split_parts(read_parent(folder), seating, watch))


def plan_export(
    adapter: AdapterLike, path: str | Path, *, to: str, **wishes: Unpack[ExportWishes]
) -> "ExportPlan | PartsPlan":
    """Plan an export without writing it: its files, and the shell line that loads them."""
    from d2l.runtimes import export as pipeline
    from d2l.runtimes import parts

    with _in_folder(adapter) as (folder, called):
        prepare = parts.prepare if to in parts.TARGETS else pipeline.prepare
        return prepare(folder, Path(path), _export_options(to, wishes), called=called)


@contextlib.contextmanager
def _in_folder(adapter: AdapterLike) -> Iterator[tuple[Path, Path]]:
    """Yield (an adapter's folder, its name in texts). Exporters read files, so an adapter in
    memory is written to a temporary folder."""
    import tempfile

    content = find_content(adapter)
    if isinstance(content, Path):
        yield content, content
        return
    from d2l.adapters.peft_folder import write_adapter

    with tempfile.TemporaryDirectory(prefix="d2l-export-") as folder:
        yield write_adapter(content, Path(folder, "adapter.lora")), Path(content.name)


def _export_options(to: str, wishes: ExportWishes) -> "ExportOptions":
    from d2l.runtimes.export import ExportOptions

    refuse_unknown(wishes, ExportWishes)
    return ExportOptions(
        to,
        wishes.get("base"),
        wishes.get("dtype"),
        offline=wishes.get("local_files_only", False),
        force=wishes.get("force", False),
    )
