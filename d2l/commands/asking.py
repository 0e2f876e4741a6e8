"""Adapters that `d2l ask` asks: in this process, or on a running `d2l serve`.

Imports no torch: a server answers at once.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from d2l.datasets.silence import SILENCE, is_silence
from d2l.errors import OptionError
from d2l.inference.options import AskOptions
from d2l.inference.parts.choose import PartOptions, list_parts
from d2l.serve.client import Client, ServerError

if TYPE_CHECKING:
    import d2l

Turns = list[dict[str, str]]
Row = dict[str, Any]
Emit = Callable[[str], None]


class ShownAnswer(NamedTuple):
    """Text of an answer, the fields of `--json` for its parts, and its place for people, if any.

    `parts` has the keys of the first part, and all parts that were asked; it is empty for an
    adapter that is asked as a whole.
    """

    text: str
    parts: Row
    place: str | None


class Asker(Protocol):
    """Adapter that is asked; `name` as in `--json`."""

    name: str

    def answer(self, turns: Turns, emit: Emit = ...) -> ShownAnswer:
        """Answer the last of several turns; pieces of text go to `emit`."""
        ...

    def compare(self, question: str) -> tuple[Row, str | None]:
        """Ask the adapter, the base alone, and the base with the document in its prompt. Returns
        their answers, and the place that the adapter's answer came from."""
        ...

    def fit(self, turns: Turns) -> tuple[Turns, int]:
        """Drop the first turns until the base's window holds the others; also how many."""
        ...


def discard(_: str) -> None:
    """Stream text to nowhere."""


class LocalAsker:
    """Adapter in this process; `document` is its text to compare with, or None."""

    def __init__(self, model: "d2l.AdaptedModel", document: str | None) -> None:
        self._model, self._document = model, document
        self.name = str(model.info.folder)

    def answer(self, turns: Turns, emit: Emit = discard) -> ShownAnswer:
        """See `Asker`."""
        chooser, answer = self._model.parts, self._model.answer(turns, emit)
        if chooser is None:
            return ShownAnswer(answer.text, {}, None)
        source = list_parts(answer.citations, answered=answer.text != SILENCE)
        several = len({record.document for record in chooser.parts.records}) > 1
        return _show(answer.text, source, several)

    def compare(self, question: str) -> tuple[Row, str | None]:
        """See `Asker`."""
        answer = self.answer([{"role": "user", "content": question}])
        row = _begin_row(question, answer) | {"base": self._model.ask_alone(question)}
        if self._document is not None:
            text, n_left_out = self._model.ask_with_document(question, self._document)
            row |= {"prompt": text, "prompt_tokens_left_out": n_left_out}
        return row, answer.place

    def fit(self, turns: Turns) -> tuple[Turns, int]:
        """See `Asker`."""
        return self._model.fit(turns)


class ServerAsker:
    """Adapter on a server."""

    def __init__(self, address: str, adapter: Path, options: AskOptions) -> None:
        """Raises ServerError if the server does not have the adapter."""
        self._client = Client(address, os.environ.get("D2L_SERVE_TOKEN"))
        self.name = self._client.find(adapter)
        most, parts = options.max_new_tokens, options.parts
        self._fields: Row = {"max_tokens": most} if most else {}  # of each request
        if parts != PartOptions() or options.short:
            chosen = {"parts": parts.count, "page": parts.page, "whole": parts.whole}
            self._fields["d2l"] = {**chosen, "short": options.short}
        self._system = options.system

    def answer(self, turns: Turns, emit: Emit = discard) -> ShownAnswer:
        """See `Asker`."""
        if self._system is not None and turns[0]["role"] != "system":
            turns = [{"role": "system", "content": self._system}, *turns]
        answer = self._client.answer(self.name, turns, emit, self._fields)
        several = len({part["document"] for part in answer.source.get("parts", ())}) > 1
        return _show(answer.text, answer.source, several)

    def compare(self, question: str) -> tuple[Row, str | None]:
        """See `Asker`; the document is the adapter's own, where the server finds it."""
        base = self._client.base
        if base is None:
            raise OptionError(
                f"{self._client.address}: does not serve the base", hint="leave --compare out"
            )
        turns: Turns = [{"role": "user", "content": question}]
        answer = self.answer(turns)
        fields = {name: value for name, value in self._fields.items() if name != "d2l"}
        alone = self._client.answer(base, turns, discard, fields)
        row = _begin_row(question, answer) | {"base": alone.text}
        try:
            fields["document"] = {"adapter": self.name}
            read = self._client.answer(base, turns, discard, fields)
            row |= {"prompt": read.text, "prompt_tokens_left_out": read.n_left_out}
        except ServerError as error:
            if error.code != "document_not_found":
                raise
        return row, answer.place

    def fit(self, turns: Turns) -> tuple[Turns, int]:
        """Keep all turns: the server alone counts their tokens, and refuses too many."""
        return turns, 0


def _show(text: str, parts: Row, several: bool) -> ShownAnswer:
    """Name the place of an answer for people, or of the closest part if the answer is a refusal;
    with its document if there are several."""
    if not parts.get("parts"):
        return ShownAnswer(text, parts, None)
    first = parts["parts"][0]
    place = first["place"] or f"#{first['part']}"
    place = f"{first['document']}, {place}" if several else place
    return ShownAnswer(text, parts, f"closest: {place}" if is_silence(text) else place)


def _begin_row(question: str, answer: ShownAnswer) -> Row:
    return {"question": question, "adapter": answer.text, **answer.parts}
