"""Client of a running `d2l serve`: turns in, text and the parts of the answer out.

Needs no torch, and no library that the server needs.
"""

import contextlib
import http.client
import json
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from d2l.adapters.exported_parts import name_manual
from d2l.errors import D2LError, OptionError

#: Largest answer that is read, in bytes.
MOST_BYTES = 16 << 20
#: Seconds in which the list of models comes, and an answer with its waiting.
_LIST_SECONDS, _ANSWER_SECONDS = 10.0, 600.0
#: Keys of a part that are shown.
_SHOWN = {"part", "document", "place", "score"}
#: Address without user, query and fragment.
_ADDRESS = re.compile(r"https?://[^\s?#@\\]+", re.IGNORECASE)
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


class StatusError(Exception):
    """Reply of another status than 200; its arguments are the status and the text."""


@dataclass(frozen=True)
class Connection:
    """Way to a server, without redirects and proxies; `start`: the hint if no server is there."""

    address: str
    token: str | None
    start: str

    def read(self, path: str, body: Any, seconds: float) -> Iterator[bytes]:
        """Yield the lines at a path, all within some seconds; raises StatusError, ServerError."""
        root, headers = urllib.parse.urlsplit(self.address), {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        is_safe = root.scheme == "https"
        kind = http.client.HTTPSConnection if is_safe else http.client.HTTPConnection
        connection = kind(root.hostname or "", root.port, timeout=seconds)
        left, end = MOST_BYTES, time.monotonic() + seconds
        timer = threading.Timer(seconds, lambda: sock.shutdown(socket.SHUT_RDWR))
        timer.daemon = True
        try:
            connection.connect()
            sock = connection.sock
            timer.start()  # each byte would begin another time to wait
            method, data = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
            connection.request(method, root.path + path, data, headers)
            with connection.getresponse() as reply:
                if reply.status != http.HTTPStatus.OK:
                    raise StatusError(reply.status, reply.read(MOST_BYTES))
                while line := reply.readline(left):
                    left -= len(line)
                    yield line
            if time.monotonic() > end:
                raise TimeoutError
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            if isinstance(error, TimeoutError) or time.monotonic() > end:
                message = f"{self.address}: did not answer in {seconds:.0f} s"
                raise ServerError(message, hint="ask again later") from error
            message = f"{self.address}: no server is there ({error})"
            raise ServerError(message, hint=self.start) from error
        finally:
            timer.cancel()
            connection.close()


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
        self.address = parse_address(address, _EXAMPLE)
        port = urllib.parse.urlsplit(self.address).port
        start = "start it: d2l serve adapters/" + (f" --port {port}" if port else "")
        self._server = Connection(self.address, token, start)
        with self._reading():
            reply = b"".join(self._server.read("/v1/models", None, _LIST_SECONDS))
            models = json.loads(reply)["data"]
            if not models or any(model["owned_by"] != "d2l" for model in models):
                raise ValueError("another engine's models")
            self.names = [str(model["id"]) for model in models if model["parent"] is not None]
            self.base = next((str(m["id"]) for m in models if m["parent"] is None), None)

    def find(self, adapter: Path) -> str:
        """Find the server's model of an adapter, by folder or name; raises ServerError."""
        for name in (str(adapter), name_manual(adapter)):
            if name in self.names:
                return name
        more = f" and {len(self.names) - 5} more" if len(self.names) > 5 else ""
        shown = ", ".join(self.names[:5]) + more
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
        for data in self._read_events(body):
            with self._reading():
                event = json.loads(data)
                if "error" in event:
                    raise self._explain(event)
                choice = (event.get("choices") or [{}])[0]
                text = "".join([(choice.get("delta") or {}).get("content") or ""])
                finish = choice.get("finish_reason") or finish
                source = {**event.get("d2l", source)}
                if not all(part.keys() >= _SHOWN for part in source.get("parts", ())):
                    raise ValueError("parts without a place")
                n_left_out = int(event.get("document", {}).get("tokens_left_out", n_left_out))
            if text:
                pieces.append(text)
                emit(text)
        return ServedAnswer("".join(pieces), {"finish": finish, **source}, n_left_out)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Explain a reply of another status, and refuse a reply of another form than d2l's."""
        try:
            yield
        except StatusError as error:
            raise self._explain(error.args[1], error.args[0]) from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise self._refuse() from error

    def _read_events(self, body: dict[str, Any]) -> Iterator[bytes]:
        """Yield the data of each event of an answer, as the HTML standard says."""
        lines: list[bytes] = []
        with self._reading():
            for line in self._server.read("/v1/chat/completions", body, _ANSWER_SECONDS):
                field, _, value = line.rstrip(b"\r\n").partition(b":")
                if field == b"data":
                    lines.append(value.removeprefix(b" "))
                elif not line.strip() and lines:
                    data = b"\n".join(lines)
                    if data == b"[DONE]":
                        return
                    yield data
                    lines = []
        raise ServerError(f"{self.address}: broke off", hint="see what the server printed")

    def _explain(self, reply: Any, status: int | None = None) -> ServerError:
        """Read the error of a reply."""
        try:
            error = (reply if isinstance(reply, dict) else json.loads(reply))["error"]
            return ServerError(f"{self.address}: {error['message']}", code=error.get("code"))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            if status == 503:  # of uvicorn itself, which has too many connections
                return ServerError(f"{self.address}: is busy", code="overloaded")
            return self._refuse()

    def _refuse(self) -> ServerError:
        return ServerError(f"{self.address}: no d2l serve answers there", hint=self._server.start)


def parse_address(address: str, example: str) -> str:
    """Parse a server's address, without /v1; raises OptionError if it is no address."""
    try:
        parsed = urllib.parse.urlsplit(address)
        fits = _ADDRESS.fullmatch(address) and parsed.hostname and parsed.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise OptionError(f"{address}: is no address of a server", hint=f"such as {example}")
    return address.rstrip("/").removesuffix("/v1").rstrip("/")
