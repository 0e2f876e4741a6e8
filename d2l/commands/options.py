"""Options that several commands have, and the choices in their help.

Imports no pipeline, so that help starts at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console

if TYPE_CHECKING:
    pass

from typing import Literal

from d2l import __version__

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
    str | None,
    typer.Option("--to", help="Export it, too, beside the adapter: gguf, ollama, mlx, merged."),
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
