"""The commands `d2l ls`, `inspect`, `push` and `rm`: adapters listed, shown, uploaded, removed."""

import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.adapters.adapter_paths import VARIABLE, home_folder, refuse_removal, remove_adapter
from d2l.adapters.info import AdapterInfo, describe_adapter, read_info
from d2l.adapters.provenance import DESCRIPTION
from d2l.commands import console
from d2l.commands.console import show_rows
from d2l.commands.options import AdapterPath, adapter_argument
from d2l.errors import OptionError
from d2l.files.cache import folder_size
from d2l.files.printable import printable

if TYPE_CHECKING:
    from d2l.adapters.listing import Entry
    from d2l.adapters.provenance import Provenance

_COLUMNS = (
    "adapter",
    "base",
    "inputs",
    "rank",
    "seats",
    "parts",
    "size",
    "written",
)


def list_adapters(
    folder: Annotated[
        Path | None,
        typer.Argument(help=f"Folder with adapters in it; default: {VARIABLE}, or the current."),
    ] = None,
) -> None:
    """List the adapters in a folder."""
    from d2l.adapters import listing

    folder = home_folder() if folder is None else folder
    entries = listing.list_adapters(folder)
    rows = [entry._asdict() for entry in entries]
    console.emit({"folder": str(folder), "adapters": rows}, lambda: _show_list(folder, entries))


def _show_list(folder: Path, entries: "list[Entry]") -> None:
    readable = [entry for entry in entries if entry.error is None]
    if readable:
        rows = [_describe_entry(entry) for entry in readable]
        used = [at for at in range(len(_COLUMNS)) if any(row[at] for row in rows)]
        console.show_table(
            [_COLUMNS[at] for at in used], [[row[at] for at in used] for row in rows]
        )
    for entry in entries:
        if entry.error is not None:
            console.warn(f"left out: {entry.error}")
    if not entries:
        console.note(f"{folder}: no adapters in it")


def _describe_entry(entry: "Entry") -> tuple[str, ...]:
    inputs = ", ".join(entry.inputs[:3]) + (f", … ({len(entry.inputs)})" * (len(entry.inputs) > 3))
    return (
        entry.name,
        entry.base or "?",
        inputs or "?",
        str(entry.rank),
        f"{entry.seats:,}" if entry.seats else "",
        f"{entry.parts:,}" if entry.parts else "",
        f"{(entry.size_bytes or 0) / 1e6:.1f} MB",
        console.spell_age(entry.written),
    )


