"""HTTP servers of d2l: access, bodies of requests, failures as JSON, and a bound socket.

Needs no torch.
"""

import asyncio
import logging
import math
import re
import secrets
import socket
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from d2l.errors import BaseModelError, D2LError, OptionError, OutOfMemoryError
from d2l.memory import explain_shortage
from d2l.serve.options import ServeOptions
from d2l.serve.protocol import RequestError

log = logging.getLogger(__name__)
#: Largest body of a request: a document of some hundred pages.
MAX_BODY_BYTES = 2_000_000
#: Bytes that are read of a larger body: its sender reads the answer only after it has sent.
_DRAINED_BYTES = 256_000_000
#: Seconds that a client may take to send a body.
_BODY_SECONDS = 30.0
#: Host headers that name this machine. A page of another site, whose name leads here by a trick,
#: sends its own name.
LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
#: Paths that need no token: they tell nothing of the adapters.
_OPEN = ("/", "/health")
#: Connections at a time; beyond, uvicorn answers 503 itself.
_MAX_CONNECTIONS = 256
#: Seconds that a connection may take to bring the head of its next request.
_HEAD_SECONDS = 10.0
#: Seconds in which uvicorn may not repeat a warning, since clients cause them.
_REPEAT_SECONDS = 60.0
_FACTS = "d2l.facts"  # of a request, in its scope
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class HttpService(Protocol):
    """Service of a server: its routes, and how it stops."""

    def make_app(self) -> ASGIApp:
        """The application."""
        ...

    async def stop(self) -> None:
        """Give up all work."""
        ...


class _Protocol(H11Protocol):
    """HTTP of uvicorn, with a time limit for heads: in uvicorn any byte, also of half a head, ends
    the wait for the next request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()

    def on_response_complete(self) -> None:
        self._await_request()  # first: the next request may begin below
        super().on_response_complete()

    def _await_request(self) -> None:
        self.loop.call_later(_HEAD_SECONDS, self._close_unless_new, self.cycle)

    def _close_unless_new(self, last: object) -> None:
        """Close the connection if `last` is still its last request."""
        if self.cycle is last:
            self.timeout_keep_alive_handler()


class _Seldom(logging.Filter):
    """Filter of a log that passes the same warning once in `_REPEAT_SECONDS`."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: dict[str, float] = {}  # times by messages

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if record.levelno != logging.WARNING:
            return True
        if now - self.passed.get(record.msg, -math.inf) < _REPEAT_SECONDS:
            return False
        self.passed[record.msg] = now
        return True


_SELDOM = _Seldom()


