"""Engine: one base in memory with the adapters that requests name, and the thread that answers."""

import asyncio
import contextlib
import ctypes
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from d2l.answer.asked import Asked
from d2l.answer.events import Ending, Event
from d2l.answer.flow import PromptLengthError
from d2l.answer.options import AskOptions
from d2l.answer.readers import load_model
from d2l.errors import AdapterError, BaseModelError
from d2l.parts.kept import PartOptions, Turns
from d2l.serve.library import ServedAdapter, Stamp, read_stamp
from d2l.serve.options import ServeOptions
from d2l.serve.protocol import ChatRequest, RequestError

#: Adapters that stay in memory beside the base.
N_KEPT = 8


@dataclass(frozen=True)
class ChatOrder:
    """Conversation for an adapter, or (`entry` None) for the base with a document."""

    chat: ChatRequest
    max_tokens: int
    entry: ServedAdapter | None = None
    document: str | None = None


@dataclass(frozen=True)
class _Loaded:
    """Adapter in memory, and the stamp of its files (None: they changed while they were read)."""

    stamp: Stamp | None
    model: Asked


class Engine:
    """Engine that answers one order at a time; not for several threads at once.

    `n_kept` adapters stay in memory; the adapter that was unused for longest goes first.
    """

    def __init__(
        self, entries: Iterable[ServedAdapter], options: AskOptions, *, n_kept: int
    ) -> None:
        """Load the base with the first adapter that can be loaded; raises D2LError."""
        self._n_kept, self._options = n_kept, options
        folder, first = _load_first(entries, options)
        #: By folder, and True for its one memory; the adapter used last stands at the end.
        self._loaded = {(folder, False): first}
        #: Tokens that prompt and answer may have together.
        self.window = first.model.window

    def answer(
        self, order: ChatOrder, emit: Callable[[Event], None], is_due: Callable[[], bool]
    ) -> Ending:
        """Answer an order; the start and then pieces of text go to `emit`. Raises RequestError,
        D2LError, and TimeoutError if the answer `is_due` before it begins."""
        chat = order.chat
        disabled: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if order.entry is None:
            model = self._last.model
            disabled = model.disable_adapter()
        else:
            model = self._open_adapter(order.entry.folder, chat.fields.whole)
        with disabled:
            turns, options = _accepted(model, chat.turns), _read_options(model, order)
            with contextlib.closing(model.stream(turns, options, is_due)) as events:
                try:
                    for event in events:
                        if isinstance(event, Ending):
                            return event if order.entry is not None else replace(event, answer=None)
                        emit(event)
                except PromptLengthError as error:
                    raise RequestError(
                        400, error.message, code="context_length_exceeded", param="messages"
                    ) from error
        raise AssertionError("an answer without an ending")

    @property
    def _last(self) -> _Loaded:
        """The adapter used last."""
        return next(reversed(self._loaded.values()))

    def _open_adapter(self, folder: Path, whole: bool) -> Asked:
        """Activate an adapter; it is loaded first if it is not, or if its files have changed."""
        stamp, key = read_stamp(folder), (folder, whole)  # that of the order may be old by now
        if key not in self._loaded or self._loaded[key].stamp != stamp:
            self._load(key, stamp)
        loaded = self._loaded[key] = self._loaded.pop(key)
        loaded.model.activate()
        return loaded.model

    def _load(self, key: tuple[Path, bool], stamp: Stamp) -> None:
        """Load an adapter in place of its old state, or of the adapter unused for longest."""
        folder, whole = key
        beside = [loaded.model for loaded in self._loaded.values()]
        options = replace(self._options, parts=PartOptions(whole=whole))
        try:
            model = load_model(folder, options, beside=beside)
        except OSError as error:  # a file has gone since it was looked at
            raise AdapterError(f"{folder}: cannot be read ({error})") from error
        if read_stamp(folder) != stamp:
            self._last.model.activate()
            model.unload()
            raise RequestError(
                503, f"{folder}: changed while it was loaded: try again", code="adapter_changed"
            )
        model.activate()
        is_full = len(self._loaded) >= self._n_kept
        old = key if key in self._loaded or not is_full else next(iter(self._loaded))
        if old in self._loaded:
            self._loaded.pop(old).model.unload()
            _return_memory()
        self._loaded[key] = _Loaded(stamp, model)


