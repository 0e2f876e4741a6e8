"""The command `d2l serve`: adapters behind an OpenAI-compatible interface, to try them."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.adapters.info import read_info
from d2l.answer.options import AskOptions
from d2l.commands import console
from d2l.commands.options import (
    LIMITS,
    Base,
    BaseDtype,
    Device,
    Offline,
    ReaderName,
    adapter_argument,
    in_panel,
)
from d2l.errors import MissingExtraError
from d2l.files.printable import short_line
from d2l.serve.options import ServeOptions, Upstream

if TYPE_CHECKING:
    from d2l.serve.web import HttpServer


def serve(
    adapters: Annotated[Path, adapter_argument("Folder of adapters, or one adapter.")],
    host: Annotated[
        str, typer.Option(help="Address; other machines than this need --token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any that is free.")
    ] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="D2L_SERVE_TOKEN", help="Bearer token that requests must have."),
    ] = None,
    max_tokens: Annotated[int, in_panel(LIMITS, min=1, help="Longest answer.")] = 1024,
    max_seconds: Annotated[
        float, in_panel(LIMITS, min=0.1, help="Longest time of a request, waiting included.")
    ] = 120.0,
    max_waiting: Annotated[
        int, in_panel(LIMITS, min=1, help="Requests that may wait; others get status 503.")
    ] = 32,
    upstream: Annotated[
        str | None,
        typer.Option(help="Engine that answers: its address. d2l chooses the part alone."),
    ] = None,
    base: Base = None,
    base_dtype: BaseDtype = None,
    device: Device = "auto",
    offline: Offline = False,
    reader: ReaderName = "auto",
) -> None:
    """Serve adapters over HTTP, as OpenAI's interface does.

    The server is for trials: it has a web page, one base in memory, and gives one answer at a time.
    A request's model names the adapter. For load, use an engine that batches: `d2l check ADAPTER`
    prints its command line. With --upstream it has the parts that `d2l export --to parts` writes.
    """
    if missing := [name for name in ("starlette", "uvicorn", "httpx2") if find_spec(name) is None]:
        message = f"d2l serve needs {', '.join(missing)}"
        raise MissingExtraError(message, hint="pip install 'd2l[serve]'")
    options = ServeOptions(
        host=host,
        port=port,
        token=token or None,
        max_tokens=max_tokens,
        max_seconds=max_seconds,
        max_waiting=max_waiting,
        report=_report,
    )
    if upstream is not None:
        _serve_upstream(adapters, Upstream(upstream), options)
    else:
        asking = AskOptions(
            base, device, max_tokens, offline=offline, dtype=base_dtype, reader=reader
        )
        _serve_adapters(adapters, asking, options)


def _report(line: str) -> None:
    """Print the line of a request; its path and model are a stranger's text."""
    console.note(short_line(line))


def _serve_adapters(folder: Path, asking: AskOptions, options: ServeOptions) -> None:
    """Answer with the adapters of a folder, until told to stop."""
    from d2l.serve.server import Server

    server = Server(folder, asking, options, read_document=read_document, remark=console.warn)
    names = list(server.library.list_entries())
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    text = (
        f"{server.address}\n"
        f"base        {server.library.base}\n"
        f"adapters    {shown}\n"
        f"OpenAI      base_url={server.address}/v1, model=NAME"
    )
    values = {"address": server.address, "base": server.library.base, "adapters": names}
    _run(server, values, text)


def _serve_upstream(folder: Path, upstream: Upstream, options: ServeOptions) -> None:
    """Choose parts for an engine, until told to stop."""
    from d2l.serve.upstream import UpstreamServer

    server = UpstreamServer(folder, upstream, options)
    index = server.service.index
    text = (
        f"{server.address}\n"
        f"upstream    {upstream.address}\n"
        f"manual      {index.name}, {len(index.parts):,} parts on {index.base}\n"
        f"OpenAI      base_url={server.address}/v1, model={index.name}"
    )
    values = {"address": server.address, "upstream": upstream.address, "adapters": [index.name]}
    _run(server, values, text)


def _run(server: "HttpServer", values: dict[str, Any], text: str) -> None:
    console.emit(values, text)
    console.flush()
    console.end_spinner()
    console.set_stopping("no request is answered any more")
    server.run()


def read_document(adapter: Path) -> str:
    """Read the documents that an adapter was compiled from, at their old paths; raises D2LError
    if they are gone or have changed."""
    from d2l.compiler.originals import read_originals

    return read_originals(read_info(adapter)).text
