"""`d2l.export` and `d2l.plan_export`: an adapter as another runtime loads it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2l.api.arguments import AdapterLike, find_content
from d2l.progress import Progress, silent
from d2l.runtimes.export_options import ExportOptions
from d2l.spelling import from_keywords, show_keywords

if TYPE_CHECKING:
    from d2l.runtimes.export import ExportPlan, ExportResult
    from d2l.runtimes.parts import PartsPlan


@show_keywords(ExportOptions)
def export(
    adapter: AdapterLike, path: str | Path, *, to: str, watch: Progress = silent, **options: Any
) -> "ExportResult":
    """Write an adapter as another runtime loads it, whole or not at all, and read it back.

    to: "gguf", "ollama", "mlx", "uniform" or "merged"; "parts" or "parts-gguf" for an adapter a
    part. path: a folder; for "gguf" a name in .gguf is one file. watch: gets the parts as they are
    written. Further keywords: fields of `ExportOptions`. The result has `path`, `size_bytes`,
    `load` (the shell line that loads it) and `warnings`. Raises AdapterError or BaseModelError.
    """
    from d2l.runtimes import export as pipeline
    from d2l.runtimes import parts

    wanted = from_keywords(ExportOptions, {"to": to, **options})
    with _in_folder(adapter) as (folder, called):
        if to not in parts.TARGETS:
            return pipeline.run(folder, Path(path), wanted, called=called)
        from d2l.change.kinds import read_parent
        from d2l.change.parents import ChangeOptions
        from d2l.change.parts import split_parts

        parts.refuse_export(Path(path), force=wanted.force)
        plan = parts.prepare(folder, Path(path), wanted, called=called)
        seating = ChangeOptions(
            wanted.checkpoint, wanted.base, wanted.device, offline=wanted.offline
        )
        return parts.write(plan, split_parts(read_parent(folder), seating, watch))


@show_keywords(ExportOptions)
def plan_export(
    adapter: AdapterLike, path: str | Path, *, to: str, **options: Any
) -> "ExportPlan | PartsPlan":
    """Plan an export without writing it: its files, and the shell line that loads them."""
    from d2l.runtimes import export as pipeline
    from d2l.runtimes import parts

    wanted = from_keywords(ExportOptions, {"to": to, **options})
    with _in_folder(adapter) as (folder, called):
        prepare = parts.prepare if to in parts.TARGETS else pipeline.prepare
        return prepare(folder, Path(path), wanted, called=called)


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
