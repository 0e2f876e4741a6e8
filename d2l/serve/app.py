"""The HTTP application: how a request becomes an order, a place in line, and an answer."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from d2l.errors import D2LError
from d2l.serve.engine import Engine, Order, Start
from d2l.serve.failures import RequestError
from d2l.serve.generation import Ending, Piece
from d2l.serve.guards import Guarded, Guards, answer_failure, read_body
from d2l.serve.library import Entry, Library
from d2l.serve.line import Line, Ticket
from d2l.serve.replies import ChatWords, Reply, TextWords, Words, write_failure
from d2l.serve.requests import ChatRequest, CompletionRequest, read_request

log = logging.getLogger(__name__)
#: The page: all in one file, which loads nothing from elsewhere.
PAGE = Path(__file__).with_name("page.html")
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: Text of the documents that an adapter was compiled from; raises D2LError where it is gone.
ReadDocument = Callable[[Path], str]
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True)
class Limits:
    """What a request may take: answer tokens, seconds in all, and how many requests wait."""

    max_tokens: int = 1024
    seconds: float = 120.0
    max_waiting: int = 32


@dataclass
class Service:
    """What the routes share."""

    library: Library
    engine: Engine
    read_document: ReadDocument
    limits: Limits
    line: Line = field(init=False)

    def __post_init__(self) -> None:
        self.line = Line(self.limits.max_waiting)
        self.find_text = functools.lru_cache(maxsize=8)(self._read_text)

    def find(self, name: str) -> Entry | None:
        """The adapter of a name, None for the base; raises RequestError for other names."""
        if name == self.library.base:
            return None
        entry = self.library.find(name)
        if entry is None:
            raise RequestError(
                404, f"there is no model {name!r} here", code="model_not_found", param="model"
            )
        return entry

    def _read_text(self, entry: Entry) -> str:
        try:
            return self.read_document(entry.folder)
        except D2LError as error:
            raise RequestError(404, error.message, code="document_not_found") from error

    async def find_document(self, request: ChatRequest) -> str | None:
        """The document that a request wants in the base's prompt."""
        choice = request.document
        if choice is None:
            return None
        if request.model != self.library.base or [m.role for m in request.messages] != ["user"]:
            raise RequestError(
                400, "a document goes with one question to the base", param="document"
            )
        if choice.text is not None:
            return choice.text
        entry = self.find(choice.adapter or "")
        if entry is None:
            raise RequestError(400, "the base has no document", param="document.adapter")
        return await asyncio.to_thread(self.find_text, entry)

    def put_in_line(self, order: Order) -> Ticket:
        """A place in line; raises RequestError where there is none."""

        def work(ticket: Ticket) -> None:
            ticket.tell(self.engine.answer(order, ticket.tell, lambda: ticket.is_due))

        ticket = Ticket(work, self.limits.seconds)
        self.line.join(ticket)
        return ticket


def make_app(service: Service, guards: Guards) -> ASGIApp:
    """The application, guarded."""

    async def show_page(_: Request) -> Response:
        text = await asyncio.to_thread(PAGE.read_text, "utf-8")
        return HTMLResponse(text, headers={"Content-Security-Policy": _POLICY})

    async def tell_health(_: Request) -> Response:
        line = service.line
        return JSONResponse({"status": "ok", "busy": line.is_busy, "waiting": line.n_waiting})

    async def list_models(_: Request) -> Response:
        entries = await asyncio.to_thread(service.library.list_entries)
        rows = [_describe_base(service), *(_describe(entry) for entry in entries.values())]
        return JSONResponse({"object": "list", "data": rows})

    async def tell_model(request: Request) -> Response:
        entry = service.find(request.path_params["name"])
        return JSONResponse(_describe_base(service) if entry is None else _describe(entry))

    async def tell_document(request: Request) -> Response:
        entry = service.find(request.path_params["name"])
        if entry is None:
            raise RequestError(404, "the base has no document", code="document_not_found")
        text = await asyncio.to_thread(service.find_text, entry)
        return JSONResponse({"adapter": entry.name, "characters": len(text)})

    async def answer_chat(request: Request) -> Response:
        body = await read_body(request, guards.max_body_bytes)
        wanted = read_request(ChatRequest, body)
        entry = service.find(wanted.model)
        document = await service.find_document(wanted)
        sampling = wanted.make_sampling(service.limits.max_tokens)
        order = Order(entry, sampling, turns=wanted.turns, document=document)
        return await _answer(service, request, wanted, order, ChatWords())

    async def answer_text(request: Request) -> Response:
        body = await read_body(request, guards.max_body_bytes)
        wanted = read_request(CompletionRequest, body)
        sampling = wanted.make_sampling(service.limits.max_tokens)
        order = Order(service.find(wanted.model), sampling, text=wanted.text)
        return await _answer(service, request, wanted, order, TextWords())

    routes = [
        Route("/", _tell_failures(show_page)),
        Route("/health", _tell_failures(tell_health)),
        Route("/v1/models", _tell_failures(list_models)),
        Route("/v1/models/{name:path}", _tell_failures(tell_model)),
        Route("/documents/{name:path}", _tell_failures(tell_document)),
        Route("/v1/chat/completions", _tell_failures(answer_chat), methods=["POST"]),
        Route("/v1/completions", _tell_failures(answer_text), methods=["POST"]),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lambda _: _living(service),
        exception_handlers={HTTPException: _tell_http_failure},
    )
    return Guarded(app, guards)


