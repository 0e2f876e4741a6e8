"""Command lines that import a command when it is called, with help in groups.

Imports no pipeline, so that help starts at once.
"""

import copy
import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from d2l.commands import console
from d2l.commands.options import COMMON, PANELS, set_parameters
from d2l.errors import D2LError
from d2l.progress import announce

#: Typer's error of wrong usage, for which it has no name of its own.
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
#: Parameters that take the empty text, or that refuse it with a message of their own.
_MAY_BE_EMPTY = ("password", "system", "description", "question")


@dataclass(frozen=True)
class Row:
    """Row of a command: its help, and an example's arguments, or the commands below it.

    `function`: "module:name", of a module in this folder or of one named in full; by default both
    are the command's name.
    """

    name: str
    help: str
    example: str = ""
    function: str = ""
    below: tuple["Row", ...] = ()

    def find(self) -> Callable[..., Any]:
        """Import the command's function."""
        module, _, name = (self.function or f"{self.name}:{self.name}").partition(":")
        path = module if "." in module else f"d2l.commands.{module}"
        function: Callable[..., Any] = getattr(import_module(path), name)
        return function

    def load(self) -> Any:
        """Make the command, or the group of commands."""
        if not self.below:
            return build_command(self.find(), self.name, self.example)
        app = make_app({"Commands": self.below}, help=self.help, add_completion=False)
        command = typer.main.get_group(app)
        command.name = self.name
        return command


Groups = Mapping[str, Sequence[Row]]


class _LazyCommands(Mapping[str, Any]):
    """Commands by name; each is imported on first use."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = {row.name: row for row in rows}
        self._load = functools.cache(lambda name: self._rows[name].load())

    def __getitem__(self, name: str) -> Any:
        return self._load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class _LazyGroup(TyperGroup):
    """Command line whose help lists its commands in groups, without importing any."""

    groups: Groups

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        rows = [row for group in self.groups.values() for row in group]
        self.commands: Any = _LazyCommands(rows)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section a group."""
        del ctx
        width = max(len(name) for name in self.commands)
        for title, rows in self.groups.items():
            with formatter.section(title):
                formatter.write_dl([(row.name.ljust(width), row.help) for row in rows])


class _Command(TyperCommand):
    """Command that shows its options in panels, those for experts with `--help-all` only."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write each panel as a section."""
        sections: dict[str, list[tuple[str, str]]] = {panel: [] for panel in PANELS}
        for param in self.get_params(ctx):
            shown: Any = copy.copy(param)
            shown.hidden = shown.hidden and not ctx.meta.get("help_all")
            if record := shown.get_help_record(ctx):
                sections[_name_panel(param)].append((_shorten_type(record[0]), record[1]))
        if not ctx.meta.get("help_all"):  # their names are enough
            names = ", ".join(name.replace(", ", "/") for name, _ in sections[COMMON])
            sections[COMMON] = [(names, "")]
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example behind the words that call the command."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(f"Example: {ctx.command_path} {self.epilog or ''}".strip())

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Collect the usage line's words, without dots behind repeatable arguments."""
        return [piece.removesuffix("...") for piece in super().collect_usage_pieces(ctx)]


def _name_panel(param: Any) -> str:
    if param.param_type_name == "argument":
        return "Arguments"
    return COMMON if param.is_eager else param.rich_help_panel or "Options"


def _shorten_type(name: str) -> str:
    """Shorten an option's type: no Python word for a list, none of click's for a bound."""
    name = re.sub(r"<list\[(.*)\]>", r"<\1>", name.replace("...", ""))
    return name.replace(" range>", ">").replace("<Path>", "<path>")


