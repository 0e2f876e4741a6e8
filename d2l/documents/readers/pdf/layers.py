"""Optional content of a PDF: which of its layers are switched off when it is opened.

Takes the catalog, answers for dictionaries of marked content; ISO 32000-2, 8.11.
"""

from typing import Any

from pypdf import PdfReader
from pypdf.generic import ArrayObject, DictionaryObject, IndirectObject

from d2l.documents.readers.pdf.fonts import look_up

MAX_NESTED_EXPRESSIONS = 16


class Layers:
    """The layers of a document, as a viewer shows them at first."""

    def __init__(self, reader: PdfReader) -> None:
        properties = look_up(reader.root_object, "/OCProperties")
        usual = look_up(properties, "/D") if isinstance(properties, DictionaryObject) else None
        self._states: dict[int, bool] = {}  # by number of the layer's object
        self._base = True
        if isinstance(usual, DictionaryObject):
            self._base = look_up(usual, "/BaseState") != "/OFF"
            for key, state in (("/ON", True), ("/OFF", False)):
                self._states |= dict.fromkeys(map(identify, list_raw(usual, key)), state)
            self._apply_usage(usual)

    def _apply_usage(self, usual: DictionaryObject) -> None:
        """Switch layers as their own usage says, where the document wants it applied to views."""
        for rule in list_raw(usual, "/AS"):
            rule = rule.get_object()
            if not isinstance(rule, DictionaryObject) or look_up(rule, "/Event") != "/View":
                continue
            for layer in list_raw(rule, "/OCGs"):
                view = layer.get_object()
                for key in ("/Usage", "/View"):
                    view = look_up(view, key) if isinstance(view, DictionaryObject) else None
                if isinstance(view, DictionaryObject) and "/ViewState" in view:
                    self._states[identify(layer)] = look_up(view, "/ViewState") != "/OFF"

    def hides(self, content: Any) -> bool:
        """Whether what belongs to a layer, or to a membership of several, is switched off."""
        entry = content.get_object() if content is not None else None
        if not isinstance(entry, DictionaryObject):
            return False
        if look_up(entry, "/Type") != "/OCMD":
            return not self._is_on(content)
        if "/VE" in entry:
            return not self._evaluate(look_up(entry, "/VE"))
        named = entry.raw_get("/OCGs") if "/OCGs" in entry else None
        layers = named.get_object() if named is not None else None
        members = list(layers) if isinstance(layers, ArrayObject) else [named]
        states = [self._is_on(member) for member in members if is_layer(member)]
        policy = str(look_up(entry, "/P") or "/AnyOn")
        if not states:
            return False
        shown = {
            "/AllOn": all(states),
            "/AnyOff": not all(states),
            "/AllOff": not any(states),
        }.get(policy, any(states))
        return not shown

    def _is_on(self, layer: Any) -> bool:
        return self._states.get(identify(layer), self._base)

    def _evaluate(self, expression: Any, depth: int = 0) -> bool:
        """Work out a visibility expression; what is none counts as shown."""
        value = expression.get_object()
        if not isinstance(value, ArrayObject):
            return self._is_on(expression)
        if depth > MAX_NESTED_EXPRESSIONS or not value:
            return True
        states = [self._evaluate(item, depth + 1) for item in value[1:]]
        if value[0] == "/Not":
            return not all(states)
        return any(states) if value[0] == "/Or" else all(states)


def identify(layer: Any) -> int:
    """A number for a layer: that of its object, for a layer is always a reference."""
    if isinstance(layer, IndirectObject):
        return int(layer.idnum)
    reference = getattr(layer, "indirect_reference", None)
    return int(reference.idnum) if reference is not None else -id(layer)


def is_layer(value: Any) -> bool:
    """Whether a member of a membership is there at all: null ones do not count."""
    return value is not None and isinstance(value.get_object(), DictionaryObject)


def list_raw(holder: DictionaryObject, key: str) -> list[Any]:
    """The items of an array as they stand in it, references among them."""
    array = look_up(holder, key)
    return list(array) if isinstance(array, ArrayObject) else []
