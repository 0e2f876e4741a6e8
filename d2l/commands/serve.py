"""The command `d2l serve`: adapters behind an OpenAI-compatible interface, to try them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2l.commands import console
from d2l.commands.options import Base, Device, Offline

if TYPE_CHECKING:
    from d2l.serve.library import Library


def serve(
    adapters: Annotated[Path, typer.Argument(help="Folder of adapters, or one adapter.")],
    host: Annotated[
        str, typer.Option(help="Address to listen at; the default lets this machine in alone.")
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
    """Serve a folder of adapters, OpenAI-compatible, with a page to ask and compare.

    For trying: one base in memory, one answer at a time, the adapter chosen by the request's
    model. For load, use an engine that batches: d2l check ADAPTER prints its line.
    """
    from d2l.inference.adapted_model import AskOptions
    from d2l.serve.server import Limits, ServeOptions, Server

    limits = Limits(max_tokens, max_seconds, max_waiting)
    options = ServeOptions(host, port, token or None, limits)
    if not options.is_local and options.token is None:
        console.warn(f"whoever reaches {host} may ask: set a token with D2L_SERVE_TOKEN")
    asking = AskOptions(base, device, max_tokens, 0.0, offline)
    server = Server(adapters, asking, options, read_document=read_document, remark=console.warn)
    show_ready(server.address, server.library)
    server.run()


def read_document(adapter: Path) -> str:
    """Text of the documents that an adapter was compiled from, where they lay then; raises
    D2LError where they are gone or have changed."""
    from d2l.adapters.info import read_info
    from d2l.evaluation.originals import read_originals

    return read_originals(read_info(adapter)).text


def show_ready(address: str, library: "Library") -> None:
    """The address, and what is there."""
    names = list(library.list_entries())
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    console.stream(
        f"{address}\n"
        f"base        {library.base}\n"
        f"adapters    {shown}\n"
        f"OpenAI      base_url={address}/v1, model=NAME\n"
    )
