"""`d2l serve --upstream`: d2l chooses the part of a manual, another engine answers with it.

No model is loaded here, and no torch: a request's words choose the part, whose name goes to the
engine as the model's. Answers and errors of the engine are passed on.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from d2l.adapters.exported_parts import ExportedPart, ExportIndex, read_index
from d2l.answer.cite import Answer, cite
from d2l.answer.events import Ending, Start, TextPiece
from d2l.answer.refusal import REFUSAL, may_refuse, show
from d2l.answer.scope import list_needed, read_question
from d2l.parts.kept import PartOptions
from d2l.parts.open import open_kept
from d2l.serve.client import MOST_BYTES
from d2l.serve.library import read_stamp
from d2l.serve.options import ServeOptions, Upstream
from d2l.serve.protocol import (
    PartFields,
    Reply,
    RequestError,
    read_model,
    refuse_model,
    write_event,
)
from d2l.serve.web import LOOPBACK, HttpServer, make_app, read_body, record

_CONNECT_SECONDS = 5.0
_WRONG = "does not answer as OpenAI's interface does"
#: Last characters of a turn that choose the part, and first of an answer that has a passage.
_MOST_READ = 5_000
#: Fields by which an engine could work without a bound.
_DROPPED = {"d2l", "n", "best_of", "n_predict", "max_new_tokens", "max_tokens", "min_tokens"}
#: Errors of JSON of another form; RuntimeError: it is too deep.
_MISREAD = (ValueError, TypeError, LookupError, AttributeError, RuntimeError)


class RoutedMessage(BaseModel):
    """Turn of a request; only its text is read here."""

    role: str
    content: Any = None

    @property
    def turn(self) -> dict[str, str]:
        """Turn with its text, as the router takes it."""
        pieces = self.content if isinstance(self.content, list) else [{"text": self.content}]
        texts = [piece.get("text") for piece in pieces if isinstance(piece, dict)]
        text = "".join(text for text in texts if isinstance(text, str))
        return {"role": self.role, "content": text[-_MOST_READ:]}


class RoutedRequest(BaseModel):
    """Fields of a request that are read here."""

    model_config = ConfigDict(strict=True)
    model: str
    messages: Annotated[list[RoutedMessage], Field(min_length=1)]
    stream: bool | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    d2l: PartFields | None = None


class UpstreamService:
    """Routes of one model, the manual."""

    def __init__(self, folder: Path, upstream: Upstream, options: ServeOptions) -> None:
        self._folder, self._options = folder, options
        self._root = upstream.root
        self._kind: str | None = None  # of the engine, once it was asked
        self._prefix: str | None = None  # of parts' names, once the engine was asked
        self._stamp = read_stamp(folder)
        self._index = read_index(folder)
        self._kept = open_kept(self._index.to_parts())
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=None),
            headers={"Accept-Encoding": "identity"},
            trust_env=not LOOPBACK.fullmatch(urlsplit(self._root).netloc),  # for proxies
        )

    def make_app(self) -> ASGIApp:
        """Make the application."""
        pages = {
            "/health": self._show_health,
            "/v1/models": self._list_models,
            "/v1/models/{name:path}": self._show_model,
        }
        return make_app(pages, self._answer, self._options)

    async def stop(self) -> None:
        """End all connections to the engine."""
        await self._client.aclose()

    @property
    def index(self) -> ExportIndex:
        """Parts as they are on disk now; raises AdapterError."""
        if (stamp := read_stamp(self._folder)) != self._stamp:
            self._index = read_index(self._folder)
            self._kept, self._stamp = open_kept(self._index.to_parts()), stamp
        return self._index

    async def _show_health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _list_models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._describe()]})

    async def _show_model(self, request: Request) -> Response:
        self._check_name(request.path_params["name"])
        return JSONResponse(self._describe())

    def _describe(self) -> dict[str, Any]:
        index = self.index
        return {"id": index.name, "object": "model", "owned_by": "d2l", "parent": index.base}

    def _check_name(self, name: str) -> None:
        known = self.index.name
        if name.removesuffix(".lora") != known:
            raise refuse_model(name, [known])

    async def _answer(self, request: Request) -> Response:
        """Choose the part, and pass the request on; the engine's work ends with the client."""
        body, work = await read_body(request), asyncio.current_task()
        chat = read_model(RoutedRequest, body)
        record(request, model=chat.model)
        self._check_name(chat.model)
        fields = chat.d2l or PartFields()
        if fields.whole or (fields.parts or 1) > 1:
            raise RequestError(400, "the engine reads one part for each answer", param="d2l")
        turns = [message.turn for message in chat.messages]
        question = read_question(turns)
        choice = self._kept.route(question, PartOptions(1, fields.page), ())
        if not choice.is_answered or not choice.indices:
            return _refuse_answer(chat)
        part = self._index.parts[choice.indices[0]]
        values = {name: value for name, value in json.loads(body).items() if name not in _DROPPED}
        values |= self._bound(chat)
        values["messages"] = [values["messages"][n] for n in list_needed(turns)]
        explain = partial(cite, self._kept, choice, question.whole)
        leaving = asyncio.ensure_future(request.receive())  # the next message: the client has gone
        leaving.add_done_callback(lambda done: done.cancelled() or work is None or work.cancel())
        deadline = asyncio.get_running_loop().time() + self._options.max_seconds
        try:
            async with asyncio.timeout_at(deadline):
                values |= await self._address(part, request)
                reply = await self._send("POST", "/v1/chat/completions", request, values)
                if chat.stream:
                    events = self._stream(reply, explain, chat.model, deadline)
                    headers = {"Cache-Control": "no-store"}
                    return StreamingResponse(events, 200, headers, "text/event-stream")
                answer = json.loads(await _read_whole(reply))
            text, finish = _read_choice(answer, "message")
            source = explain(text[:_MOST_READ], "length" if finish == "length" else "stop")
            if show(text) != text:
                answer["choices"][0]["message"]["content"] = show(text)
            return JSONResponse({**answer, "d2l": source.to_json()})
        except httpx2.HTTPStatusError as error:  # the engine's own, as it is
            reply = error.response
            status = reply.status_code if 300 <= reply.status_code < 600 else 502
            return Response(reply.content, status, media_type=reply.headers.get("content-type"))
        except (httpx2.HTTPError, OSError, *_MISREAD) as error:
            raise _explain(error, self._root) from error
        finally:
            leaving.cancel()

    def _bound(self, chat: RoutedRequest) -> dict[str, int]:
        """Bound the longest answer by this server's limit."""
        most = self._options.max_tokens
        if chat.max_completion_tokens is not None:
            return {"max_completion_tokens": min(chat.max_completion_tokens, most)}
        return {"max_tokens": min(chat.max_tokens or most, most)}

    async def _address(self, part: ExportedPart, request: Request) -> dict[str, Any]:
        """Make the fields by which the engine knows a part. llama.cpp numbers its adapters; the
        numbers are asked for each time, since their order may change. Its cache of prompts does not
        tell adapters apart (ggml-org/llama.cpp, issue 26207), so it is off.
        """
        if self._kind != "openai":
            loaded = await self._read("/lora-adapters", request)
            if isinstance(loaded, list):
                self._kind = "llama.cpp"
                ids = {_stem(row["path"]): row["id"] for row in loaded}
                if part.name not in ids:
                    message = f"the engine at {self._root} has not loaded {part.name}"
                    raise RequestError(502, message, code="bad_upstream")
                lora = [{"id": ids[part.name], "scale": 1.0}]
                return {"model": part.name, "lora": lora, "cache_prompt": False}
            if self._kind == "llama.cpp":
                raise ValueError("no list of adapters")
            self._kind = "openai"
        if self._prefix is None:  # SGLang wants the base's name before the part's
            models = (await self._read("/v1/models", request) or {}).get("data") or []
            own = [m for m in models if m.get("owned_by") == "sglang" and not m.get("parent")]
            self._prefix = f"{own[0]['id']}:" if own else ""
        return {"model": self._prefix + part.name}

    async def _read(self, path: str, request: Request) -> Any:
        """Read the JSON at a path; None if the engine has no such path. Other errors, such as of
        llama.cpp while it loads, show nothing of the engine's kind, so they are raised.
        """
        try:
            reply = await self._send("GET", path, request)
        except httpx2.HTTPStatusError as error:
            if error.response.status_code in (404, 405):
                return None
            raise
        return json.loads(await _read_whole(reply))

    async def _send(
        self, method: str, path: str, request: Request, body: Any = None
    ) -> httpx2.Response:
        """Ask the engine; raises HTTPStatusError with its reply as read. The client's token is the
        engine's, unless this server has its own."""
        token = request.headers.get("authorization")
        headers = {"Authorization": token} if token and self._options.token is None else {}
        asked = self._client.build_request(
            method, f"{self._root}{path}", json=body, headers=headers
        )
        reply = await self._client.send(asked, stream=True)
        if not reply.is_success:
            kind = {"Content-Type": reply.headers.get("content-type", "application/json")}
            content = await _read_whole(reply)
            read = httpx2.Response(reply.status_code, headers=kind, content=content)
            raise httpx2.HTTPStatusError("refused", request=asked, response=read)
        return reply

    async def _stream(
        self, reply: httpx2.Response, explain: Callable[..., Answer], model: str, deadline: float
    ) -> AsyncIterator[str]:
        """Pass the engine's events on, and before the last one an event with place and passage."""
        head = {"object": "chat.completion.chunk", "id": "d2l", "created": 0, "model": model}
        held, text, end = list[dict[str, Any]](), "", ""
        events = aiter(httpx2.EventSource(reply, MOST_BYTES))
        try:
            while True:
                async with asyncio.timeout_at(deadline):
                    data = getattr(await anext(events, None), "data", "[DONE]")
                if data == "[DONE]":
                    break
                if len(text) > MOST_BYTES:
                    raise httpx2.ReadError("too large")
                if not data:  # an event of other fields
                    continue
                held.append(json.loads(data))
                piece, finish = _read_choice(held[-1], "delta")
                text, end = text + piece, finish or end
                if finish or not may_refuse(text):
                    yield _write_events(held, text)
                    held = []
            source = explain(text[:_MOST_READ], "length" if end == "length" else "stop")
            yield _write_events([*held, {**head, "choices": [], "d2l": source.to_json()}], text)
            yield "data: [DONE]\n\n"
        except (httpx2.HTTPError, OSError, *_MISREAD) as error:  # the status is out already
            yield write_event(_explain(error, self._root).body)
        finally:
            await reply.aclose()


