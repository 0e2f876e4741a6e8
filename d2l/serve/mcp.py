"""Adapters behind the Model Context Protocol; the first question loads the base, not the start."""

import functools
import inspect
import logging
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, cast

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from d2l.adapters.info import read_info
from d2l.adapters.parts import PartRecord, read_text
from d2l.answer.events import Ending
from d2l.answer.options import AskOptions
from d2l.errors import AdapterError, OptionError
from d2l.parts.router import Router
from d2l.serve.library import Library, ServedAdapter
from d2l.serve.options import ServeOptions
from d2l.serve.protocol import ChatRequest, Message, write_source
from d2l.serve.web import explain
from d2l.version import __version__

if TYPE_CHECKING:
    from d2l.serve.engine import ChatWorker

_Text = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=1, le=20)]
_ASKED = ("answer", "document", "place", "passage", "supported", "finish")


class McpServer(MCPServer[Any]):
    """Server of three tools; a client's model reads their docstrings."""

    def __init__(self, library: Library, asking: AskOptions) -> None:
        logging.basicConfig(handlers=[logging.NullHandler()])  # else mcp prints d2l's logs again
        super().__init__("d2l", version=__version__)
        self._library, self._asking = library, asking
        self._worker: ChatWorker | None = None
        for tool in (self.ask, self.find, self.outline):
            text = f"{inspect.getdoc(tool)}\n\nAdapters: {', '.join(library.list_entries())}"
            self.add_tool(tool, description=text, annotations=ToolAnnotations(read_only_hint=True))

    def serve(self) -> None:
        """Serve on stdin and stdout until the client has gone."""
        try:  # in a thread: at a signal, the event loop would wait for another line of stdin
            ThreadPoolExecutor(1).submit(self.run).result()
        except* BrokenPipeError:
            pass

    async def call_tool(self, *arguments: Any, **options: Any) -> Any:
        """Call a tool; errors that mcp does not know are explained as in `d2l serve`."""
        try:
            return await super().call_tool(*arguments, **options)
        except UnexpectedToolError as error:
            raise ToolError(str(explain(cast(Exception, error.__cause__)))) from error

    async def ask(self, question: _Text, adapter: str | None = None) -> dict[str, Any]:
        """Ask a document for one thing, in a whole sentence: a fact, a list, steps or a summary.

        A small local model answers: compare `answer` with `passage`, the document's lines at
        `place`. `supported`: its words stand there. "Not found." has the closest passage, if any.
        """
        from d2l.serve.engine import N_KEPT, ChatOrder, ChatWorker, Engine

        entry = self._find(adapter)
        if self._worker is None:  # without a limit of time: clients have their own
            entries = [entry, *self._library.list_entries().values()]
            load = functools.cache(lambda: Engine(entries, self._asking, n_kept=N_KEPT))
            self._worker = ChatWorker(lambda *a: load().answer(*a), ServeOptions(max_seconds=inf))
        chat = ChatRequest(model=entry.name, messages=[Message(role="user", content=question)])
        job = self._worker.start(ChatOrder(chat, 0, entry))
        try:
            while not isinstance(event := await job.receive(), Ending):
                pass
        finally:
            job.end("the client has gone")
        row = write_source(event)["d2l"]
        row = {"answer": str(event.answer), **next(iter(row["parts"]), {}), **row}
        return {key: row.get(key) for key in _ASKED}

    async def find(self, words: _Text, adapter: str | None = None, n: _Count = 3) -> dict[str, Any]:
        """Find the `n` places that fit words or a question best, with text; needs no model."""
        records, router = _read_places(self._find(adapter))
        scores = router.score(words)
        best = [records[i] for i in (-scores).argsort(kind="stable")[:n] if scores[i] > 0]
        return {"places": [{k: getattr(r, k) for k in ("document", "place", "text")} for r in best]}

    async def outline(self, adapter: str | None = None) -> str:
        """Outline a document: title, contents and beginning, if it is long, and all its places."""
        records, _ = _read_places(self._find(adapter))
        rows = [r.text if r.is_overview else f"{r.document}, {r.place}" for r in records]
        return "\n".join(row.removesuffix(", ") for row in dict.fromkeys(rows))

    def _find(self, name: str | None) -> ServedAdapter:
        """Find the adapter of a name; None: the only adapter. Raises OptionError."""
        names = list(self._library.list_entries())
        entry = self._library.find(name or names[0]) if name or len(names) == 1 else None
        if entry is None:
            raise OptionError(f"there is no adapter {name!r}: name one of {', '.join(names)}")
        return entry


@functools.lru_cache(maxsize=8)
def _read_places(entry: ServedAdapter) -> tuple[tuple[PartRecord, ...], Router]:
    """Read the places of an adapter, and their index, in which overviews have no words."""
    records = read_text(read_info(entry.folder))
    if not records:
        raise AdapterError(f"{entry.name}: keeps no text", hint="compile it without --no-text")
    return records, Router(["" if record.is_overview else record.searched for record in records])
