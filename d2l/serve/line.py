"""A bounded line of requests before one worker thread, which does one of them at a time.

Knows nothing of what is done. What is worked on tells its news to an event loop.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from d2l.serve.failures import RequestError

#: Done by the worker for one ticket; raises what goes wrong.
Work = Callable[["Ticket"], None]


class Ticket:
    """A request that waits or is worked on; made in the event loop that wants its news."""

    def __init__(self, work: Work, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[Any] = asyncio.Queue()
        self._cancelled = threading.Event()
        self._deadline = time.monotonic() + seconds
        self.work = work

    def cancel(self) -> None:
        """Nobody wants it any more; to be called from any thread."""
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants it any more."""
        return self._cancelled.is_set()

    @property
    def is_due(self) -> bool:
        """Whether it must end now: nobody wants it, or its time is over."""
        return self.is_cancelled or time.monotonic() > self._deadline

    def tell(self, news: Any) -> None:
        """Hand something to whoever reads `news`; called by the worker."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.put_nowait, news)

    async def news(self) -> AsyncIterator[Any]:
        """What the worker tells, until it is done; raises what it failed with."""
        while (item := await self._news.get()) is not _DONE:
            if isinstance(item, BaseException):
                raise item
            yield item


_DONE = object()


class Line:
    """The line and its worker; `most` tickets wait at a time besides the one worked on."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[Ticket] = deque()
        self._current: Ticket | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="d2l-serve", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Tickets that wait and are still wanted."""
        with self._changed:
            return sum(not ticket.is_cancelled for ticket in self._waiting)

    @property
    def is_busy(self) -> bool:
        """Whether one is worked on."""
        return self._current is not None

    def join(self, ticket: Ticket) -> None:
        """Put a ticket at the end; raises RequestError where the line is full or closed."""
        with self._changed:
            if self._closed:
                raise RequestError(503, "the server is stopping", code="unavailable")
            self._waiting = deque(t for t in self._waiting if not t.is_cancelled)
            if len(self._waiting) >= self._most:
                raise RequestError(
                    503, f"{self._most} requests wait already: try again later", code="overloaded"
                )
            self._waiting.append(ticket)
            self._changed.notify()

    def close(self) -> None:
        """Take nothing any more, and give up what waits or is worked on."""
        with self._changed:
            self._closed = True
            for ticket in (*self._waiting, *filter(None, [self._current])):
                ticket.cancel()
            self._changed.notify()

    def _run(self) -> None:
        while (ticket := self._next()) is not None:
            try:
                if not ticket.is_cancelled:
                    _refuse_late(ticket)
                    ticket.work(ticket)
                ticket.tell(_DONE)
            except Exception as error:  # noqa: BLE001 - raised again where the news are read
                ticket.tell(error)
            finally:
                self._current = None

    def _next(self) -> Ticket | None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            self._current = None if self._closed else self._waiting.popleft()
            return self._current


def _refuse_late(ticket: Ticket) -> None:
    if ticket.is_due:
        raise RequestError(503, "its time was over before its turn came", code="timeout")
