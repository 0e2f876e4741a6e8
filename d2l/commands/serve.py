"""The command `d2l serve`: adapters behind an OpenAI-compatible interface, to try them."""

from pathlib import Path
from typing import Annotated

import typer

from d2l.commands import console
from d2l.commands.options import Base, Device, Offline


def serve(
    adapters: Annotated[Path, typer.Argument(help="Folder of adapters, or one adapter.")],
    host: Annotated[
        str, typer.Option(help="Address; other machines than this need --token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any that is free.")
    ] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="D2L_SERVE_TOKEN",
            help="Bearer token that requests must have; better in D2L_SERVE_TOKEN.",
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 1024,
    max_seconds: Annotated[
        float, typer.Option(min=0.1, help="Longest time of a request, waiting included.")
    ] = 120.0,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Requests that may wait; others get status 503.")
    ] = 32,
    base: Base = None,
    device: Device = "auto",
    offline: Offline = False,
) -> None:
    """Serve adapters over HTTP, as OpenAI's interface does.

    The server is for trials: it has a web page, one base in memory, and gives one answer at a time.
    A request's model names the adapter. For load, use an engine that batches: `d2l check ADAPTER`
    prints its command line.
    """
    from d2l.inference.adapted_model import AskOptions
    from d2l.serve.server import ServeOptions, Server

    options = ServeOptions(host, port, token or None, max_tokens, max_seconds, max_waiting)
    asking = AskOptions(base, device, max_tokens, 0.0, offline)
    server = Server(adapters, asking, options, read_document=read_document, remark=console.warn)
    names = list(server.library.list_entries())
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    text = (
        f"{server.address}\n"
        f"base        {server.library.base}\n"
        f"adapters    {shown}\n"
        f"OpenAI      base_url={server.address}/v1, model=NAME"
    )
    values = {"address": server.address, "base": server.library.base, "adapters": names}
    console.emit(values, text)
    console.flush()
    server.run()


def read_document(adapter: Path) -> str:
    """Text of the documents that an adapter was compiled from, at their old paths; raises
    D2LError where they are gone or have changed."""
    from d2l.adapters.info import read_info
    from d2l.evaluation.originals import read_originals

    return read_originals(read_info(adapter)).text
