"""Options that several commands have, and the choices in their help.

Imports no pipeline, so that help starts at once.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

# Names in help; a test compares them with the dictionaries that they stand for, which live in
# modules that are too heavy to import here.
Merge = Literal["concat", "average"]
Dtype = Literal["bf16", "fp16", "fp32"]
Wording = Literal["plain", "short", "labeled", "question-first", "examples", "system", "best"]
Target = Literal["gguf", "ollama", "mlx", "merged"]
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
