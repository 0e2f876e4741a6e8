"""Options as fields of a dataclass: written once for the command line, the API and its help."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args, get_type_hints

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


def refuse_unknown(keywords: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise TypeError for a keyword that is none of the known."""
    if unknown := sorted(keywords.keys() - set(known)):
        raise TypeError(
            f"unexpected keyword {unknown[0]!r}; keywords are {', '.join(sorted(known))}"
        )
