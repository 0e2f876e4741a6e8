"""Options that several commands have, and the choices in their help.

Imports no pipeline, so that help starts at once.
"""

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer
from typer.core import TyperCommand

from d2l import __version__
from d2l.commands import console
from d2l.hypernets.registry import DEFAULT_VARIABLE

#: What takes the empty text for a text, or says itself what is wrong with it.
_MAY_BE_EMPTY = ("password", "system", "description", "question")
# Names in help; a test compares them with the dictionaries that they stand for, which live in
# modules that are too heavy to import here.
Merge = Literal["concat", "average"]
Chunking = Literal["usual", "stable"]
Dtype = Literal["bf16", "fp16", "fp32"]
Target = Literal["gguf", "ollama", "mlx", "merged"]
FetchOrigin = Literal["auto", "hub", "wheels"]
Scaling = Literal["standard", "config"]
Format = Literal["pdf", "text", "markdown", "html", "docx", "epub"]

Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        help="Export it, too, beside the adapter: gguf, ollama, mlx or merged; repeatable.",
    ),
]
Base = Annotated[
    str | None, typer.Option(help="Where the base lies: folder, GGUF file or hub name.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Offline = Annotated[bool, typer.Option("--offline", help="Open no socket.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what d2l wrote there before.")]
AdapterPath = Annotated[Path, typer.Argument(help="Adapter folder.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Adapter folder to write.")]
CheckpointName = Annotated[
    str,
    typer.Option(
        envvar=DEFAULT_VARIABLE, help="Alias, folder, file or org/repo[@revision][:subfolder]."
    ),
]
TextCheckpointName = Annotated[  # which the default for documents is none of
    str, typer.Option(help="Alias, folder, file or org/repo[@revision][:subfolder].")
]
WrittenDtype = Annotated[Dtype, typer.Option(help="Precision of the written weights.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan; load no weights.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Checkpoint = Annotated[
    str | None,
    typer.Option(help="Seats adapters: their network, if its name leads elsewhere by now."),
]
RefineTime = Annotated[
    str | None,
    typer.Option(
        "--refine",
        metavar="TIME",
        help="Correct the adapter on its own document for so long: 30s, 2m, 1h.",
    ),
]
RefineSteps = Annotated[
    int | None, typer.Option(min=1, help="Correct it for so many steps at most.")
]
NewDtype = Annotated[
    Dtype | None, typer.Option(help="Precision; default: the parents', or fp32 where they round.")
]


def _choose(level: console.Level) -> Callable[[bool], None]:
    def choose(wanted: bool) -> None:
        if wanted:
            console.set_level(level)

    return choose


#: What every command takes besides its own: said once in documents, not in each command's table.
LEVELS: Mapping[str, Any] = {
    "quiet": Annotated[
        bool,
        typer.Option(
            "-q",
            "--quiet",
            help="Print results and errors alone.",
            callback=_choose(console.Level.QUIET),
            is_eager=True,
        ),
    ],
    "verbose": Annotated[
        bool,
        typer.Option(
            "-v",
            "--verbose",
            help="Say what is loaded, from where, and when.",
            callback=_choose(console.Level.VERBOSE),
            is_eager=True,
        ),
    ],
}


def _with_levels(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command's function that takes `LEVELS`, too; their callbacks have done all there is to."""

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        return function(**{name: value for name, value in values.items() if name not in LEVELS})

    own = inspect.signature(function)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=hint)
        for name, hint in LEVELS.items()
    ]
    setattr(command, "__signature__", own.replace(parameters=[*own.parameters.values(), *added]))  # noqa: B010
    command.__annotations__ = get_type_hints(function, include_extras=True) | dict(LEVELS)
    return command


class _App(typer.Typer):
    """An app all of whose commands take `LEVELS`."""

    def command(self, *words: Any, **settings: Any) -> Callable[..., Any]:
        """As Typer's; what it decorates stays as it is."""
        register = super().command(*words, **settings)

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            register(_with_levels(function))
            return function

        return decorate


def make_app() -> typer.Typer:
    """A command line as plain as d2l's are: no markup, no boxes; the shell completes it."""
    return _App(
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def make_command(app: typer.Typer) -> Any:
    """The command line of an app, with what all its options share: no empty names, and "~" for the
    home folder also where the shell leaves it (`--out=~/x`)."""
    command = typer.main.get_command(app)
    _guard(command)
    return command


def split_short(arguments: Sequence[str]) -> list[str]:
    """Arguments with `-o=x` taken apart, which click would read as a file called "=x"."""
    result = list(arguments)
    end = result.index("--") if "--" in result else len(result)
    for index in reversed(range(end)):
        if re.match("-[A-Za-z]=", result[index]):
            result[index : index + 1] = [result[index][:2], result[index][3:]]
    return result


def _guard(command: Any) -> None:
    """Look at every value of a command line, and of the commands below it, before it is read."""
    for inner in getattr(command, "commands", {}).values():
        _guard(inner)
    for parameter in command.params:
        if parameter.name not in _MAY_BE_EMPTY:
            parameter.process_value = partial(_process, parameter, parameter.process_value)


def _process(parameter: Any, process: Callable[[Any, Any], Any], context: Any, value: Any) -> Any:
    """The value of an option as the command gets it; refuses the empty text, also among others."""
    if value == "" or (isinstance(value, list | tuple) and "" in value):
        raise typer.BadParameter("the name is empty", ctx=context, param=parameter)
    made = process(context, value)
    if isinstance(made, list):
        return [_expand(item) for item in made]
    return _expand(made)


def _expand(value: Any) -> Any:
    if not isinstance(value, Path):
        return value
    try:
        return value.expanduser()
    except RuntimeError:  # no such user: then it is a name like any other
        return value


def version_option(name: str) -> Any:
    """The option that prints a program's version and ends it."""

    def show(wanted: bool) -> None:
        if wanted:
            console.result(f"{name} {__version__}")
            raise typer.Exit

    return typer.Option("--version", callback=show, is_eager=True, help="Print it.")


def accepting(renamed: Mapping[str, str]) -> type[TyperCommand]:
    """The class of a command that takes old spellings of its options, too, with a notice; they go
    with the next version."""

    class Renaming(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, _rename(args, renamed))

    return Renaming


def _rename(args: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
    """Arguments with today's spellings of options; what stands behind `--` is no option."""
    result = list(args)
    end = result.index("--") if "--" in result else len(result)
    for index, argument in enumerate(result[:end]):
        name, equals, value = argument.partition("=")
        if name in renamed:
            console.note(f"{name} is now {renamed[name]}; the next version will not know {name}")
            result[index] = f"{renamed[name]}{equals}{value}"
    return result


def split_list(option: str, values: Sequence[str] | None) -> list[str]:
    """The values of a repeatable option. Commas between them are taken too, with a notice; they go
    with the next version."""
    parts = [part.strip() for value in values or () for part in value.split(",")]
    if any("," in value for value in values or ()):
        again = " ".join(f"{option} {part}" for part in parts if part)
        console.note(f"commas in {option} go with the next version: write {again}")
    return [part for part in parts if part]
