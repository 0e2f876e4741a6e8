"""The server: a socket bound first, then a base loaded, and the application run until stopped."""

import socket
from dataclasses import dataclass, field
from pathlib import Path

from d2l.errors import D2LError, MissingExtraError
from d2l.inference.adapted_model import AskOptions
from d2l.serve.engine import Engine
from d2l.serve.library import Library, Remark

try:
    import uvicorn

    from d2l.serve.app import Limits, ReadDocument, Service, make_app
    from d2l.serve.guards import LOOPBACK, Guards
except ImportError as error:
    raise MissingExtraError(
        f"d2l serve needs Starlette and uvicorn ({error.name} is missing)",
        hint="pip install 'd2l[serve]'",
    ) from error

__all__ = ["Limits", "ServeOptions", "Server"]

#: Largest body of a request: a document of some hundred pages.
MAX_BODY_BYTES = 2_000_000
#: Adapters that stay in memory beside the base.
N_KEPT = 8
#: Connections at a time; beyond, uvicorn answers 503 itself.
_MAX_CONNECTIONS = 256


@dataclass(frozen=True)
class ServeOptions:
    """Where to listen, whom to let in, and what a request may take."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    limits: Limits = field(default_factory=Limits)

    @property
    def is_local(self) -> bool:
        """Whether only this machine gets in."""
        return self.host in LOOPBACK


class Server:
    """A server that is ready to run: its socket is bound, its base loaded.

    Raises D2LError where one of that cannot be.
    """

    def __init__(
        self,
        folder: Path,
        asking: AskOptions,
        options: ServeOptions,
        *,
        read_document: ReadDocument,
        remark: Remark,
    ) -> None:
        self._socket = _bind(options.host, options.port)
        try:
            self.library = Library(folder, remark)
            engine = Engine(self.library.list_entries().values(), asking, n_kept=N_KEPT)
        except BaseException:
            self._socket.close()
            raise
        service = Service(self.library, engine, read_document, options.limits)
        hosts = LOOPBACK if options.is_local else ()
        settings = uvicorn.Config(
            make_app(service, Guards(hosts, options.token, MAX_BODY_BYTES)),
            log_level="warning",
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=3,
            server_header=False,
        )
        self._server = uvicorn.Server(settings)
        host = f"[{options.host}]" if ":" in options.host else options.host
        self.address = f"http://{host}:{self._socket.getsockname()[1]}"

    def run(self) -> None:
        """Serve until told to stop, by a signal or by `stop`."""
        with self._socket:
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End `run`, from any thread."""
        self._server.should_exit = True


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket; raises D2LError where there is none to be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise D2LError(
            f"{host}:{port}: cannot be listened at ({error.strerror or error})",
            hint="choose another --port, or --port 0 for any that is free",
        ) from error
