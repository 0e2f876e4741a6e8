"""The strings that a PDF page shows, with their lengths and the spacing between their words.

Takes a page, gives one with the same text for pypdf to read; knows nothing of lines.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pypdf import PageObject
from pypdf.generic import (
    ArrayObject,
    ByteStringObject,
    ContentStream,
    FloatObject,
    NameObject,
)

from d2l.documents.readers.pdf.fonts import look_up
from d2l.documents.readers.pdf.widths import GUESS, Measure

Operation = tuple[Any, bytes]  # operands, operator


class Shown(ArrayObject):
    """The strings and moves of one `TJ`, and how far they move the pen, in text space."""

    length: float = 0.0
    inked: float = 0.0  # the length without spaces at the end
    is_exact: bool = True  # whether the font tells its widths


class TextState(Protocol):
    """What decides how far a string goes."""

    @property
    def measure(self) -> Measure:
        """The widths of the font."""

    @property
    def size(self) -> float:
        """The font's size in text space."""

    @property
    def char_spacing(self) -> float:
        """What is added to each character."""

    @property
    def word_spacing(self) -> float:
        """What is added to each space of a font with codes of one byte."""

    @property
    def stretch(self) -> float:
        """How wide characters are set; 1 is as wide as they are."""


@dataclass(frozen=True)
class _State:
    """The text state that decides how far strings go."""

    font: Sequence[Any] = ()  # operands of the last `Tf`
    measure: Measure = GUESS
    size: float = 0.0
    char_spacing: float = 0.0
    word_spacing: float = 0.0
    stretch: float = 1.0


def parse_content(page: PageObject) -> ContentStream:
    """Parse the operations of a page; one without content has none."""
    return ContentStream(look_up(page, "/Contents"), page.pdf, "bytes")


def spell_out_strings(
    page: PageObject, stream: ContentStream, measures: Mapping[str, Measure]
) -> PageObject:
    """Give a page with some content whose strings are all `Shown`; the page stays as it is.

    pypdf does not count word spacing: it takes what follows justified spaces for far off, and
    splits words. So each space comes with a move that does the same.
    """
    spelled = PageObject(page.pdf, page.indirect_reference)
    spelled.update(page)
    content = ContentStream(None, page.pdf)
    content.operations = list(spell_out(stream.operations, measures))
    spelled[NameObject("/Contents")] = content
    return spelled


def spell_out(
    operations: Sequence[Operation], measures: Mapping[str, Measure]
) -> Iterator[Operation]:
    """Yield operations that show the same, each string by a `TJ` of its own.

    A `Tf` before what stands at a new place has pypdf report it as a piece of its own.
    """
    state = _State()
    saved: list[_State] = []
    has_moved = False
    for operands, operator in operations:
        if operator == b"q":
            saved.append(state)
        elif operator == b"Q" and saved:
            state = saved.pop()
        elif operator == b'"' and len(operands) == 3:
            state = change_state(change_state(state, b"Tw", operands), b"Tc", operands[1:])
            yield operands[1:2], b"Tc"
        elif operator == b"Tf" and len(operands) == 2:
            state = replace(
                state,
                font=operands,
                measure=measures.get(operands[0], GUESS),
                size=read_number(operands, 1),
            )
        else:
            state = change_state(state, operator, operands)
        if operator in (b"'", b'"'):
            yield [], b"T*"
        if operator in (b"Tj", b"TJ", b"'", b'"') and operands:
            if has_moved and state.font:
                yield state.font, b"Tf"
            has_moved = False
            yield [show(operands[-1], state)], b"TJ"
        else:
            has_moved |= operator in (b"Td", b"TD", b"Tm")
            yield operands, operator


def change_state(state: _State, operator: bytes, operands: Sequence[Any]) -> _State:
    """Give the state after one of the operators that set a number of it."""
    if operator == b"Tc":
        return replace(state, char_spacing=read_number(operands, 0))
    if operator == b"Tw":
        return replace(state, word_spacing=read_number(operands, 0))
    if operator == b"Tz":
        return replace(state, stretch=read_number(operands, 0) / 100)
    return state


def show(operand: Any, state: _State) -> Shown:
    """Measure what an operator shows, and add moves for its word spacing."""
    shown = Shown()
    shown.is_exact = state.measure.default is not None
    spaced = state.word_spacing if state.measure.n_bytes == 1 else 0.0
    for item in operand if isinstance(operand, ArrayObject) else [operand]:
        if isinstance(item, bytes):
            ink = item.rstrip(b" ") if state.measure.n_bytes == 1 else item
            if ink:
                shown.inked = shown.length + measure_text(ink, state, spaced)
            shown.length += measure_text(item, state, spaced)
            move = -1000 * spaced / state.size if state.size else 0.0
            shown.extend(spread(item, move) if move else [item])
        else:
            shown.length -= read_number([item], 0) / 1000 * state.size * state.stretch
            shown.append(item)
    return shown


@dataclass(frozen=True)
class Measured:
    """How far one operator moves the pen, in text space, and where it leaves ink.

    `words`: of each string between spaces, where it begins and ends, and how many signs it shows.
    """

    length: float
    words: tuple[tuple[float, float, int], ...]

    @property
    def n_chars(self) -> int:
        """How many signs there are that leave ink."""
        return sum(n for _, _, n in self.words)

    def spread(self, n_places: int) -> list[float]:
        """Places spread evenly over all signs, however wide the gaps between them."""
        places: list[float] = []
        total, before = self.n_chars, 0
        for start, end, n in self.words:
            while len(places) < n_places:
                at = (len(places) + 0.5) / n_places * total
                if at > before + n:
                    break
                places.append(start + (at - before) / n * (end - start))
            before += n
        return places


def measure_items(operand: Any, state: TextState) -> Measured:
    """Measure the strings and moves of one operator."""
    length = 0.0
    words: list[tuple[float, float, int]] = []
    n_bytes = state.measure.n_bytes
    spaced = state.word_spacing if n_bytes == 1 else 0.0
    for item in operand if isinstance(operand, ArrayObject) else [operand]:
        if not isinstance(item, bytes):
            length -= read_number([item], 0) / 1000 * state.size * state.stretch
            continue
        space = measure_text(b" ", state, spaced) if n_bytes == 1 and b" " in item else 0.0
        for n, word in enumerate(item.split(b" ") if n_bytes == 1 else [item]):
            start = length + (space if n else 0.0)
            length = start + measure_text(word, state, spaced)
            if len(word) >= n_bytes:
                words.append((start, length, len(word) // n_bytes))
    return Measured(length, tuple(words))


def measure_text(raw: bytes, state: TextState, word_spacing: float) -> float:
    """Give the length of a string in text space."""
    length = state.measure.measure(raw) * state.size
    length += state.char_spacing * len(raw) / state.measure.n_bytes
    return (length + word_spacing * raw.count(b" ")) * state.stretch


def spread(raw: bytes, move: float) -> Iterator[Any]:
    """Yield the words of a string, each with its space and a move after that."""
    *words, last = raw.split(b" ")
    for word in words:
        yield ByteStringObject(word + b" ")
        yield FloatObject(move)
    if last:
        yield ByteStringObject(last)


def read_number(operands: Sequence[Any], index: int) -> float:
    """Give an operand as a number; 0 if it is missing or none."""
    value = operands[index] if index < len(operands) else None
    return float(value) if isinstance(value, (int, float)) else 0.0
