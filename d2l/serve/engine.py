"""Engine: one base in memory with the adapters that requests name, and the thread that answers."""

import asyncio
import contextlib
import ctypes
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from d2l.datasets.silence import NOT_FOUND, SILENCE, Masked
from d2l.errors import AdapterError, BaseModelError
from d2l.inference.adapted_model import AdaptedModel, add_adapter
from d2l.inference.chat_prompts import Turns
from d2l.inference.options import AskOptions
from d2l.inference.parts.read import PartPrompt
from d2l.serve.events import Ending, Event, Start, TextPiece
from d2l.serve.generation import generate, stoppable
from d2l.serve.library import ServedAdapter, Stamp, read_stamp
from d2l.serve.protocol import ChatRequest, RequestError


@dataclass(frozen=True)
class ChatOrder:
    """Conversation for an adapter, or (`entry` None) for the base with a document."""

    chat: ChatRequest
    max_tokens: int
    entry: ServedAdapter | None = None
    document: str | None = None


@dataclass(frozen=True)
class _Loaded:
    """Adapter in memory: the stamp of its files (None: they changed while they were read), its
    name in PEFT, and its prompts."""

    stamp: Stamp | None
    name: str
    adapted: AdaptedModel


class Engine:
    """Engine that answers one order at a time; not for several threads at once.

    `n_kept` adapters stay in memory; the adapter that was unused for longest goes first.
    """

    def __init__(
        self, entries: Iterable[ServedAdapter], options: AskOptions, *, n_kept: int
    ) -> None:
        """Load the base with the first adapter that can be loaded; raises D2LError."""
        self._n_kept = n_kept
        self._n_loaded = 0
        folder, first = _load_first(entries, options)
        #: By folder; the adapter used last stands at the end.
        self._loaded = {folder: first}
        #: Tokens that prompt and answer may have together.
        self.window = first.adapted.window

    def answer(
        self, order: ChatOrder, emit: Callable[[Event], None], is_due: Callable[[], bool]
    ) -> Ending:
        """Answer an order; the start and then pieces of text go to `emit`. Raises RequestError,
        D2LError, and TimeoutError if the answer `is_due` before it begins."""
        with contextlib.ExitStack() as block:
            if order.entry is None:
                adapted = next(reversed(self._loaded.values())).adapted
                block.enter_context(adapted.disable_adapter())
            else:
                adapted = self._put_on(order.entry.folder)
            block.enter_context(stoppable(adapted.model, is_due))
            prompt, n_left_out = block.enter_context(_reading(adapted, order))
            n_prompt, choice = len(prompt.ids), prompt.choice
            n_left = self.window - n_prompt
            if n_left < 1:
                raise RequestError(
                    400,
                    f"the prompt has {n_prompt:,} tokens, and this base reads {self.window:,}",
                    code="context_length_exceeded",
                    param="messages",
                )
            emit(Start(n_prompt, n_left_out))
            turns = order.chat.turns
            if choice is not None and not choice.is_answered:
                emit(TextPiece(NOT_FOUND))
                return Ending("stop", 0, adapted.explain(turns, SILENCE, "stop", choice))
            masked = Masked[TextPiece](emit, lambda piece: piece.text)
            most = min(order.max_tokens, n_left)
            ending = generate(adapted, prompt, order.chat, most, emit=masked.take, is_due=is_due)
            masked.end(TextPiece(NOT_FOUND))
            answer = adapted.explain(turns, masked.text, ending.reason, choice)
            return replace(ending, answer=None if order.entry is None else answer)

    def _put_on(self, folder: Path) -> AdaptedModel:
        """Activate an adapter; it is loaded first if it is not, or if its files have changed."""
        stamp = read_stamp(folder)  # that of the order may be old by now
        if folder not in self._loaded or self._loaded[folder].stamp != stamp:
            self._load(folder, stamp)
        loaded = self._loaded[folder] = self._loaded.pop(folder)
        loaded.adapted.model.set_adapter(loaded.name)
        return loaded.adapted

    def _load(self, folder: Path, stamp: Stamp) -> None:
        """Load an adapter in place of its old state, or of the adapter unused for longest."""
        self._n_loaded += 1
        name = f"adapter-{self._n_loaded}"  # PEFT's names may hold no dots
        last = next(reversed(self._loaded.values()))
        try:
            adapted = add_adapter(last.adapted, folder, name)
        except OSError as error:  # a file has gone since it was looked at
            raise AdapterError(f"{folder}: cannot be read ({error})") from error
        if read_stamp(folder) != stamp:
            adapted.model.set_adapter(last.name)
            adapted.model.delete_adapter(name)
            raise RequestError(
                503, f"{folder}: changed while it was loaded: try again", code="adapter_changed"
            )
        adapted.model.set_adapter(name)
        is_full = len(self._loaded) >= self._n_kept
        old = folder if folder in self._loaded or not is_full else next(iter(self._loaded))
        if old in self._loaded:
            adapted.model.delete_adapter(self._loaded.pop(old).name)
            _return_memory()
        self._loaded[folder] = _Loaded(stamp, name, adapted)


