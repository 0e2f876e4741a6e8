"""An OpenAI-compatible endpoint, asked one question at a time; knows nothing of adapters."""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from d2l.errors import OptionError, ProbeError

#: Seconds that a server may take for an answer.
_SECONDS = 120.0
#: Statuses of a server that is still starting.
_STARTING = (502, 503)
#: Numbers of likeliest tokens that are asked for, in this order: not every server tells as many.
_N_TOP = (20, 5, None)
_MOST_BYTES = 10_000_000


@dataclass(frozen=True)
class Observed:
    """An answer's text, and its first token's likeliest alternatives (None: not told)."""

    answer: str
    top: tuple[tuple[str, float], ...] | None


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served; `wait` are seconds to wait for a server that is starting."""

    url: str
    model: str
    token: str | None = None
    wait: float = 0.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise OptionError(
                f"{self.url}: is no address of a server",
                hint="such as --live http://localhost:8000",
            )

    def ask(self, question: str, max_tokens: int) -> Observed:
        """A greedy answer to one user's turn; raises ProbeError."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": max_tokens,
            "temperature": 0,
        }
        for n_top in _N_TOP:
            more = {} if n_top is None else {"logprobs": True, "top_logprobs": n_top}
            try:
                return _read_reply(self._post(body | more))
            except _Refused as refusal:
                if n_top is None or refusal.status not in (400, 422):
                    raise self._explain(refusal) from refusal
        raise AssertionError("the last way asks for nothing special")

    def _post(self, body: Mapping[str, Any]) -> Any:
        return self._fetch("chat/completions", json.dumps(body).encode())

    def _fetch(self, path: str, body: bytes | None = None) -> Any:
        """The JSON of an answer; raises _Refused, and ProbeError where there is none."""
        base = self.url.rstrip("/")
        base = base if base.endswith("/v1") else f"{base}/v1"
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(f"{base}/{path}", body, headers)
        end = time.monotonic() + self.wait
        while True:
            try:
                with urllib.request.urlopen(request, timeout=_SECONDS) as reply:
                    return json.loads(reply.read(_MOST_BYTES))
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in _STARTING or time.monotonic() > end:
                        raise _Refused(error.code, _read_message(error)) from error
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() > end:
                    raise ProbeError(
                        f"{self.url}: cannot be reached ({getattr(error, 'reason', error)})",
                        hint="start the server; --wait SECONDS waits for one that is starting",
                    ) from error
            except ValueError as error:
                raise ProbeError(
                    f"{self.url}: does not answer in JSON",
                    hint="name an OpenAI-compatible server's address",
                ) from error
            time.sleep(0.5)

    def _explain(self, refusal: "_Refused") -> ProbeError:
        message = f"{self.url}: answers with status {refusal.status} ({refusal.message})"
        if refusal.status == 401:
            return ProbeError(message, hint="give its token with --token or D2L_SERVE_TOKEN")
        if refusal.status == 404:
            return ProbeError(message, hint=f"name one of its models with --model{self._list()}")
        return ProbeError(message, hint="the server's log may say more")

    def _list(self) -> str:
        """The models that the server says it has."""
        try:
            names = [str(row["id"]) for row in self._fetch("models")["data"]]
        except (_Refused, ProbeError, KeyError, TypeError):
            return ""
        return f": {', '.join(names[:8])}" if names else ""


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def _read_message(error: urllib.error.HTTPError) -> str:
    try:
        found: Any = json.loads(error.read(_MOST_BYTES))
    except (OSError, ValueError):
        return str(error.reason)
    inner = found.get("error", found) if isinstance(found, dict) else found
    message = inner.get("message", inner) if isinstance(inner, dict) else inner
    return " ".join(str(message).split())[:200]


def _read_reply(reply: Any) -> Observed:
    try:
        choice = reply["choices"][0]
        answer = str(choice["message"]["content"] or "").strip()
        told = (choice.get("logprobs") or {}).get("content") or []
        rows = told[0]["top_logprobs"] if told else []
        top = [(str(row["token"]), float(row["logprob"])) for row in rows]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ProbeError(
            "the server's answer is not in OpenAI's form",
            hint="name an OpenAI-compatible server's address",
        ) from error
    return Observed(answer, tuple(top) or None)
