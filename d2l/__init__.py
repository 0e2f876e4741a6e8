"""d2l: compile a document into a LoRA adapter, in one pass through a pretrained hypernetwork."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from d2l.version import __version__

if TYPE_CHECKING:  # at run time each name is imported when it is first asked for
    from d2l.answer.model import AdaptedModel
    from d2l.api.adapter import Adapter
    from d2l.api.compiler import Compiler, TaskCompiler
    from d2l.api.export import export, plan_export
    from d2l.api.functions import check, compile, edit, load_base, merge, plan_edit, plan_merge
    from d2l.documents.document import Document
    from d2l.documents.intake import ReadOptions
    from d2l.errors import D2LError

#: All that is public; whatever else there is may change.
__all__ = [
    "AdaptedModel",
    "Adapter",
    "Compiler",
    "D2LError",
    "Document",
    "ReadOptions",
    "TaskCompiler",
    "__version__",
    "check",
    "compile",
    "edit",
    "export",
    "load_base",
    "merge",
    "plan_edit",
    "plan_export",
    "plan_merge",
]

_FUNCTIONS = "d2l.api.functions"
_PLACES = {
    "AdaptedModel": "d2l.answer.model",
    "Adapter": "d2l.api.adapter",
    "Compiler": "d2l.api.compiler",
    "D2LError": "d2l.errors",
    "Document": "d2l.documents.document",
    "ReadOptions": "d2l.documents.intake",
    "TaskCompiler": "d2l.api.compiler",
    "check": _FUNCTIONS,
    "compile": _FUNCTIONS,
    "edit": _FUNCTIONS,
    "export": "d2l.api.export",
    "load_base": _FUNCTIONS,
    "merge": _FUNCTIONS,
    "plan_edit": _FUNCTIONS,
    "plan_export": "d2l.api.export",
    "plan_merge": _FUNCTIONS,
}


def __getattr__(name: str) -> Any:
    """Import a public name (PEP 562), so that `import d2l` alone needs neither torch nor time."""
    if name not in _PLACES:
        raise AttributeError(f"module 'd2l' has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
