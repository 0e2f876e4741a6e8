"""Options as fields of a dataclass: written once for the command line, the API and its help."""

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from d2l.errors import KeywordError, OptionError

Function = TypeVar("Function", bound=Callable[..., Any])
Model = TypeVar("Model")
#: Keywords of the API, named as in transformers, by the fields of a model.
_KEYWORDS = {"offline": "local_files_only"}


@dataclass(frozen=True)
class Spelling:
    """Presentation of an option by the command line and the documents.

    `of`: the panel of the help; "network" holds options of a whole `Compiler`, "adapter" those of
    one adapter. `also`: commands that have the option, beside those that take all of the model.
    `expert`: the short help leaves it out. `usual`: the default in help of a field with a factory.
    """

    help: str
    of: Literal["network", "adapter", "input", "limits"] = "adapter"
    also: tuple[str, ...] = ()
    minimum: float | None = None
    envvar: str | None = None
    expert: bool = False
    usual: Any = None


def option(default: Any, help: str, **spelling: Any) -> Any:
    """Make a dataclass field that is also an option; a callable default makes the value."""
    metadata = {"spelling": Spelling(help, **spelling)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def list_spellings(model: Any, command: str | None = None) -> dict[str, Spelling]:
    """List the options of a model by name: all, or those that a further command has."""
    found = {item.name: item.metadata["spelling"] for item in fields(model) if item.metadata}
    return {n: spelling for n, spelling in found.items() if command in (None, *spelling.also)}


def refuse_other_types(options: Any) -> None:
    """Raise OptionError for a number or a truth value that is of another type."""
    for name, hint in get_type_hints(type(options)).items():
        kinds, value = {*(get_args(hint) or (hint,))}, getattr(options, name)
        taken = kinds | ({int} if float in kinds else set())
        if kinds <= {int, float, bool, type(None)} and type(value) not in taken:
            wanted = " or ".join(sorted(kind.__name__ for kind in kinds - {type(None)}))
            raise OptionError(f"{name} is {value!r:.60}, expected {wanted}")


def list_choices(model: Any) -> dict[str, tuple[str, ...]]:
    """List the choices of each option that has some, by name."""
    found = {name: get_args(hint) for name, hint in get_type_hints(model).items()}
    return {n: args for n, args in found.items() if args and all(isinstance(a, str) for a in args)}


def show_keywords(model: Any, *names: str) -> Callable[[Function], Function]:
    """Show a model's fields (or those named) in `help()`, in place of a function's `**options`."""

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        own = {n: p for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
        spelled = (_spell(item) for item in fields(model) if not names or item.name in names)
        added = [parameter for parameter in spelled if parameter.name not in own]
        shown = signature.replace(parameters=[*own.values(), *added])
        setattr(function, "__signature__", shown)  # noqa: B010
        return function

    return decorate


def _spell(item: Field[Any]) -> inspect.Parameter:
    """Turn a model's field into a keyword of the API."""
    default = None if item.default is MISSING else item.default
    name = _KEYWORDS.get(item.name, item.name)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=item.type
    )


def from_keywords(model: type[Model], keywords: Mapping[str, Any]) -> Model:
    """Make a model from keywords of the API; raises TypeError for unknown keywords."""
    names = {_KEYWORDS.get(item.name, item.name): item.name for item in fields(model)}  # type: ignore[arg-type]
    refuse_unknown(keywords, names)
    return model(**{names[keyword]: value for keyword, value in keywords.items()})


def refuse_unknown(
    keywords: Mapping[str, Any], known: Collection[str], others: Collection[str] = ()
) -> None:
    """Raise KeywordError for a keyword that is none of the known; `others` of the function are
    named where they are meant."""
    if unknown := sorted(keywords.keys() - set(known)):
        names = sorted({*known, *others})
        inside = [name for name in names if unknown[0] in name]
        near = inside or difflib.get_close_matches(unknown[0], names, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise KeywordError(
            f"unexpected keyword {unknown[0]!r}; {meant}keywords are {', '.join(sorted(known))}"
        )
