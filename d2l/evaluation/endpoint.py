"""An OpenAI-compatible endpoint, asked one question at a time."""

import json
from dataclasses import dataclass
from typing import Any

from d2l.errors import ProbeError
from d2l.serve.client import Connection, StatusError, parse_address

#: Seconds that a server may take for an answer.
_SECONDS = 120.0
#: Numbers of likeliest tokens to ask for, in this order: not every server tells as many.
_N_TOP = (20, 5, None)
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

    def ask(self, question: str, max_tokens: int) -> EndpointReply:
        """Get a greedy answer to one user's turn; raises OptionError, ServerError, ProbeError."""
        address = parse_address(self.url, "--live http://localhost:8000")
        connection = Connection(address, self.token, "start the server, or wait until it is ready")
        turns = [{"role": "user", "content": question}]
        body: dict[str, Any] = {"model": self.model, "messages": turns}
        body |= {"max_tokens": max_tokens, "temperature": 0}
        for n_top in _N_TOP:
            more = {} if n_top is None else {"logprobs": True, "top_logprobs": n_top}
            try:
                lines = connection.read("/v1/chat/completions", body | more, _SECONDS)
                return _read_reply(json.loads(b"".join(lines)))
            except StatusError as error:
                status, text = error.args
                if n_top is None or status not in (400, 422):
                    shown = " ".join(text.decode("utf-8", "replace").split())[:200]
                    raise ProbeError(
                        f"{self.url}: answers with status {status} ({shown})",
                        hint=_HINTS.get(status, "the server's log may say more"),
                    ) from error
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                raise ProbeError(
                    f"{self.url}: does not answer in OpenAI's form",
                    hint="name an OpenAI-compatible server's address",
                ) from error
        raise AssertionError("the last request asks for nothing special")


def _read_reply(reply: Any) -> EndpointReply:
    choice = reply["choices"][0]
    answer = str(choice["message"]["content"] or "").strip()
    tokens = (choice.get("logprobs") or {}).get("content") or []
    rows = tokens[0]["top_logprobs"] if tokens else []
    top = [(str(row["token"]), float(row["logprob"])) for row in rows]
    return EndpointReply(answer, tuple(top) or None)
