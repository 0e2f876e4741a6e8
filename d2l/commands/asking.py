"""Adapters that `d2l ask` asks: in this process, or on a running `d2l serve`.

Imports no torch: a server answers at once.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from d2l.answer.options import AskOptions
from d2l.datasets.silence import is_silence
from d2l.errors import OptionError
from d2l.parts.kept import PartOptions
from d2l.serve.client import Client, ServerError

if TYPE_CHECKING:
    from d2l.answer.asked import Asked

Turns = list[dict[str, str]]
Row = dict[str, Any]
Emit = Callable[[str], None]


class ShownAnswer(NamedTuple):
    """Text of an answer, its fields of `--json`, its place for people, if any, and its limit."""

    text: str
    source: Row
    place: str | None
    limit: str = ""

    @property
    def end(self) -> str:
        """Words behind the text: of a cut, and of the closest place where nothing was found."""
        if cut := explain_cut(self.source.get("finish"), self.limit):
            return cut
        return f"Closest: {self.place}" if self.place and is_silence(self.text) else ""

    @property
    def passage(self) -> str:
        """Lines below the text: the passage, with its place, maybe with a doubt."""
        lines, place = self.source.get("passage"), f" ({self.place})" if self.place else ""
        quoted = f"“{lines}”" if lines else ""
        if is_silence(self.text):
            return quoted
        is_doubtful = self.source.get("supported") is False
        doubt = "not in these words in the text; nearest: " if is_doubtful else ""
        return f"{doubt}{quoted}{place}".strip()


class Asker(Protocol):
    """Adapter that is asked; `name` as in `--json`."""

    name: str

    def answer(self, turns: Turns, emit: Emit = ...) -> ShownAnswer:
        """Answer the last of several turns; pieces of text go to `emit`."""
        ...

    def compare(self, question: str) -> tuple[Row, dict[str, ShownAnswer]]:
        """Ask the adapter, the base alone, and the base with the document in its prompt. Returns
        their answers, for `--json` and by arm."""
        ...

    def fit(self, turns: Turns) -> tuple[Turns, int]:
        """Drop the first turns until the base's window holds the others; also how many."""
        ...


def discard(_: str) -> None:
    """Stream text to nowhere."""


class LocalAsker:
    """Adapter in this process; `document` is its text to compare with, or None."""

    def __init__(self, model: "Asked", document: str | None) -> None:
        self._model, self._document = model, document
        self.name = str(model.info.folder)

    def answer(self, turns: Turns, emit: Emit = discard) -> ShownAnswer:
        """See `Asker`."""
        answer = self._model.answer(turns, emit)
        several = len({record.document for record in self._model.kept.records}) > 1
        return _show(answer.text, answer.to_json(), several, self._limit)

    @property
    def _limit(self) -> str:
        return f"{self._model.options.max_new_tokens} tokens: --max-tokens"

    def compare(self, question: str) -> tuple[Row, dict[str, ShownAnswer]]:
        """See `Asker`."""
        arms = {"adapter": self.answer([{"role": "user", "content": question}])}
        alone, n_left_out = self._model.ask_alone(question), 0
        arms["base"] = _show(alone.text, {"finish": alone.finish}, False, self._limit)
        if self._document is not None:
            read, n_left_out = self._model.ask_with_document(question, self._document)
            arms["prompt"] = _show(read.text, {"finish": read.finish}, False, self._limit)
        return _write_row(question, arms, n_left_out), arms

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
        self._most = most
        self._fields: Row = {"max_tokens": most} if most else {}  # of each request
        if parts != PartOptions() or options.short or options.long:
            chosen = {"parts": parts.count, "page": parts.page, "whole": parts.whole}
            self._fields["d2l"] = {**chosen, "short": options.short, "long": options.long}
        self._system = options.system

    def answer(self, turns: Turns, emit: Emit = discard) -> ShownAnswer:
        """See `Asker`."""
        if self._system is not None and turns[0]["role"] != "system":
            turns = [{"role": "system", "content": self._system}, *turns]
        return self._ask(self.name, turns, self._fields, emit)[0]

    def _ask(
        self, model: str, turns: Turns, fields: Row, emit: Emit = discard
    ) -> tuple[ShownAnswer, int]:
        """Ask a model of the server; also the number of the document's tokens left out."""
        answer = self._client.answer(model, turns, emit, fields)
        several = len({str(part["document"]) for part in answer.source.get("parts", ())}) > 1
        limit = f"{self._most} tokens: --max-tokens" if self._most else "the limit: --max-tokens"
        return _show(answer.text, answer.source, several, limit), answer.n_left_out

    def compare(self, question: str) -> tuple[Row, dict[str, ShownAnswer]]:
        """See `Asker`; the document is the adapter's own, where the server finds it."""
        base = self._client.base
        if base is None:
            raise OptionError(
                f"{self._client.address}: does not serve the base", hint="leave --compare out"
            )
        turns: Turns = [{"role": "user", "content": question}]
        fields = {name: value for name, value in self._fields.items() if name != "d2l"}
        arms = {"adapter": self.answer(turns), "base": self._ask(base, turns, fields)[0]}
        n_left_out = 0
        try:
            fields["document"] = {"adapter": self.name}
            arms["prompt"], n_left_out = self._ask(base, turns, fields)
        except ServerError as error:
            if error.code != "document_not_found":
                raise
        return _write_row(question, arms, n_left_out), arms

    def fit(self, turns: Turns) -> tuple[Turns, int]:
        """Keep all turns: the server alone counts their tokens, and refuses too many."""
        return turns, 0


def _show(text: str, source: Row, several: bool, limit: str) -> ShownAnswer:
    """Name the place of an answer for people; with its document if there are several."""
    if not source.get("parts"):
        return ShownAnswer(text, source, None, limit)
    first = source["parts"][0]
    place = first["place"] or ("" if first["score"] is None else f"#{first['part']}")
    named = f"{first['document']}, {place}".removesuffix(", ") if several else place
    return ShownAnswer(text, source, named or None, limit)


def explain_cut(finish: str | None, limit: str) -> str:
    """Explain why an answer was cut; empty if it was not."""
    if finish == "timeout":
        return "… (cut at the server's time: d2l serve --max-seconds)"
    return f"… (cut at {limit})" if finish == "length" else ""


def _write_row(question: str, arms: dict[str, ShownAnswer], n_left_out: int) -> Row:
    """Write the answers of several arms for `--json`."""
    row: Row = {"question": question, "adapter": arms["adapter"].text, **arms["adapter"].source}
    row |= {"base": arms["base"].text, "base_finish": arms["base"].source.get("finish")}
    if "prompt" in arms:
        row |= {"prompt": arms["prompt"].text, "prompt_tokens_left_out": n_left_out}
        row["prompt_finish"] = arms["prompt"].source.get("finish")
    return row