def make_app(groups: Groups | None = None, **settings: Any) -> typer.Typer:
    """Make a command line without markup and boxes, with these commands."""
    cls = TyperGroup if groups is None else type("Group", (_LazyGroup,), {"groups": groups})
    return typer.Typer(
        cls=cls,
        no_args_is_help=True,
        subcommand_metavar="COMMAND",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


def build_command(function: Callable[..., Any], name: str, example: str) -> Any:
    """Make a command from its function.

    The command also takes `SHARED` options, refuses empty names, and expands "~" where the shell
    does not (`--out=~/x`).
    """
    app = make_app(add_completion=False)
    app.command(name, cls=_Command, epilog=example)(_share_options(function))
    command: Any = typer.main.get_command(app)
    for parameter in command.params:
        if parameter.name not in _MAY_BE_EMPTY:
            parameter.process_value = partial(_process, parameter, parameter.process_value)
    return command


def split_short(arguments: Sequence[str]) -> list[str]:
    """Split `-o=x` into two arguments; click would read a file called "=x"."""
    result = list(arguments)
    end = result.index("--") if "--" in result else len(result)
    for index in reversed(range(end)):
        if re.match("-[A-Za-z]=", result[index]):
            result[index : index + 1] = [result[index][:2], result[index][3:]]
    return result


def _flag(act: Callable[[typer.Context], object], *names: str, help: str) -> Any:
    """Make an option without a value that acts while the arguments are read."""

    def callback(context: typer.Context, wanted: bool) -> None:
        if wanted:
            act(context)

    return Annotated[bool, typer.Option(*names, help=help, callback=callback, is_eager=True)]


def _show_all(context: typer.Context) -> None:
    context.meta["help_all"] = True
    typer.echo(context.get_help())
    raise typer.Exit


#: Options of every command; the documents list them once.
SHARED: dict[str, Any] = {
    "json": _flag(
        lambda _: console.set_json(wanted=True), "--json", help="Print the result as JSON."
    ),
    "quiet": _flag(
        lambda _: console.set_level(console.Level.QUIET),
        *("-q", "--quiet"),
        help="Print results, warnings and errors alone.",
    ),
    "verbose": _flag(
        lambda _: console.set_level(console.Level.VERBOSE),
        *("-v", "--verbose"),
        help="Say what is loaded, from where, and when.",
    ),
    "help_all": _flag(_show_all, "--help-all", help="Show the options for experts, too."),
}


def _share_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `SHARED` to a command's function."""
    own = inspect.signature(function).parameters

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        announce((function.__doc__ or "").partition(".")[0].lower())
        return function(**{name: value for name, value in values.items() if name not in SHARED})

    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=hint)
        for name, hint in SHARED.items()
    ]
    set_parameters(command, [*own.values(), *added])
    return command


def _process(parameter: Any, process: Callable[[Any, Any], Any], context: Any, value: Any) -> Any:
    """Process a parameter's value; refuse the empty text, and expand "~" in paths."""
    if value == "" or (isinstance(value, list | tuple) and "" in value):
        raise typer.BadParameter("the name is empty", ctx=context, param=parameter)
    processed = process(context, value)
    if isinstance(processed, list):
        return [_expand(item) for item in processed]
    return _expand(processed)


def _expand(value: Any) -> Any:
    if not isinstance(value, Path):
        return value
    try:
        return value.expanduser()
    except RuntimeError:  # the user does not exist: "~name" is then an ordinary name
        return value


def show_usage_error(error: Any, program: str) -> None:
    """Print a usage error in one line, and its hint in another; of a program without arguments its
    help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    near = getattr(error, "possibilities", None)
    text = error.message if near else error.format_message()
    message, _, meant = re.sub("Invalid value: |Value error, ", "", text).partition(
        ". Did you mean "
    )
    if near:
        meant = f"{difflib.get_close_matches(error.option_name, near, n=1, cutoff=0)[0]}?"
    help_line = f"{error.ctx.command_path if error.ctx else program} --help"
    hint = f"did you mean {meant}" if meant else f"see `{help_line}`"
    message = message.rstrip(".")
    if message[1:2].islower():  # a sentence, and no name in capitals
        message = message[:1].lower() + message[1:]
    console.show_error(D2LError(message, hint=hint))