async def _read_whole(reply: httpx2.Response) -> bytes:
    """Read a reply to its end, or to `MOST_BYTES`."""
    data = await anext(reply.aiter_raw(MOST_BYTES), b"")
    await reply.aclose()
    return data


def _write_events(events: list[dict[str, Any]], text: str) -> str:
    """Write events; the refusal that networks learned becomes that of d2l, as in whole answers."""
    word = show(text)
    for event in events if word != text else ():
        if _read_choice(event, "delta")[0]:
            event["choices"][0]["delta"]["content"], word = word, ""
    return "".join(map(write_event, events))


def _refuse_answer(chat: RoutedRequest) -> Response:
    """Refuse an answer if no part shares enough words with the question; no engine is asked."""
    reply, start = Reply(chat.model, Start(0)), Start(0)
    piece, ending = TextPiece(show(REFUSAL)), Ending("stop", 0, Answer(REFUSAL))
    if not chat.stream:
        return JSONResponse(reply.write([piece], ending))
    chunks = [reply.write_chunk(event) for event in (start, piece, ending)]
    return StreamingResponse(iter([*chunks, "data: [DONE]\n\n"]), media_type="text/event-stream")


def _read_choice(event: Any, field: str) -> tuple[str, str]:
    """Read an event's text, if it has some, and the reason of its end; `field`: of its choice."""
    choice = (event.get("choices") or [{}])[0]
    return (choice.get(field) or {}).get("content") or "", choice.get("finish_reason") or ""


def _stem(path: str) -> str:
    """Take the name of a file, of any system, without .gguf."""
    return re.split(r"[\\/]", path)[-1].removesuffix(".gguf")


def _explain(error: Exception, root: str) -> RequestError:
    """Make the failure of an engine that does not answer."""
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return RequestError(502, f"the engine at {root} cannot be reached", code="bad_upstream")
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return RequestError(504, f"the engine at {root} took too long", code="timeout")
    is_broken = isinstance(error, httpx2.HTTPError) and not isinstance(error, httpx2.SSEError)
    end = f"broke off ({type(error).__name__})" if is_broken else _WRONG
    return RequestError(502, f"the engine at {root} {end}", code="bad_upstream")


class UpstreamServer(HttpServer):
    """Server of one manual before an engine, ready to run."""

    service: UpstreamService

    def __init__(self, folder: Path, upstream: Upstream, options: ServeOptions) -> None:
        """Raises D2LError if the socket cannot be bound, or the folder has no parts."""

        def make_service() -> UpstreamService:
            self.service = UpstreamService(folder, upstream, options)
            return self.service

        super().__init__(options, make_service)
