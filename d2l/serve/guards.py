"""What every request has to pass before it is looked at: its host, its token, its size and pace.

ASGI in, ASGI out: requests that do not pass are answered here.
"""

import asyncio
import secrets
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from d2l.serve.failures import RequestError

#: Names of this machine for itself.
LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: What is read of a body that is too large, so that its sender gets to read the answer.
_DRAINED_BYTES = 256_000_000
#: How long a client may take to send a request's body, in seconds.
_BODY_SECONDS = 30.0
#: What may be seen without a token: it holds nothing of the adapters.
_OPEN = ("/", "/health")


@dataclass(frozen=True)
class Guards:
    """What is demanded. `hosts` are the names that the server goes by; empty: any, since it is not
    on this machine's own interface alone. `token` None: none is needed."""

    hosts: tuple[str, ...]
    token: str | None
    max_body_bytes: int


class Guarded:
    """An application behind its guards."""

    def __init__(self, app: ASGIApp, guards: Guards) -> None:
        self._app = app
        self._guards = guards

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "http":
            try:
                self._check(Request(scope))
            except RequestError as error:
                await answer_failure(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, request: Request) -> None:
        # A page of another site whose name was made to lead here would send that name.
        try:
            host = request.url.hostname or ""
        except ValueError as error:
            raise RequestError(400, "the Host header names no host") from error
        if self._guards.hosts and host not in self._guards.hosts:
            raise RequestError(403, f"this server is not called {host!r}", code="wrong_host")
        if self._guards.token is None or request.url.path in _OPEN:
            return
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        right = secrets.compare_digest(given.strip().encode(), self._guards.token.encode())
        if kind.lower() != "bearer" or not right:
            raise RequestError(401, "a token is needed, and this is not it", code="invalid_api_key")


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request, JSON of at most `limit` bytes; raises RequestError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # which pages of other sites cannot send without being asked
        raise RequestError(415, "the body must be of the type application/json")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size <= limit:
                    parts.append(part)
                elif size > _DRAINED_BYTES:
                    break
    except TimeoutError as error:
        raise RequestError(408, "the body took too long", code="timeout") from error
    except ClientDisconnect as error:
        raise RequestError(400, "the client has gone") from error
    if size > limit:
        raise RequestError(
            413, f"the body is larger than {limit:,} bytes", code="request_too_large"
        )
    return b"".join(parts)


def answer_failure(error: RequestError) -> JSONResponse:
    """A failure as an answer."""
    headers = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == 503:
        headers["Retry-After"] = "1"
    return JSONResponse(error.to_json(), error.status, headers)
