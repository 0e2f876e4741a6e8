"""Server of adapters: it binds its socket, loads the base, and answers until it must stop."""

from pathlib import Path

from d2l.answer.options import AskOptions
from d2l.serve.app import ReadDocument, Service
from d2l.serve.engine import N_KEPT, Engine
from d2l.serve.library import Library, Remark
from d2l.serve.options import ServeOptions
from d2l.serve.web import HttpServer


class Server(HttpServer):
    """Server of adapters that is ready to run: its socket is bound, its base loaded."""

    library: Library

    def __init__(
        self,
        folder: Path,
        asking: AskOptions,
        options: ServeOptions,
        *,
        read_document: ReadDocument,
        remark: Remark,
    ) -> None:
        """Raises D2LError if the socket cannot be bound, or the base not be loaded."""

        def make_service() -> Service:
            self.library = Library(folder, remark=remark)
            engine = Engine(self.library.list_entries().values(), asking, n_kept=N_KEPT)
            return Service(self.library, engine, read_document, options)

        super().__init__(options, make_service)
