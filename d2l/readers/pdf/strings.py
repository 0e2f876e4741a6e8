"""The strings of a PDF page, with their lengths and the spacing between words.

A page in, a copy for pypdf out, without the text to leave out.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

from pypdf import PageObject
from pypdf.generic import (
    ArrayObject,
    ByteStringObject,
    ContentStream,
    DictionaryObject,
    FloatObject,
    NameObject,
)

from d2l.readers.pdf.fonts import look_up
from d2l.readers.pdf.widths import GUESS, Measure, find_measures

OF_ENCODING = ("/Length", "/Filter", "/DecodeParms")  # keys about the bytes of a stream

Operation = tuple[Any, bytes]  # operands, operator
Path = tuple[int, ...]  # to an operator, through forms


class Shown(ArrayObject):
    """The strings and moves of one `TJ`, and their length in text space."""

    length: float = 0.0
    inked: float = 0.0  # the length without spaces at the end
    is_exact: bool = True  # the font has widths

    def without_text(self, state: "_TextState") -> "Shown":
        """Make a move of the same length, without text."""
        unit = state.size * state.stretch
        moved = Shown([FloatObject(-1000 * self.length / unit if unit else 0.0)])
        moved.length, moved.is_exact = self.length, self.is_exact
        return moved


class _TextState(NamedTuple):
    """The text state that decides the length of strings."""

    font: Sequence[Any] = ()  # operands of the last `Tf`
    measure: Measure = GUESS
    size: float = 0.0
    char_spacing: float = 0.0
    word_spacing: float = 0.0
    stretch: float = 1.0


def parse_content(page: PageObject) -> ContentStream:
    """Parse the operations of a page; none without content."""
    return ContentStream(look_up(page, "/Contents"), page.pdf, "bytes")


def spell_out_strings(
    page: PageObject, stream: ContentStream, measures: Mapping[str, Measure], omitted: Set[Path]
) -> PageObject:
    """Copy a page with this content, all strings of which become `Shown`.

    pypdf ignores word spacing: it sees a gap after justified spaces, and splits words. So each
    space gets a move of the same length. Forms are copied only if they contain text to leave out.
    """
    spelled = PageObject(page.pdf, page.indirect_reference)
    spelled.update(page)
    resources, content = _Speller(page.pdf, omitted).copy(
        stream, page.get("/Resources"), measures, ()
    )
    spelled[NameObject("/Resources")] = resources
    spelled[NameObject("/Contents")] = content
    return spelled


class _Speller:
    """Copies the content of a page, and of its forms that contain text to leave out."""

    def __init__(self, pdf: Any, omitted: Set[Path]) -> None:
        self._pdf = pdf
        self._omitted = omitted
        self._on_the_way = {path[:n] for path in omitted for n in range(1, len(path))}

    def copy(
        self, stream: ContentStream, resources: Any, measures: Mapping[str, Measure], path: Path
    ) -> tuple[DictionaryObject, ContentStream]:
        """Copy resources and content, with all strings spelled out."""
        own = DictionaryObject(resources.get_object() if resources is not None else {})
        content = ContentStream(None, self._pdf)
        content.operations = list(self._spell_out(stream.operations, own, measures, path))
        return own, content

    def _copy_form(self, own: DictionaryObject, name: Any, path: Path) -> NameObject:
        """Add a copy of a form to the resources, and return its name."""
        forms = DictionaryObject(look_up(own, "/XObject"))
        form: Any = forms[name].get_object()
        inner = form.get("/Resources", own)
        stream = ContentStream(form, self._pdf, "bytes")
        resources, copied = self.copy(stream, inner, find_measures(inner, {}), path)
        copied.update({key: form.raw_get(key) for key in form if key not in OF_ENCODING})
        copied[NameObject("/Resources")] = resources
        renamed = NameObject(f"/d2l{path[-1]}")
        forms[renamed] = copied
        own[NameObject("/XObject")] = forms
        return renamed

    def _spell_out(
        self,
        operations: Sequence[Operation],
        own: DictionaryObject,
        measures: Mapping[str, Measure],
        path: Path,
    ) -> Iterator[Operation]:
        """Yield operations for the remaining text, each string in its own `TJ`.

        A `Tf` at each new position makes pypdf report a separate piece.
        """
        state = _TextState()
        saved: list[_TextState] = []
        has_moved = False
        for index, (operands, operator) in enumerate(operations):
            here = (*path, index)
            if operator == b"q":
                saved.append(state)
            elif operator == b"Q" and saved:
                state = saved.pop()
            elif operator == b'"' and len(operands) == 3:
                state = change_state(change_state(state, b"Tw", operands), b"Tc", operands[1:])
                yield operands[1:2], b"Tc"
            elif operator == b"Tf" and len(operands) == 2:
                state = state._replace(
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
                shown = show(operands[-1], state)
                yield [shown.without_text(state) if here in self._omitted else shown], b"TJ"
            elif operator == b"Do" and here in self._on_the_way:
                yield [self._copy_form(own, operands[0], here)], operator
            elif here not in self._omitted:
                has_moved |= operator in (b"Td", b"TD", b"Tm")
                yield operands, operator


def change_state(state: _TextState, operator: bytes, operands: Sequence[Any]) -> _TextState:
    """Change the state by an operator that sets a number of it."""
    if operator == b"Tc":
        return state._replace(char_spacing=read_number(operands, 0))
    if operator == b"Tw":
        return state._replace(word_spacing=read_number(operands, 0))
    if operator == b"Tz":
        return state._replace(stretch=read_number(operands, 0) / 100)
    return state


def show(operand: Any, state: _TextState) -> Shown:
    """Measure the strings of an operator, and add moves for its word spacing."""
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


def measure_text(raw: bytes, state: _TextState, word_spacing: float) -> float:
    """Compute the length of a string in text space."""
    length = state.measure.measure(raw) * state.size
    length += state.char_spacing * len(raw) / state.measure.n_bytes
    return (length + word_spacing * raw.count(b" ")) * state.stretch


def spread(raw: bytes, move: float) -> Iterator[Any]:
    """Yield the words of a string, each with its space and a move."""
    *words, last = raw.split(b" ")
    for word in words:
        yield ByteStringObject(word + b" ")
        yield FloatObject(move)
    if last:
        yield ByteStringObject(last)


def read_number(operands: Sequence[Any], index: int) -> float:
    """Read an operand as a number; 0 if it is missing, or no number."""
    value = operands[index] if index < len(operands) else None
    return float(value) if isinstance(value, (int, float)) else 0.0