def _load_first(entries: Iterable[ServedAdapter], options: AskOptions) -> tuple[Path, _Loaded]:
    """Load the first adapter that can be loaded; if none can, raise the error of the first."""
    first_error: AdapterError | None = None
    for entry in entries:
        try:
            stamp = read_stamp(entry.folder)
            adapted = AdaptedModel.load(entry.folder, options)
            (name,) = adapted.model.peft_config
            is_whole = read_stamp(entry.folder) == stamp
            return entry.folder, _Loaded(stamp if is_whole else None, name, adapted)
        except AdapterError as error:  # requests for this adapter get the error, too
            first_error = first_error or error
    raise first_error or AdapterError("there is no adapter to serve")


def _return_memory() -> None:
    """Give freed memory back to the system: glibc keeps it, and fills it badly."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def _reading(adapted: AdaptedModel, order: ChatOrder) -> Iterator[tuple[PartPrompt, int]]:
    """Let the model read the part or the document of an order; gives the prompt, and the number of
    the document's tokens that did not fit."""
    turns, parts = order.chat.turns, order.chat.part_options
    if order.document is not None:
        question = turns[-1]["content"]
        ids, left_out = adapted.prompt_about(order.document, question, n_answer=order.max_tokens)
        yield PartPrompt(ids), left_out
        return
    if (parts.count or parts.page) and (adapted.parts is None or adapted.disabled):
        raise RequestError(400, f"{order.chat.model} has no parts to choose from", param="d2l")
    options = replace(adapted.options, parts=parts, short=order.chat.is_short)
    with adapted.reading(_accepted(adapted, turns), options) as prompt:
        yield prompt, 0


def _accepted(adapted: AdaptedModel, turns: Turns) -> Turns:
    """Change turns so that the template takes them: Gemma's, for example, refuses system turns."""
    try:
        adapted.prompt_turns(turns, alone=adapted.disabled)
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
    """Worker: a thread that does one job after the other; at most `max_waiting` jobs wait."""

    def __init__(self, engine: Engine, *, max_seconds: float, max_waiting: int) -> None:
        self._engine = engine
        self._max_seconds = max_seconds
        self._max_waiting = max_waiting
        self._pool = ThreadPoolExecutor(1, "d2l-serve")
        self._jobs: list[ChatJob] = []

    def count(self) -> tuple[int, int]:
        """Count the jobs at work, 0 or 1, and the jobs that wait."""
        futures = [job.future for job in self._jobs]
        n_waiting = sum(not (future.running() or future.done()) for future in futures)
        return sum(future.running() for future in futures), n_waiting

    def start(self, order: ChatOrder) -> ChatJob:
        """Put an order in line; raises RequestError if the line is full."""
        if self.count()[1] >= self._max_waiting:
            message = f"{self._max_waiting} requests wait already: try again later"
            raise RequestError(503, message, code="overloaded")
        job = ChatJob(self._max_seconds)
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
            job.send(self._engine.answer(order, job.send, job.is_due))
        except TimeoutError as error:
            job.send(RequestError(503, str(error), code="timeout"))
        except BaseException as error:  # noqa: BLE001 - `receive` raises it where the job is awaited
            # A panic of tokenizers is no Exception.
            job.send(error if isinstance(error, Exception) else RuntimeError(str(error)))
