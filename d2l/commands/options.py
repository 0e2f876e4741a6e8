"""Options that several commands have, and options made from a model's fields.

Imports no pipeline, so that help starts at once.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from d2l.spelling import list_spellings

# Choices in help; a test compares them with the tables, whose modules import too much for help.
Target = Literal["gguf", "ollama", "mlx", "uniform", "merged", "parts", "parts-gguf"]
FetchOrigin = Literal["auto", "hub", "wheels"]

# Sections of a command's help; an option without a panel stands under "Options".
INPUT, NETWORK, OUTPUT, LIMITS = "Input", "Network", "Output", "Limits"
COMMON = "Options of every command"
PANELS = ("Arguments", "Options", INPUT, NETWORK, "Adapter", OUTPUT, LIMITS, COMMON)


def in_panel(panel: str, *names: str, help: str, **settings: Any) -> Any:
    """Make an option in a panel of the command's help."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **settings)


def _find_adapter(value: Any) -> Any:
    """Find the folder of an argument's adapter, or of each of several."""
    from d2l.adapters.adapter_paths import find_adapter

    if isinstance(value, list):
        return [find_adapter(path) for path in value]
    return None if value is None else find_adapter(value)


def _check_device(value: str) -> str:
    """Refuse a device that is not here before anything is looked up or downloaded."""
    if value != "auto":  # which needs no torch
        from d2l.bases.devices import pick_device

        pick_device(value)
    return value


def adapter_argument(help: str = "Adapter: its folder, or its name.") -> Any:
    """Make an argument that names an adapter, or several; each becomes its folder."""
    return typer.Argument(help=help, callback=_find_adapter)


#: An option that `--help` leaves out and `--help-all` shows.
expert = functools.partial(in_panel, hidden=True)

Base = Annotated[
    str | None, in_panel(NETWORK, help="Folder, GGUF file or hub name; default: the adapter's.")
]
Device = Annotated[
    str,
    in_panel(
        NETWORK, help="auto, cpu, cuda, cuda:N or mps.", callback=_check_device, is_eager=True
    ),
]
BaseDtype = Annotated[
    Literal["bf16", "fp16", "fp32"] | None,
    expert(NETWORK, help="Precision of the base; default: bf16 where it is faster."),
]
ReaderName = Annotated[
    Literal["auto", "torch", "llama.cpp"],
    in_panel(NETWORK, "--reader", metavar="NAME", help="Runs the base: auto, torch, llama.cpp."),
]
Offline = Annotated[bool, in_panel(NETWORK, "--offline", help="Open no socket.")]
Force = Annotated[bool, in_panel(OUTPUT, "--force", help="Replace what d2l wrote there before.")]
AdapterPath = Annotated[Path, adapter_argument()]
Strict = Annotated[bool, in_panel(OUTPUT, "--strict", help="Write nothing that has a warning.")]
Out = Annotated[Path, in_panel(OUTPUT, "-o", "--out", help="Folder to write.")]
DryRun = Annotated[bool, in_panel(OUTPUT, "--dry-run", help="Print the plan; load no weights.")]
Checkpoint = Annotated[
    str | None, in_panel(NETWORK, help="Network of a seats adapter; default: the one in d2l.json.")
]


def note_smaller(context: typer.Context, base: str, device: str) -> str:
    """Print a line about the smaller base if this machine is small for the default's, unless the
    user names a network or a base. Otherwise returns what to say if work takes long."""
    from d2l.bases.smaller_base import SmallerBase
    from d2l.commands import console

    smaller = SmallerBase(base, device)
    sources = [context.get_parameter_source(name) for name in ("checkpoint", "base")]
    is_named = any(source is not None and source.name != "DEFAULT" for source in sources)
    if is_named or not (line := smaller.advice):
        return smaller.hint
    console.note(line)
    return ""


def taking(
    model: str, *, command: str | None = None, into: str = "options"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Replace a command's parameter `into` by the options of a model.

    `model`: "module:Class" of a dataclass whose fields are made by `spelling.option`. `command`:
    only the options that it has of them. An option that the command declares itself stays as it is
    declared. The command gets an instance of the class.
    """
    module, _, name = model.partition(":")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        options = getattr(import_module(module), name)
        hints = get_type_hints(options)
        spellings = list_spellings(options, command)
        parameters = dict(inspect.signature(function).parameters)
        del parameters[into]
        declared = [field for field in spellings if field in parameters]
        spelled = {
            field: _spell(options, field, hints[field])
            for field in spellings
            if field not in declared
        }

        @functools.wraps(function)
        def taker(**values: Any) -> Any:
            own = {field: values.pop(field) for field in spelled}
            own |= {field: values[field] for field in declared}
            own = {field: value for field, value in own.items() if value is not None}
            return function(**{into: options(**own)}, **values)

        required = [p for p in parameters.values() if p.default is p.empty]
        others = [p for p in parameters.values() if p.default is not p.empty]
        set_parameters(taker, [*required, *spelled.values(), *others])
        return taker

    return decorate


def _spell(model: Any, name: str, hint: Any) -> inspect.Parameter:
    """Turn a model's field into a parameter that Typer reads."""
    field = model.__dataclass_fields__[name]
    spelling = field.metadata["spelling"]
    default = None if spelling.usual is not None else field.default
    spelled = [f"--{name.replace('_', '-')}"] if hint is bool else []
    info = typer.Option(
        *spelled,
        help=spelling.help,
        show_default=True if spelling.usual is None else str(spelling.usual),
        min=spelling.minimum,
        envvar=spelling.envvar,
        hidden=spelling.expert,
        rich_help_panel=spelling.of.capitalize(),
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, info]
    )


def set_parameters(command: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> None:
    """Show Typer these parameters in place of the function's own."""
    keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    setattr(command, "__signature__", inspect.Signature(keywords))  # noqa: B010
    command.__annotations__ = {p.name: p.annotation for p in keywords}