@contextlib.asynccontextmanager
async def _living(service: Service) -> AsyncIterator[None]:
    try:
        yield
    finally:
        service.line.close()


def _tell_failures(handler: Handler) -> Handler:
    """A handler whose failures are answers."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except RequestError as error:
            return answer_failure(error)
        except Exception as error:  # noqa: BLE001 - the server outlives what one request does
            return answer_failure(_explain(error))

    return handle


def _explain(error: Exception) -> RequestError:
    """What no one foresaw: logged whole, told in a word."""
    if isinstance(error, RequestError):
        return error
    log.error("a request failed", exc_info=error)
    return RequestError(500, f"the server failed ({type(error).__name__})", code="internal_error")


async def _tell_http_failure(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return answer_failure(RequestError(error.status_code, error.detail))


async def _answer(
    service: Service,
    request: Request,
    wanted: ChatRequest | CompletionRequest,
    order: Order,
    words: Words,
) -> Response:
    """An order put in line and answered, whole or as a stream; given up if the client goes."""
    reply = Reply(words, wanted.model, order.sampling.top_logprobs is not None)
    ticket = service.put_in_line(order)
    leaving = asyncio.create_task(_cancel_when_gone(request, ticket))
    try:
        news = ticket.news()
        start = await anext(news)  # a prompt that cannot be made has a status of its own
        assert isinstance(start, Start)
        if wanted.stream:
            events = _stream(reply, start, news, usage=wanted.wants_usage)
            return StreamingResponse(
                _until_left(events, leaving, ticket),
                media_type="text/event-stream",
                headers={"Cache-Control": "no-store"},
            )
        *pieces, ending = [item async for item in news]
        assert isinstance(ending, Ending)
        leaving.cancel()
        return JSONResponse(reply.whole(start, pieces, ending))
    except StopAsyncIteration:  # given up before its turn: nobody is there to read this
        return answer_failure(RequestError(503, "given up", code="canceled"))
    except BaseException:
        leaving.cancel()
        ticket.cancel()
        raise


async def _cancel_when_gone(request: Request, ticket: Ticket) -> None:
    """Give a ticket up when its client hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    ticket.cancel()


async def _until_left(
    events: AsyncIterator[str], leaving: asyncio.Task[None], ticket: Ticket
) -> AsyncIterator[str]:
    """The events; however they end, nothing is worked on behind them."""
    try:
        async for event in events:
            yield event
    finally:
        leaving.cancel()
        ticket.cancel()


async def _stream(
    reply: Reply, start: Start, news: AsyncIterator[Any], *, usage: bool
) -> AsyncIterator[str]:
    """An answer as server-sent events."""
    try:
        if (first := reply.first(start)) is not None:
            yield first
        async for item in news:
            if isinstance(item, Piece):
                yield reply.piece(item)
            elif isinstance(item, Ending):
                yield reply.last(start, item, usage=usage)
    except Exception as error:  # noqa: BLE001 - the status is out already
        yield write_failure(_explain(error).to_json())


def _describe_base(service: Service) -> dict[str, Any]:
    first = service.library.first
    return {
        "id": service.library.base,
        "object": "model",
        "created": first.created,
        "owned_by": "d2l",
        "parent": None,
        "max_model_len": service.engine.window,
    }


def _describe(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.name,
        "object": "model",
        "created": entry.created,
        "owned_by": "d2l",
        "parent": entry.base,
        "root": entry.folder.name,
    }
