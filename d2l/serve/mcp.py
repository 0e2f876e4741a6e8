"""`d2l mcp`: adapters behind the Model Context Protocol, for agents and editors.

The first question loads the base, and torch with it.
"""

import asyncio
import contextlib
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from d2l.adapters.info import read_info
from d2l.adapters.parts import PartRecord, read_text
from d2l.answer.cite import Answer, Citation
from d2l.answer.options import AskOptions
from d2l.errors import AdapterError, D2LError
from d2l.memory import memory_errors
from d2l.parts.router import Router
from d2l.serve.library import Library, ServedAdapter
from d2l.serve.protocol import ChatRequest, Message, RequestError
from d2l.version import __version__

if TYPE_CHECKING:
    from d2l.serve.engine import Engine

_MOST_PLACES = 20  # of one call of `find`
_SHOWN = 20  # adapters in a description
_Text = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=1, le=_MOST_PLACES, description="Most places to return.")]
_Name = Annotated[str | None, Field(description="Adapter by name; not needed if there is one.")]


class McpService:
    """Tools of a server; their docstrings are what a client's model reads."""

    def __init__(self, library: Library, asking: AskOptions) -> None:
        self._library, self._asking = library, asking
        self._engine: Engine | None = None
        self._worker = ThreadPoolExecutor(1, "d2l-mcp")

    def run(self) -> None:
        """Serve on stdin and stdout until stdin ends or the client has gone."""
        server = MCPServer("d2l", version=__version__, log_level="WARNING")
        entries = self._library.list_entries().values()
        told = "; ".join(_describe(entry) for entry in list(entries)[:_SHOWN])
        hints = ToolAnnotations(read_only_hint=True, open_world_hint=False)
        for tool in (self.ask, self.find, self.outline):
            text = f"{inspect.getdoc(tool)}\n\nAdapters: {told}"
            server.add_tool(tool, description=text, annotations=hints)
        # The loop waits for a thread that reads stdin; the main thread stays free for signals.
        with contextlib.suppress(BrokenPipeError):
            ThreadPoolExecutor(1).submit(server.run).result()

    async def ask(self, question: _Text, adapter: _Name = None) -> dict[str, Any]:
        """Answer a question about a document: a fact, a list, steps or a summary.

        A small local model answers, so check `answer` against `passage`, the lines of the document
        at `place`. `supported`: the answer's words stand there. If `found` is false, the document
        does not answer, and the passage is the closest. Ask for one thing, in a whole sentence.
        """
        ended, loop = threading.Event(), asyncio.get_running_loop()
        try:
            with _tool_errors():
                work = (self._answer, self._find(adapter), question, ended.is_set)
                answer = await loop.run_in_executor(self._worker, *work)
        finally:
            ended.set()  # if the client has gone, nobody needs the rest
        names = ("found", "supported", "passage", "place", "finish")
        document = answer.citations[0].part.document if answer.citations else None
        own = {name: getattr(answer, name) for name in names}
        return {"answer": answer.text, **own, "document": document}

    async def find(self, words: _Text, adapter: _Name = None, count: _Count = 3) -> dict[str, Any]:
        """Find the places of a document that have some words, best first, with their whole text.

        Quick, without a model. `words`: the document's own, or a question. To read around an
        answer, or to compare several places.
        """
        with _tool_errors():
            records, router = await asyncio.to_thread(_read_places, self._find(adapter))
        scores = router.score(words)
        order = [int(n) for n in np.argsort(-scores, kind="stable") if scores[n] > 0]
        cited = [Citation(n, records[n], float(scores[n])) for n in order[:count]]
        return {"places": [c.to_json() | {"text": c.part.text} for c in cited]}

    async def outline(self, adapter: _Name = None) -> str:
        """Outline a document: title, length, beginning, chapters and sections, if it has any.

        Quick, without a model. To learn what the document is about before questions.
        """
        with _tool_errors():
            records, _ = await asyncio.to_thread(_read_places, self._find(adapter))
        wholes = [record.text for record in records if record.is_overview]
        places = [f"{r.document}, {r.place}".removesuffix(", ") for r in records]
        return "\n\n".join(wholes) or "\n".join(dict.fromkeys(places))

    def _find(self, name: str | None) -> ServedAdapter:
        """Find the adapter of a name; None: the only one. Raises AdapterError."""
        names = list(self._library.list_entries())
        entry = self._library.find(name or names[0]) if name or len(names) == 1 else None
        if entry is None:
            message = f"there is no adapter {name!r}" if name else "the adapter is not named"
            raise AdapterError(message, hint=f"name one of: {', '.join(names[:_SHOWN])}")
        return entry

    def _answer(self, entry: ServedAdapter, question: str, is_due: Callable[[], bool]) -> Answer:
        """Answer, in the worker's thread, which does one question after another."""
        with contextlib.redirect_stdout(sys.stderr), memory_errors():
            from d2l.serve.engine import N_KEPT, ChatOrder, Engine

            chat = ChatRequest(model=entry.name, messages=[Message(role="user", content=question)])
            self._engine = self._engine or Engine([entry], self._asking, n_kept=N_KEPT)
            ending = self._engine.answer(ChatOrder(chat, 0, entry), lambda _: None, is_due)
        assert ending.answer is not None
        return ending.answer


@contextlib.contextmanager
def _tool_errors() -> Iterator[None]:
    """Tell the client an error that its user can fix, with its hint."""
    try:
        yield
    except (D2LError, RequestError) as error:
        text = error.describe() if isinstance(error, D2LError) else str(error)
        raise ToolError(text) from error


@functools.lru_cache(maxsize=8)
def _read_places(entry: ServedAdapter) -> tuple[tuple[PartRecord, ...], Router]:
    """Read the places of an adapter, and their index, in which overviews have no words; raises
    AdapterError if it keeps no text."""
    records = read_text(read_info(entry.folder))
    if not records:
        hint = "compile the document again without --no-text"
        raise AdapterError(f"{entry.name}: keeps no text of its document", hint=hint)
    return records, Router(["" if record.is_overview else record.searched for record in records])


def _describe(entry: ServedAdapter) -> str:
    """Describe an adapter by its name and its documents."""
    made = read_info(entry.folder).provenance
    inputs = [source.name for source in made.inputs[:3]] if made else []
    return f"{entry.name} ({', '.join(inputs)})" if inputs else entry.name
