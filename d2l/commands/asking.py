"""Who is asked by `d2l ask`: an adapter in this process, or one on a running `d2l serve`.

Imports no torch: a server answers at once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from d2l.datasets.silence import SILENCE, is_silence
from d2l.errors import OptionError
from d2l.inference.parts.choose import list_parts
from d2l.serve.client import Client, ServerError

if TYPE_CHECKING:
    import d2l

Turns = list[dict[str, str]]
Row = dict[str, Any]
Emit = Callable[[str], None]


class ShownAnswer(NamedTuple):
    """An answer's text, what `--json` says of its parts, and its place for people, if it has one.

    `parts` has the keys of the first part, and all parts that were asked; nothing for an adapter
    that is asked as a whole.
    """

    text: str
    parts: Row
    place: str | None


class Asker(Protocol):
    """Who is asked; `name` is the adapter as `--json` has it."""

    name: str

    def answer(self, turns: Turns, emit: Emit = ...) -> ShownAnswer:
        """Answer the last of several turns; pieces of text go to `emit`."""
        ...

    def compare(self, question: str) -> tuple[Row, str | None]:
        """Answers of the adapter, of the base alone, and with the document in the base's prompt;
        and the place that the adapter's answer came from."""
        ...

    def fit(self, turns: Turns) -> tuple[Turns, int]:
        """The last turns that the base's window holds, and how many were left out."""
        ...


def discard(_: str) -> None:
    """Stream text to nowhere."""


class LocalAsker:
    """An adapter in this process; `document` is its text to compare with, or None."""

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
        model, config = self._model, self._model.model.config.get_text_config()
        room = int(config.max_position_embeddings) - model.options.max_new_tokens
        opening = None if model.parts is None else model.parts.parts.index.opening
        if opening is not None:
            # A part left by d2l edit has more seats than its share in the whole.
            room -= max(len(opening.ids) - len(model.opening), 0)
        n_given = len(turns)
        while len(turns) > 1 and len(model.prompt_turns(turns)) > room:
            turns = turns[2:]
        return turns, n_given - len(turns)


class ServerAsker:
    """An adapter on a server; `fields` are more of each request to it, such as max_tokens."""

    def __init__(self, client: Client, adapter: Path, fields: Row) -> None:
        """Raises ServerError where the server does not have the adapter."""
        self._client, self._fields = client, fields
        self.name = client.find(adapter)

    def answer(self, turns: Turns, emit: Emit = discard) -> ShownAnswer:
        """See `Asker`."""
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
            told = self._client.answer(base, turns, discard, fields)
            row |= {"prompt": told.text, "prompt_tokens_left_out": told.n_left_out}
        except ServerError as error:
            if error.code != "document_not_found":
                raise
        return row, answer.place

    def fit(self, turns: Turns) -> tuple[Turns, int]:
        """All turns: the server alone counts their tokens, and refuses too many."""
        return turns, 0


def _show(text: str, parts: Row, several: bool) -> ShownAnswer:
    """Name the place of an answer for people, or the closest where it says that there is none; with
    its document where there are several."""
    if not parts.get("parts"):
        return ShownAnswer(text, parts, None)
    first = parts["parts"][0]
    place = first["place"] or f"#{first['part']}"
    place = f"{first['document']}, {place}" if several else place
    return ShownAnswer(text, parts, f"closest: {place}" if is_silence(text) else place)


def _begin_row(question: str, answer: ShownAnswer) -> Row:
    return {"question": question, "adapter": answer.text, **answer.parts}
