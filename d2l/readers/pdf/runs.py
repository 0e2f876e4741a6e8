"""The operators of a PDF page that show text, in its forms, too, in the order of painting.

They are counted like pdfium's text objects: one run each.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pypdf import PageObject
from pypdf.generic import ArrayObject, ContentStream, DictionaryObject

from d2l.readers.pdf.fonts import PARSE_ERRORS, list_resources, look_up
from d2l.readers.pdf.strings import Operation, Path
from d2l.readers.pdf.widths import Measure, measure_font

MAX_FORMS = 5000  # of a page: forms can multiply, and viewers draw more of them slowly
MAX_DEPTH = 25  # of forms inside forms; pdfium's limit is 40
# pdfium copies all outer marks at each mark, and searches all layers at each piece of text.
MAX_MARKS, MAX_LAYERS = 1000, 1000
TEXT_OPERATORS = (b"Tj", b"TJ", b"'", b'"')
NO_FONT = DictionaryObject()  # viewers draw missing fonts with a font of their own


class Run(NamedTuple):
    """Text of one operator. `path`: the operators that lead to it, through forms."""

    path: Path
    n_chars: int  # that leave ink
    is_type3: bool = False  # a font whose glyphs are drawings
    is_composite: bool = False  # a font of two-byte codes


class Runs:
    """Lists the runs of a page, and the text that no viewer draws."""

    def __init__(self, page: PageObject, stream: ContentStream, known: dict[int, Measure]) -> None:
        self.runs: list[Run] = []
        self.undrawn: dict[Path, int] = {}  # characters shown without any font
        self.unread: dict[Path, int] = {}  # characters of forms that are not read
        self.n_forms = 0
        self.n_marks = self.most_marks = 0  # open marks of content, now and at most
        self._pdf: Any = page.pdf
        self._known = known
        self._streams: dict[int, ContentStream] = {}
        self._list(stream.operations, page.get("/Resources"), None, (), frozenset())

    def are_slow(self) -> bool:
        """True if pdfium would take much time for the page, whatever its size."""
        try:
            n_layers = len(self._pdf.root_object["/OCProperties"]["/OCGs"])
        except PARSE_ERRORS:
            n_layers = 0
        return self.most_marks > MAX_MARKS or n_layers > MAX_LAYERS

    def _list(
        self,
        operations: Sequence[Operation],
        resources: Any,
        font: DictionaryObject | None,
        path: Path,
        within: frozenset[int],
    ) -> None:
        """List the runs of a page or form; `within`: the forms around it, and itself."""
        fonts = list_resources(resources, "/Font")
        saved: list[DictionaryObject | None] = []
        for index, (operands, operator) in enumerate(operations):
            here = (*path, index)
            try:
                if operator == b"q":
                    saved.append(font)
                elif operator == b"Q" and saved:
                    font = saved.pop()
                elif operator in (b"BMC", b"BDC"):
                    self.n_marks += 1
                    self.most_marks = max(self.most_marks, self.n_marks)
                elif operator == b"EMC":
                    self.n_marks -= 1
                elif operator == b"Tf":
                    font = fonts.get(operands[0], NO_FONT)
                elif operator == b"gs":
                    state = find_resource(resources, "/ExtGState", operands[0])
                    font = look_up(state, "/Font")[0].get_object() if "/Font" in state else font
                elif operator in TEXT_OPERATORS and operands:
                    self._add(operands[-1], operator, font, here)
                elif operator == b"Do":
                    form = find_resource(resources, "/XObject", operands[0])
                    if look_up(form, "/Subtype") != "/Image":
                        self._enter(form, resources, font, here, within)
            except PARSE_ERRORS:  # operands of wrong types
                continue

    def _add(
        self, operand: Any, operator: bytes, font: DictionaryObject | None, path: Path
    ) -> None:
        is_array = isinstance(operand, ArrayObject)
        n_bytes = 1 if font is None else measure_font(font, self._known).n_bytes
        n_chars = count_signs(operand if is_array else [operand], n_bytes)
        if n_chars is None or is_array != (operator == b"TJ"):
            return
        if font is None:
            self.undrawn[path] = n_chars
        else:
            is_type3 = look_up(font, "/Subtype") == "/Type3"
            self.runs.append(Run(path, n_chars, is_type3, n_bytes == 2))

    def _enter(
        self,
        form: Any,
        outer: Any,
        font: DictionaryObject | None,
        path: Path,
        within: frozenset[int],
    ) -> None:
        self.n_forms += 1
        if id(form) in within:  # a form inside itself shows nothing
            self.unread[path] = 0
            return
        if id(form) not in self._streams:
            self._streams[id(form)] = ContentStream(form, self._pdf, "bytes")
        operations = self._streams[id(form)].operations
        if self.n_forms > MAX_FORMS or len(path) > MAX_DEPTH:
            shown = [o[-1] for o, name in operations if o and name in TEXT_OPERATORS]
            if shown or any(name == b"Do" for _, name in operations):
                items = (item if isinstance(item, ArrayObject) else [item] for item in shown)
                self.unread[path] = max(1, sum(count_signs(item, 1) or 0 for item in items))
            return
        resources = form.get("/Resources", outer)
        self._list(operations, resources, font, path, within | {id(form)})


def find_resource(resources: Any, category: str, name: str) -> Any:
    """Find a named resource; raises LookupError or TypeError if it is missing."""
    return resources.get_object()[category].get_object()[name].get_object()


def count_signs(items: Sequence[Any], n_bytes: int) -> int | None:
    """Count the codes without spaces; None if no string has any code."""
    strings = [item for item in items if isinstance(item, bytes) and item]
    if n_bytes == 2:
        signs = [len(string) // 2 for string in strings]
    else:
        signs = [len(string.translate(None, b" \xa0")) for string in strings]
    return sum(signs) if strings else None
