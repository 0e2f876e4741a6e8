"""A PDF page without the text that cannot be seen.

Takes a page and what is hidden on it, gives a copy for pypdf to read; the page stays as it is.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pypdf import PageObject
from pypdf.generic import (
    ArrayObject,
    ContentStream,
    DictionaryObject,
    FloatObject,
    NameObject,
)

from d2l.documents.readers.pdf.fonts import look_up
from d2l.documents.readers.pdf.strings import Operation
from d2l.documents.readers.pdf.visible import Hidden, Path

OF_ENCODING = ("/Length", "/Filter", "/DecodeParms")  # what a stream says of its bytes


def omit_hidden(
    page: PageObject, stream: ContentStream, hidden: Mapping[Path, Hidden]
) -> tuple[PageObject, ContentStream]:
    """Give the page and its content without hidden text; what is beside it keeps its place."""
    omitter = _Omitter(page.pdf, hidden)
    made = PageObject(page.pdf, page.indirect_reference)
    made.update(page)
    resources, content = omitter.rewrite(page.get("/Resources"), stream, ())
    made[NameObject("/Resources")] = resources
    return made, content


class _Omitter:
    """Copies content without its hidden text, and the forms that have some."""

    def __init__(self, pdf: Any, hidden: Mapping[Path, Hidden]) -> None:
        self._pdf = pdf
        self._hidden = hidden
        self._on_the_way = {path[:n] for path in hidden for n in range(1, len(path))}

    def rewrite(
        self, resources: Any, stream: ContentStream, path: Path
    ) -> tuple[DictionaryObject, ContentStream]:
        """Give the resources and operations of a page or form without what is hidden below it."""
        own = DictionaryObject(resources.get_object() if resources is not None else {})
        objects = look_up(own, "/XObject")
        forms = DictionaryObject(objects if isinstance(objects, DictionaryObject) else {})
        content = ContentStream(None, self._pdf)
        content.operations = list(self._walk(stream, own, forms, path))
        own[NameObject("/XObject")] = forms
        return own, content

    def _walk(
        self, stream: ContentStream, own: DictionaryObject, forms: DictionaryObject, path: Path
    ) -> Iterator[Operation]:
        for index, (operands, operator) in enumerate(stream.operations):
            here = (*path, index)
            if here in self._hidden and operator == b"Do":
                continue
            if here in self._hidden:
                yield from skip_text(operands, operator, self._hidden[here].kern)
            elif operator == b"Do" and here in self._on_the_way:
                name = NameObject(f"/d2l{index}")
                forms[name] = self._copy_form(forms[operands[0]].get_object(), own, here)
                yield [name], operator
            else:
                yield operands, operator

    def _copy_form(self, form: Any, outer: DictionaryObject, path: Path) -> ContentStream:
        stream = ContentStream(form, self._pdf, "bytes")
        resources, copied = self.rewrite(form.get("/Resources", outer), stream, path)
        copied.update({key: form.raw_get(key) for key in form if key not in OF_ENCODING})
        copied[NameObject("/Resources")] = resources
        return copied


def skip_text(operands: Any, operator: bytes, kern: float) -> Iterator[Operation]:
    """Yield operators that move the pen as one does that shows text, and show none."""
    if operator == b'"' and len(operands) == 3:
        yield operands[:1], b"Tw"
        yield operands[1:2], b"Tc"
    if operator in (b"'", b'"'):
        yield [], b"T*"
    yield [ArrayObject([FloatObject(kern)])], b"TJ"
