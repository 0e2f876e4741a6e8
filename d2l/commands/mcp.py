"""The command `d2l mcp`: adapters behind the Model Context Protocol, for agents and editors."""

from pathlib import Path
from typing import Annotated

from d2l.answer.options import AskOptions
from d2l.commands import console, streams
from d2l.commands.options import (
    Base,
    BaseDtype,
    Device,
    Offline,
    ReaderName,
    adapter_argument,
)
from d2l.errors import MissingExtraError
from d2l.serve.library import Library


def mcp(
    adapters: Annotated[list[Path], adapter_argument("Adapters, or folders of adapters.")],
    base: Base = None,
    base_dtype: BaseDtype = None,
    device: Device = "auto",
    offline: Offline = False,
    reader: ReaderName = "auto",
) -> None:
    """Answer agents and editors over the Model Context Protocol.

    A client starts it. Its tools are ask, find and outline; the first question loads the base.
    """
    try:
        from d2l.serve.mcp import McpServer
    except ImportError as error:  # also with mcp 1, which other programs bring
        raise MissingExtraError(f"d2l mcp: {error}", hint="pip install 'd2l[mcp]'") from error
    console.open_stdin()
    streams.write("")  # raises if stdout is closed
    library = Library(*adapters, remark=console.warn)
    asking = AskOptions(base, device, offline=offline, dtype=base_dtype, reader=reader)
    server = McpServer(library, asking)
    console.note(f"waiting for a client on stdin: {', '.join(library.list_entries())}")
    console.end_spinner()
    console.set_stopping("no question is answered any more")
    server.serve()
