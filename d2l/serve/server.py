"""The server: it binds its socket, then loads the base, and answers until it is told to stop."""

import socket
from pathlib import Path

from d2l.errors import D2LError, MissingExtraError
from d2l.inference.adapted_model import AskOptions
from d2l.serve.engine import Engine
from d2l.serve.library import Library, Remark

try:
    import uvicorn

    from d2l.serve.app import ReadDocument, ServeOptions, Service
except ImportError as error:
    raise MissingExtraError(
        f"d2l serve needs Starlette and uvicorn ({error.name} is missing)",
        hint="pip install 'd2l[serve]'",
    ) from error

__all__ = ["ServeOptions", "Server"]

#: Adapters that stay in memory beside the base.
N_KEPT = 8
#: Connections at a time; beyond, uvicorn answers 503 itself.
_MAX_CONNECTIONS = 256


class Server(uvicorn.Server):
    """A server that is ready to run: its socket is bound, its base loaded.

    `run` serves until a signal comes or `should_exit` is set, from any thread.
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
        """Raises D2LError where the socket cannot be bound, or the base not be loaded."""
        if not options.is_local and options.token is None:
            raise D2LError(
                f"{options.host}: other machines may ask there, and no token is set",
                hint="set a token in D2L_SERVE_TOKEN",
            )
        self._socket = _bind(options.host, options.port)
        try:
            self.library = Library(folder, remark)
            engine = Engine(self.library.list_entries().values(), asking, n_kept=N_KEPT)
        except BaseException:
            self._socket.close()
            raise
        self._service = Service(self.library, engine, read_document, options)
        super().__init__(
            uvicorn.Config(
                self._service.make_app(),
                log_level="warning",
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_graceful_shutdown=3,
                server_header=False,
            )
        )
        host = f"[{options.host}]" if ":" in options.host else options.host
        self.address = f"http://{host}:{self._socket.getsockname()[1]}"

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        with self._socket:
            super().run([*(sockets or []), self._socket])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all requests at once, so that no connection is waited for."""
        self._service.worker.stop()
        await super().shutdown(sockets)


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket; raises D2LError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise D2LError(
            f"{host}:{port}: cannot be listened at ({error.strerror or error})",
            hint="choose another --port, or --port 0 for any that is free",
        ) from error
