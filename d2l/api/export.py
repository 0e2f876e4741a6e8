"""`d2l.export` and `d2l.plan_export`: an adapter as another runtime loads it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from d2l.api.wishes import AdapterLike, ExportWishes, find_content

if TYPE_CHECKING:
    from d2l.runtimes.export import ExportOptions, ExportPlan, ExportResult


def export(
    adapter: AdapterLike, path: str | Path, *, to: str, **wishes: Unpack[ExportWishes]
) -> "ExportResult":
    """Write an adapter as another runtime loads it, whole or not at all, and read it back.

    to: "gguf", "ollama", "mlx" or "merged". path: a folder; for "gguf" a name in .gguf is one file.
    Further keywords: `ExportWishes`. The result has `path`, `size_bytes`, `load` (the shell line
    that loads it) and `warnings`. Raises AdapterError or BaseModelError.
    """
    from d2l.runtimes import export as pipeline

    options = _export_options(to, wishes)
    with _in_folder(adapter) as (folder, called):
        return pipeline.run(folder, Path(path), options, called=called)


def plan_export(
    adapter: AdapterLike, path: str | Path, *, to: str, **wishes: Unpack[ExportWishes]
) -> "ExportPlan":
    """What `export` will write, and with which line it will load: everything but the writing."""
    from d2l.runtimes import export as pipeline

    with _in_folder(adapter) as (folder, called):
        return pipeline.prepare(folder, Path(path), _export_options(to, wishes), called=called)


@contextlib.contextmanager
def _in_folder(adapter: AdapterLike) -> Iterator[tuple[Path, Path]]:
    """(an adapter's folder, what texts call it): writers of exports read a folder's files, so an
    adapter in memory becomes one for a moment."""
    import tempfile

    found = find_content(adapter)
    if isinstance(found, Path):
        yield found, found
        return
    from d2l.adapters.peft_folder import write_adapter

    with tempfile.TemporaryDirectory(prefix="d2l-export-") as folder:
        yield write_adapter(found, Path(folder, "adapter.lora")), Path(found.name)


def _export_options(to: str, wishes: ExportWishes) -> "ExportOptions":
    from d2l.runtimes.export import ExportOptions

    return ExportOptions(
        to,
        wishes.get("base"),
        wishes.get("dtype"),
        offline=wishes.get("local_files_only", False),
        force=wishes.get("force", False),
    )