def push(
    adapter: AdapterPath,
    repo: Annotated[
        str, typer.Argument(metavar="ORG/REPO", help="Repository; made if there is none.")
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    license: Annotated[
        str | None, typer.Option(help="License of document and adapter, such as cc-by-4.0.")
    ] = None,
) -> None:
    """Upload an adapter to the Hugging Face hub.

    Log in first: `hf auth login`.
    """
    import d2l

    kept = read_info(adapter).n_parts
    held = "parts.json holds its text" if kept else "its content is in the weights"
    console.warn(f"whoever can read {repo} can read the document: {held}")
    loaded = d2l.Adapter.from_pretrained(adapter)
    address = loaded.push_to_hub(repo, private=private or None, license=license)
    console.emit({"adapter": str(adapter), "repo": repo, "commit": address}, address)


def remove(
    adapters: Annotated[list[Path], adapter_argument("Adapters to remove.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
) -> None:
    """Remove adapters.

    Refuses folders that hold anything that d2l did not write.
    """
    folders = {os.path.abspath(folder): folder for folder in adapters}
    for folder in folders.values():
        refuse_removal(folder)
    size = sum(map(folder_size, folders.values()))
    names = ", ".join(map(str, folders.values()))
    if not yes:
        if not (sys.stdin and sys.stdin.isatty()):
            raise OptionError("d2l rm asks first, and stdin is no terminal", hint="add --yes")
        if not typer.confirm(printable(f"Remove {names} ({size / 1e6:,.1f} MB)?"), err=True):
            raise typer.Exit(1)
    for path in folders:
        remove_adapter(Path(path))
    removed = [str(folder) for folder in folders.values()]
    console.emit(
        {"removed": removed, "freed_bytes": size}, f"removed {names}, {size / 1e6:,.1f} MB"
    )


def inspect(adapter: AdapterPath) -> None:
    """Show an adapter's contents and origin."""
    from d2l.adapters.peft_folder import check_values, read_adapter

    info = read_info(adapter)
    read_adapter(adapter)  # raises for damaged weights
    check_values(info)
    values = describe_adapter(info)
    console.emit(values, lambda: show_adapter(info, values))


def show_adapter(info: AdapterInfo, values: dict[str, Any]) -> None:
    """Print provenance, rank and size."""
    made = info.provenance
    layers = values["layers"]
    span = f"{layers[0]}-{layers[-1]}" if layers else "none"
    rows = [
        ("adapter", values["adapter"]),
        ("base", values["base"]),
        ("rank", f"{values['rank']} (alpha {values['lora_alpha']})"),
        ("modules", f"{', '.join(values['modules'])} in layers {span}"),
        ("size", f"{values['size_bytes'] / 1e6:.2f} MB, {', '.join(values['dtype'])}"),
    ]
    if made is None:
        show_rows(rows)
        console.note("no d2l.json: made by another tool, so its documents are unknown")
        return
    rows[1:1] = _list_content(info, made)
    tool, checkpoint = made.tool, made.checkpoint
    digest = f", sha256 {checkpoint.sha256[:16]}…" if checkpoint.sha256 is not None else ""
    rows += [
        ("made by", f"{tool.name} {tool.version}, checkpoint {checkpoint.name}"),
        ("network", f"{checkpoint.network}{digest}"),  # a mixture of networks has no digest
    ]
    if made.base.sha256 is not None:  # descriptions are often made without weights
        rows.append(("base file", f"sha256 {made.base.sha256[:16]}…"))
    rows += _describe_making(made)
    rows += [("skipped", entry.reason) for entry in made.skipped]
    rows += [("warning", warning) for warning in made.warnings]
    show_rows(rows)


def _list_content(info: AdapterInfo, made: "Provenance") -> list[tuple[str, str]]:
    """List documents, parts, and the headings of the highest level that has several."""
    from d2l.adapters.parts import read_text

    rows = [
        ("input", f"{entry.name} ({entry.format}, sha256 {entry.sha256[:16]}…)")
        for entry in made.inputs
    ]
    if made.parts_sha256 is not None:
        rows.append(("parts", _describe_parts(info)))
    paths = [record.headings for record in read_text(info)]
    # A document's title stands alone on the first level.
    levels = [dict.fromkeys(path[at] for path in paths if path[at:]) for at in range(3)]
    titles = next((titles for titles in levels if len(titles) > 1), ())
    return [*rows, ("outline", "; ".join(titles))] if titles else rows


def _describe_parts(info: AdapterInfo) -> str:
    """Number and size of the parts that questions choose."""
    if not info.n_parts:
        return "none any more: their files were deleted"
    return f"{info.n_parts:,}, {info.parts_bytes / 1e6:.2f} MB"


def _describe_making(made: "Provenance") -> list[tuple[str, str]]:
    """Describe the making: from a description, or by merging chunks of documents."""
    described = made.description
    if described is None:
        return [("merge", _describe_merge(made)), *_list_tasks(made)]
    rows = [("task", textwrap.shorten(described.text, 100, placeholder=" …"))]
    if (read := described.examples) is not None:
        rows.append(("examples", f"rows {', '.join(map(str, read.rows))} of {read.n:,}"))
    if made.options.scaling is None:  # a seat network's, which reads descriptions as documents
        return rows
    rows.append(("embedder", described.embedder))
    scale = "" if made.scale is None else f" ({made.scale:g})"
    return [*rows, ("scaling", f"{made.options.scaling}{scale}")]


def _list_tasks(made: "Provenance") -> list[tuple[str, str]]:
    """Descriptions of tasks that are in it beside documents, each as its chunks call it."""
    documents = {entry.name for entry in made.inputs}
    others = [chunk.document for chunk in made.chunks if chunk.source == DESCRIPTION]
    return [("task", name) for name in dict.fromkeys(others) if name not in documents]


def _describe_merge(made: "Provenance") -> str:
    text, errors = str(made.options.merge), made.merge_error.values()
    if not errors:
        return text
    before = made.rank_before_max_rank  # merged adapters do not say what they were cut from
    cut = "cut to" if before is None else f"rank {before} cut to"
    return f"{text}, {cut} {made.rank}, error at most {max(errors):.2%}"
