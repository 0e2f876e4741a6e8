"""HTTP application: it checks a request, makes an order of it, and sends the answer."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from d2l.answer.events import Ending, Event, Start, TextPiece
from d2l.errors import D2LError
from d2l.serve.engine import ChatJob, ChatOrder, ChatWorker, Engine
from d2l.serve.library import Library, ServedAdapter
from d2l.serve.options import ServeOptions
from d2l.serve.protocol import ChatRequest, Reply, RequestError, refuse_model, write_event
from d2l.serve.web import Handler, explain, make_app, read_body, record

#: Page of the server: one file, which loads nothing from elsewhere.
PAGE = Path(__file__).with_name("page.html")
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: Reads the documents that an adapter was compiled from; raises D2LError if they are gone.
ReadDocument = Callable[[Path], str]


class Service:
    """Routes of the server, and the objects that they share."""

    def __init__(
        self, library: Library, engine: Engine, read_document: ReadDocument, options: ServeOptions
    ) -> None:
        self._library = library
        self._engine = engine
        self._options = options
        self._read_text = functools.lru_cache(maxsize=8)(
            lambda entry: read_document(entry.folder)  # anew when the entry's stamp changes
        )
        self.worker = ChatWorker(engine.answer, options)

    def make_app(self) -> ASGIApp:
        """Make the application."""
        routes: dict[str, Handler] = {
            "/": self._show_page,
            "/health": self._show_health,
            "/v1/models": self._list_models,
            "/v1/models/{name:path}": self._show_model,
            "/documents/{name:path}": self._show_document,
        }
        return make_app(routes, self._answer, self._options)

    async def stop(self) -> None:
        """Give up all jobs and refuse new orders."""
        self.worker.stop()

    async def _show_page(self, _: Request) -> Response:
        return HTMLResponse(PAGE.read_text("utf-8"), headers={"Content-Security-Policy": _POLICY})

    async def _show_health(self, _: Request) -> Response:
        n_working, n_waiting = self.worker.count()
        return JSONResponse({"status": "ok", "busy": bool(n_working), "waiting": n_waiting})

    async def _list_models(self, _: Request) -> Response:
        entries = [None, *self._library.list_entries().values()]
        return JSONResponse({"object": "list", "data": [self._describe(e) for e in entries]})

    async def _show_model(self, request: Request) -> Response:
        return JSONResponse(self._describe(self._find(request.path_params["name"])))

    async def _show_document(self, request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse({"adapter": name, "characters": len(await self._find_text(name))})

    async def _answer(self, request: Request) -> Response:
        """Answer a conversation, whole or as a stream; gives up when the client has gone."""
        chat = ChatRequest.read(await read_body(request))
        record(request, model=chat.model)
        most = min(chat.most_tokens, self._options.max_tokens)
        entry, document = self._find(chat.model), await self._find_document(chat)
        order = ChatOrder(chat, most, entry, document)
        job = self.worker.start(order)
        # The body is read, so the next message is that the client has gone or has the answer.
        leaving = asyncio.ensure_future(request.receive())
        leaving.add_done_callback(lambda _: job.end("the client has gone"))
        start = await job.receive()  # a prompt that cannot be made has a status of its own
        assert isinstance(start, Start)
        reply = Reply(chat.model, start)
        if chat.stream:
            events = _stream(reply, start, job, request, usage=chat.wants_usage)
            headers = {"Cache-Control": "no-store"}
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        pieces: list[TextPiece] = []
        while isinstance(event := await job.receive(), TextPiece):
            pieces.append(event)
        assert isinstance(event, Ending)
        record(request, tokens=(start.n_prompt, event.n_tokens))
        return JSONResponse(reply.write(pieces, event))

    def _find(self, name: str) -> ServedAdapter | None:
        """Find the adapter of a name, None for the base; raises RequestError for other names."""
        if name == self._library.base:
            return None
        entry = self._library.find(name)
        if entry is None:
            raise refuse_model(name, [*self._library.list_entries(), self._library.base])
        return entry

    async def _find_document(self, chat: ChatRequest) -> str | None:
        """Find the document for the base's prompt."""
        choice = chat.document
        if choice is None:
            return None
        if chat.model != self._library.base or [m.role for m in chat.messages] != ["user"]:
            raise RequestError(
                400, "a document goes with one question to the base", param="document"
            )
        return choice["text"] if "text" in choice else await self._find_text(choice["adapter"])

    async def _find_text(self, name: str) -> str:
        """Read the text of an adapter's document."""
        entry = self._find(name)
        if entry is None:
            raise RequestError(404, "the base has no document", code="document_not_found")
        try:
            return await asyncio.to_thread(self._read_text, entry)
        except D2LError as error:
            raise RequestError(404, error.message, code="document_not_found") from error

    def _describe(self, entry: ServedAdapter | None) -> dict[str, Any]:
        """Describe an adapter, or the base, as OpenAI's clients read a model."""
        model = {"object": "model", "owned_by": "d2l"}
        if entry is None:
            return model | {
                "id": self._library.base,
                "created": self._library.first.created,
                "parent": None,
                "max_model_len": self._engine.window,
            }
        return model | {
            "id": entry.name,
            "created": entry.created,
            "parent": entry.base,
            "root": entry.folder.name,
        }


async def _stream(
    reply: Reply, start: Start, job: ChatJob, request: Request, *, usage: bool
) -> AsyncIterator[str]:
    """Stream an answer as server-sent events, from its start on."""
    event: Event = start
    try:
        yield reply.write_chunk(event)
        while not isinstance(event, Ending):
            event = await job.receive()
            yield reply.write_chunk(event)
        record(request, tokens=(start.n_prompt, event.n_tokens))
        if usage:
            yield reply.write_usage(event)
        yield "data: [DONE]\n\n"
    except Exception as error:  # noqa: BLE001 - the status is out already
        yield write_event(explain(error).body)
