"""Client of a running `d2l serve`: turns in, text and the parts of the answer out.

Needs no torch, and no library that the server needs.
"""

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from d2l.adapters.exported_parts import name_manual
from d2l.errors import D2LError, OptionError

#: Longest seconds without a byte: of the list of models, and of an answer with its waiting.
_LIST_SECONDS, _ANSWER_SECONDS = 10.0, 600.0
_EXAMPLE = "--server http://127.0.0.1:8000"
#: Hints by the code of the server's error.
_HINTS = {
    "invalid_api_key": "set the server's token in D2L_SERVE_TOKEN",
    "overloaded": "ask again later",
    "timeout": "ask again later, or start the server with a longer --max-seconds",
    "context_length_exceeded": "ask for less at once; /new forgets the turns before",
}


class ServerError(D2LError):
    """Error of a server that does not answer; `code`: of the server's own error, if it has one."""

    def __init__(self, message: str, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message, hint or _HINTS.get(code or ""))
        self.code = code


class ServedAnswer(NamedTuple):
    """Text of an answer, the server's field `d2l` (its place and passage, and its end), and the
    number of tokens of a document in the prompt that were left out."""

    text: str
    source: dict[str, Any]
    n_left_out: int


class Client:
    """Client of a server; `names`: its adapters; `base`: None if it does not serve the base."""

    def __init__(self, address: str, token: str | None = None) -> None:
        """List the models; raises OptionError if `address` is no address, and ServerError."""
        self.address = address
        self._root = parse_address(address, _EXAMPLE)
        port = urllib.parse.urlsplit(self._root).port
        self._start = "start it: d2l serve adapters/" + (f" --port {port}" if port else "")
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        try:
            models = json.loads(b"".join(self._read("/v1/models", None, _LIST_SECONDS)))["data"]
            if not models or any(model["owned_by"] != "d2l" for model in models):
                raise ValueError("another engine's models")
            self.names = [str(model["id"]) for model in models if model["parent"] is not None]
            self.base = next((str(m["id"]) for m in models if m["parent"] is None), None)
        except (ValueError, KeyError, TypeError) as error:  # another program's
            raise self._refuse() from error

    def find(self, adapter: Path) -> str:
        """Find the server's model of an adapter, by folder or name; raises ServerError."""
        for name in (str(adapter), name_manual(adapter)):
            if name in self.names:
                return name
        shown = ", ".join(self.names[:5])
        if len(self.names) > 5:
            shown += f" and {len(self.names) - 5} more"
        raise ServerError(
            f"{self.address}: has no adapter {name_manual(adapter)}; it has {shown}",
            hint="name one of these, or put the folder beside theirs",
        )

    def answer(
        self,
        model: str,
        turns: list[dict[str, str]],
        emit: Callable[[str], None],
        fields: dict[str, Any],
    ) -> ServedAnswer:
        """Answer the last of several turns; pieces of text go to `emit`.

        `fields` are more of the request, such as max_tokens. Raises ServerError.
        """
        body = {"model": model, "messages": turns, "stream": True, **fields}
        pieces: list[str] = []
        source: dict[str, Any] = {}
        finish, n_left_out = "stop", 0
        for event in self._read_events(body):
            if "error" in event:
                raise self._explain(event)
            for choice in event.get("choices", ()):
                if text := choice.get("delta", {}).get("content"):
                    pieces.append(text)
                    emit(text)
                finish = choice.get("finish_reason") or finish
            source = event.get("d2l", source)
            n_left_out = event.get("document", {}).get("tokens_left_out", n_left_out)
        return ServedAnswer("".join(pieces), {"finish": finish, **source}, n_left_out)

    def _read_events(self, body: dict[str, Any]) -> Iterator[Any]:
        """Yield the JSON of each server-sent event of an answer; raises ServerError."""
        for line in self._read("/v1/chat/completions", body, _ANSWER_SECONDS):
            data = line.removeprefix(b"data: ").strip()
            if data == b"[DONE]":
                return
            if data:
                try:
                    yield json.loads(data)
                except ValueError as error:
                    raise self._refuse() from error
        raise ServerError(f"{self.address}: broke off", hint="see what the server printed")

    def _read(self, path: str, body: Any, seconds: float) -> Iterator[bytes]:
        """Yield the lines at a path; raises ServerError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._root + path, data, self._headers)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as reply:
                yield from reply
        except urllib.error.HTTPError as error:
            with error:
                raise self._explain(error.read(), error.code) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                message = f"{self.address}: did not answer in {seconds:.0f} s"
                raise ServerError(message, hint="ask again later") from error
            message = f"{self.address}: no server is there ({reason})"
            raise ServerError(message, hint=self._start) from error

    def _explain(self, reply: Any, status: int | None = None) -> ServerError:
        """Read the error of a reply."""
        try:
            error = (reply if isinstance(reply, dict) else json.loads(reply))["error"]
            return ServerError(f"{self.address}: {error['message']}", code=error.get("code"))
        except (ValueError, KeyError, TypeError, AttributeError):
            if status == 503:  # of uvicorn itself, which has too many connections
                return ServerError(f"{self.address}: is busy", code="overloaded")
            return self._refuse()

    def _refuse(self) -> ServerError:
        return ServerError(f"{self.address}: no d2l serve answers there", hint=self._start)


def parse_address(address: str, example: str) -> str:
    """Parse a server's address, without /v1; raises OptionError if it is no address."""
    try:
        parsed = urllib.parse.urlsplit(address)
        fits = parsed.scheme in ("http", "https") and parsed.hostname and parsed.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise OptionError(f"{address}: is no address of a server", hint=f"such as {example}")
    return address.rstrip("/").removesuffix("/v1").rstrip("/")
