"""An OpenAI-compatible endpoint, asked one question at a time."""

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from d2l.errors import OptionError, ProbeError

#: Seconds that a server may take for an answer.
_SECONDS = 120.0
#: Numbers of likeliest tokens to ask for, in this order: not every server tells as many.
_N_TOP = (20, 5, None)
_MOST_BYTES = 10_000_000
_HINTS = {401: "set its token in D2L_SERVE_TOKEN", 404: "name one of its models with --model"}


@dataclass(frozen=True)
class EndpointReply:
    """Text of an answer, and likeliest first tokens with log-probabilities; None if the server
    tells none."""

    answer: str
    top: tuple[tuple[str, float], ...] | None


@dataclass(frozen=True)
class Endpoint:
    """The address of a server, the model's name there, and the bearer token."""

    url: str
    model: str
    token: str | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            hint = "such as --live http://localhost:8000"
            raise OptionError(f"{self.url}: is no address of a server", hint=hint)

    def ask(self, question: str, max_tokens: int) -> EndpointReply:
        """Get a greedy answer to one user's turn; raises ProbeError."""
        turns = [{"role": "user", "content": question}]
        body: dict[str, Any] = {"model": self.model, "messages": turns}
        body |= {"max_tokens": max_tokens, "temperature": 0}
        for n_top in _N_TOP:
            more = {} if n_top is None else {"logprobs": True, "top_logprobs": n_top}
            try:
                return _read_reply(self._post(body | more))
            except urllib.error.HTTPError as error:
                with error:
                    text = " ".join(error.read(_MOST_BYTES).decode("utf-8", "replace").split())
                if n_top is None or error.code not in (400, 422):
                    raise ProbeError(
                        f"{self.url}: answers with status {error.code} ({text[:200]})",
                        hint=_HINTS.get(error.code, "the server's log may say more"),
                    ) from error
        raise AssertionError("the last request asks for nothing special")

    def _post(self, body: dict[str, Any]) -> Any:
        """Get the JSON of an answer; raises HTTPError, and ProbeError without an answer."""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        url = f"{self.url.rstrip('/').removesuffix('/v1')}/v1/chat/completions"
        try:
            request = urllib.request.Request(url, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=_SECONDS) as reply:
                return json.loads(reply.read(_MOST_BYTES))
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            hint = "start the server, or wait until it is ready"
            raise ProbeError(f"{self.url}: cannot be reached ({reason})", hint=hint) from error
        except ValueError as error:
            raise ProbeError(
                f"{self.url}: does not answer in JSON",
                hint="name an OpenAI-compatible server's address",
            ) from error


def _read_reply(reply: Any) -> EndpointReply:
    try:
        choice = reply["choices"][0]
        answer = str(choice["message"]["content"] or "").strip()
        tokens = (choice.get("logprobs") or {}).get("content") or []
        rows = tokens[0]["top_logprobs"] if tokens else []
        top = [(str(row["token"]), float(row["logprob"])) for row in rows]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ProbeError(
            "the server's answer is not in OpenAI's form",
            hint="name an OpenAI-compatible server's address",
        ) from error
    return EndpointReply(answer, tuple(top) or None)