def _load_first(entries: Iterable[ServedAdapter], options: AskOptions) -> tuple[Path, _Loaded]:
    """Load the first adapter that can be loaded; if none can, raise the error of the first."""
    first_error: AdapterError | None = None
    for entry in entries:
        try:
            stamp = read_stamp(entry.folder)
            model = load_model(entry.folder, options)
            is_same = read_stamp(entry.folder) == stamp
            return entry.folder, _Loaded(stamp if is_same else None, model)
        except AdapterError as error:  # requests for this adapter get the error, too
            first_error = first_error or error
    raise first_error or AdapterError("there is no adapter to serve")


def _return_memory() -> None:
    """Give freed memory back to the system: glibc keeps it, and fills it badly."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _read_options(model: Asked, order: ChatOrder) -> AskOptions:
    """Read the options of an order; raises RequestError for a choice among parts without parts."""
    fields = order.chat.fields
    parts = PartOptions(fields.parts, fields.page, fields.whole)
    if (parts.count or parts.page) and (model.disabled or not model.kept.chooses):
        raise RequestError(400, f"{order.chat.model} has no parts to choose from", param="d2l")
    options = replace(
        model.options,
        parts=parts,
        short=fields.short,
        long=fields.long,
        max_new_tokens=order.max_tokens,
        document=order.document,
    )
    return order.chat.apply(options)


def _accepted(model: Asked, turns: Turns) -> Turns:
    """Change turns so that the template takes them: Gemma's, for example, refuses system turns."""
    try:
        model.prompt_turns(turns, alone=model.disabled)
    except BaseModelError:
        if [turn["role"] for turn in turns[:2]] != ["system", "user"]:
            raise
        text = f"{turns[0]['content']}\n\n{turns[1]['content']}"
        return [{"role": "user", "content": text}, *turns[2:]]
    return turns


class ChatJob:
    """Order at work in a thread; its events come to an event loop."""

    future: Future[None]

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._deadline = time.monotonic() + seconds
        self._ended = False

    def is_due(self) -> bool:
        """True if the answer must end now: nobody waits for it, or its time is over."""
        return self._ended or time.monotonic() > self._deadline

    def send(self, event: Event | Exception) -> None:
        """Hand an event, or the error that ended the job, from the thread to the event loop."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def receive(self) -> Event:
        """Receive the next event; raises the error that ended the job."""
        event = await self._events.get()
        try:
            if isinstance(event, Exception):
                raise event
            return event
        finally:
            del event  # or the error holds itself, and the weights in its frames

    def end(self, message: str) -> None:
        """Give the job up, from the event loop; nothing happens if it is done."""
        self._ended = True
        self.future.cancel()
        self._events.put_nowait(RequestError(503, message, code="unavailable"))


class ChatWorker:
    """Worker: a thread that does one job after the other; `answer` is as of `Engine`."""

    def __init__(self, answer: Callable[..., Ending], limits: ServeOptions) -> None:
        self._answer = answer
        self._limits = limits
        self._pool = ThreadPoolExecutor(1, "d2l-serve")
        self._jobs: list[ChatJob] = []

    def count(self) -> tuple[int, int]:
        """Count the jobs at work, 0 or 1, and the jobs that wait."""
        futures = [job.future for job in self._jobs]
        n_waiting = sum(not (future.running() or future.done()) for future in futures)
        return sum(future.running() for future in futures), n_waiting

    def start(self, order: ChatOrder) -> ChatJob:
        """Put an order in line; raises RequestError if the line is full."""
        if self.count()[1] >= self._limits.max_waiting:
            message = f"{self._limits.max_waiting} requests wait already: try again later"
            raise RequestError(503, message, code="overloaded")
        job = ChatJob(self._limits.max_seconds)
        try:
            job.future = self._pool.submit(self._work, order, job)
        except RuntimeError as error:  # the pool is shut down
            raise RequestError(503, "the server is stopping", code="unavailable") from error
        self._jobs = [job, *(old for old in self._jobs if not old.future.done())]
        return job

    def stop(self) -> None:
        """Give up all jobs and refuse new orders."""
        self._pool.shutdown(wait=False)
        for job in self._jobs:
            job.end("the server is stopping")

    def _work(self, order: ChatOrder, job: ChatJob) -> None:
        try:
            if job.is_due():
                raise TimeoutError("its time was over before its turn came")
            job.send(self._answer(order, job.send, job.is_due))
        except TimeoutError as error:
            job.send(RequestError(503, str(error), code="timeout"))
        except BaseException as error:  # noqa: BLE001 - `receive` raises it where the job is awaited
            # A panic of tokenizers is no Exception.
            job.send(error if isinstance(error, Exception) else RuntimeError(str(error)))