class HttpServer(uvicorn.Server):
    """Server that is ready to run: its socket is bound, its service made.

    `run` serves until a signal comes or `should_exit` is set, from any thread.
    """

    def __init__(self, options: ServeOptions, make_service: Callable[[], HttpService]) -> None:
        """Raises D2LError if the socket cannot be bound, or the service not be made."""
        if not options.is_local and options.token is None:
            raise D2LError(
                f"{options.host}: other machines may ask there, and no token is set",
                hint="set a token in D2L_SERVE_TOKEN",
            )
        self._socket = _bind(options.host, options.port)
        try:
            self._service = make_service()
        except BaseException:
            self._socket.close()
            raise
        super().__init__(
            uvicorn.Config(
                self._service.make_app(),
                http=_Protocol,
                ws="none",
                log_level="warning",
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_graceful_shutdown=3,
                server_header=False,
            )
        )
        logging.getLogger("uvicorn.error").addFilter(_SELDOM)
        host = f"[{options.host}]" if ":" in options.host else options.host
        self.address = f"http://{host}:{self._socket.getsockname()[1]}"

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        with self._socket:
            super().run([*(sockets or []), self._socket])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all requests at once, so that no connection is waited for."""
        await self._service.stop()
        await super().shutdown(sockets)


def make_app(pages: Mapping[str, Handler], answer: Handler, options: ServeOptions) -> ASGIApp:
    """Make an application of pages by their paths, and of the handler of conversations."""
    handlers = (HTTPException, RequestError, Exception)
    app = Starlette(
        routes=[
            *(Route(path, guard(handler, options)) for path, handler in pages.items()),
            Route("/v1/chat/completions", guard(answer, options), methods=["POST"]),
        ],
        exception_handlers=dict.fromkeys(handlers, answer_failure),
    )
    return _reporting(app, options.report)


def record(request: Request, **facts: Any) -> None:
    """Note `model` or `tokens` (of prompt and answer) for the line that reports a request."""
    request.scope[_FACTS].update(facts)


def _reporting(app: ASGIApp, report: Callable[[str], object]) -> ASGIApp:
    """Wrap an application: report each request when its answer is sent or given up, by method,
    path, status, model, tokens and seconds, without its texts. Requests that are at work when the
    server stops end with status 503, unless a status was sent."""

    async def reporting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        began, facts = time.monotonic(), dict[str, Any]()
        scope[_FACTS] = facts

        async def watch(message: Message) -> None:
            facts.setdefault("status", message.get("status"))
            await send(message)

        try:
            await app(scope, receive, watch)
        except asyncio.CancelledError:
            if "status" not in facts:
                failure = RequestError(503, "the server is stopping", code="unavailable")
                answer = await answer_failure(Request(scope), failure)
                await answer(scope, receive, watch)
        finally:
            words = [scope["method"], scope["path"], str(facts.get("status", "given up"))]
            words += [facts["model"]] if "model" in facts else []
            if "tokens" in facts:
                words.append("{:,} + {:,} tokens".format(*facts["tokens"]))
            report(f"{'  '.join(words)}  {time.monotonic() - began:.1f} s")

    return reporting


def guard(handler: Handler, options: ServeOptions) -> Handler:
    """Check the Host header, if only this machine gets in, and the token, if there is one."""

    async def check(request: Request) -> Response:
        host, token = request.headers.get("host", ""), options.token
        if options.is_local and not LOOPBACK.fullmatch(host):
            raise RequestError(403, f"this server is not called {host!r}", code="wrong_host")
        if token is not None and request.url.path not in _OPEN:
            kind, _, given = request.headers.get("authorization", "").partition(" ")
            is_right = secrets.compare_digest(given.strip().encode(), token.encode())
            if kind.lower() != "bearer" or not is_right:
                message = "a token is needed, and this is not it"
                raise RequestError(401, message, code="invalid_api_key")
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 - uvicorn would print all of it
            return await answer_failure(request, error)

    return check


async def answer_failure(_: Request, error: Exception) -> Response:
    """Write a failure as JSON."""
    failure = explain(error)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}
    return JSONResponse(failure.body, failure.status, headers.get(failure.status))


def explain(error: Exception) -> RequestError:
    """Turn an error into the client's error; errors of the server go into the log, too."""
    error = explain_shortage(error) or error
    if isinstance(error, HTTPException):  # of Starlette's router
        return RequestError(error.status_code, error.detail)
    if isinstance(error, BaseModelError):  # no chat template, or it refuses these messages
        return RequestError(400, error.describe(), param="messages")
    if isinstance(error, OptionError):  # a page that the adapter does not have
        return RequestError(400, error.describe(), param="d2l")
    if isinstance(error, D2LError):
        log.warning("a request failed: %s", error.message)
        if isinstance(error, OutOfMemoryError):  # memory may be free later
            return RequestError(503, error.describe(), code="out_of_memory")
        return RequestError(500, error.describe(), code="adapter_error")
    if not isinstance(error, RequestError):
        name = type(error).__name__
        log.warning("a request failed: %s: %s", name, error)
        for line in "".join(traceback.format_exception(error)).splitlines():
            log.info("%s", line)
        return RequestError(500, f"the server failed ({name})", code="failed")
    return error


async def read_body(request: Request) -> bytes:
    """Read the body of a request, JSON of at most `MAX_BODY_BYTES`; raises RequestError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # which a page of another site cannot send without permission
        raise RequestError(415, "the body must be of the type application/json")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size <= MAX_BODY_BYTES:
                    parts.append(part)
                elif size > _DRAINED_BYTES:
                    break
    except TimeoutError as error:
        raise RequestError(408, "the body took too long", code="timeout") from error
    except ClientDisconnect as error:
        raise RequestError(400, "the client has gone") from error
    if size > MAX_BODY_BYTES:
        raise RequestError(
            413, f"the body is larger than {MAX_BODY_BYTES:,} bytes", code="request_too_large"
        )
    return b"".join(parts)


def _bind(host: str, port: int) -> socket.socket:
    """Open a listening socket; raises D2LError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise D2LError(
            f"{host}:{port}: cannot be listened at ({error.strerror or error})",
            hint="choose another --port, or --port 0 for any that is free",
        ) from error
