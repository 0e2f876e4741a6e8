"""Options that several commands have, and the choices in their help.

Imports no pipeline, so that help starts at once.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from d2l import __version__
from d2l.commands import console

# Names in help; a test compares them with the dictionaries that they stand for, which live in
# modules that are too heavy to import here.
Merge = Literal["concat", "average"]
Dtype = Literal["bf16", "fp16", "fp32"]
Wording = Literal["plain", "short", "labeled", "question-first", "examples", "system", "best"]
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
    str, typer.Option(help="Alias, folder, file or org/repo[@revision][:subfolder].")
]
WrittenDtype = Annotated[Dtype, typer.Option(help="Precision of the written weights.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan; load no weights.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Checkpoint = Annotated[
    str | None,
    typer.Option(help="Seats adapters: their network, if its name leads elsewhere by now."),
]
NewDtype = Annotated[
    Dtype | None, typer.Option(help="Precision; default: the parents', or fp32 where they round.")
]


def make_app() -> typer.Typer:
    """A command line as plain as d2l's are: no markup, no boxes; the shell completes it."""
    return typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


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
