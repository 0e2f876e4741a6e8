"""Options of a server; needs no torch and no library of the server."""

from collections.abc import Callable
from dataclasses import dataclass

from d2l.serve.client import parse_address


@dataclass(frozen=True)
class ServeOptions:
    """Address of a server, the token of requests, and their limits: tokens of an answer, seconds of
    a request with its waiting, and requests that wait. `report` gets a line for each request."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    max_tokens: int = 1024
    max_seconds: float = 120.0
    max_waiting: int = 32
    report: Callable[[str], object] = lambda _: None

    @property
    def is_local(self) -> bool:
        """True if only this machine gets in."""
        return self.host in ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Upstream:
    """Engine behind the server: its address, with or without /v1."""

    address: str

    @property
    def root(self) -> str:
        """Address without /v1; raises OptionError if it is no address."""
        return parse_address(self.address, "--upstream http://localhost:8000/v1")
