"""Export of an adapter for another runtime: GGUF, Ollama, MLX, uniform, or merged.

`run()` reads an adapter, finds its base, and writes one file or folder, whole or not at all. Every
writer reads its files back. Prints nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from d2l.adapters import module_names
from d2l.adapters.info import read_info
from d2l.adapters.peft_config import refuse_extras
from d2l.adapters.peft_folder import read_adapter
from d2l.adapters.weights import LoraWeights
from d2l.bases.catalog import find_used
from d2l.bases.models import BaseFiles, find_base
from d2l.errors import AdapterError
from d2l.files.atomic import building, write_file
from d2l.files.cache import folder_size
from d2l.files.ownership import refuse_existing
from d2l.runtimes import readme, writers
from d2l.runtimes.adapter_facts import BaseFacts, Facts
from d2l.runtimes.export_options import ExportOptions
from d2l.runtimes.gguf import is_own_gguf
from d2l.runtimes.writers import Export


@dataclass(frozen=True)
class Exporter:
    """Target of an export. `write` fills a folder; `write_one`, if there is one, writes a single
    file, for names that end in .gguf. `needs_gguf`: the base must be a GGUF file."""

    description: str
    write: Callable[[Export, Path], None]
    write_one: Callable[[Export, Path], None] | None = None
    needs_weights: bool = False
    needs_gguf: bool = False

    def is_file(self, out: Path) -> bool:
        """True if `out` names a single file."""
        return self.write_one is not None and out.suffix == ".gguf"


@dataclass(frozen=True)
class ExportPlan:
    """Plan of an export, checked and not written: the adapter with its base, and the output."""

    export: Export
    exporter: Exporter
    out: Path
    options: ExportOptions

    @property
    def load(self) -> str:
        """Shell line that loads the export."""
        gguf = self.export.base.gguf  # READMEs, which are shared, have its name alone
        base = None if gguf is None else str(gguf)
        facts = replace(self.export.facts, out=str(self.out), base_file=base)
        return readme.load_line(facts, self.options.to)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the user."""
        gguf = self.export.base.gguf
        if self.options.to == "merged" and gguf is not None:
            return (
                f"{gguf.name} is quantized: the merged model is its dequantized fp32 with the "
                "delta added, and larger than the file",
            )
        by_name = self.options.to in ("mlx", "uniform")
        return Facts(self.export.info).warn_of_base() if by_name else ()

    def describe(self) -> tuple[dict[str, Any], list[str]]:
        """Describe what is exported: as values by name, and in lines."""
        weights, base = self.export.weights, self.export.base
        values = {
            "base": weights.base or base.name,
            "base_path": str(base.gguf or base.folder),
            "rank": weights.rank,
            "n_modules": len(weights.factors),
        }
        return values, [
            f"base        {values['base']} ({values['base_path']})",
            f"rank        {values['rank']}, on {values['n_modules']} modules",
            f"writes      {self.out} ({self.exporter.description})",
        ]


@dataclass(frozen=True)
class ExportResult:
    """Result of an export, with the shell line that loads it."""

    path: Path
    to: str
    size_bytes: int
    load: str
    warnings: tuple[str, ...] = ()


def run(
    adapter: Path, out: Path, options: ExportOptions, *, called: Path | None = None
) -> ExportResult:
    """Export an adapter folder to `out`; raises D2LError. The texts name the folder, or `called` if
    the folder is temporary."""
    refuse_export(out, options)
    return write(prepare(adapter, out, options, called=called))


def prepare(
    adapter: Path, out: Path, options: ExportOptions, *, called: Path | None = None
) -> ExportPlan:
    """Read an adapter folder and find its base, whose shapes must fit; raises D2LError."""
    exporter = find_exporter(options.to)
    info = read_info(adapter)
    refuse_extras(info, purpose="exported")
    weights = read_adapter(adapter)
    if not weights.base and options.base is None:
        raise AdapterError("the adapter does not name its base", hint="name it with --base")
    base = find_base(
        weights.base,
        override=options.base or find_used(weights.base, info.base_sha256),
        offline=options.offline,
        need="weights" if exporter.needs_weights else "config",
    )
    _check_shapes(weights, base)
    if exporter.needs_gguf and base.gguf is None:
        # ollama/ollama at 1885941, docs/import.mdx: folders go to MLX, which has few architectures.
        raise AdapterError(
            f"{base.folder}: is a model folder, and Ollama runs GGUF files",
            hint="name the base's GGUF file with --base; or export --to merged, and convert the "
            "folder with llama.cpp's convert_hf_to_gguf.py",
        )
    export = Export(info, weights, base, out.name, options.dtype, called or adapter)
    return ExportPlan(export, exporter, out, options)


def write(plan: ExportPlan) -> ExportResult:
    """Write a planned export, whole or not at all; raises D2LError."""
    export, exporter, out, options = plan.export, plan.exporter, plan.out, plan.options
    refuse = partial(refuse_export, out, options)
    if exporter.write_one is not None and exporter.is_file(out):
        write_one = exporter.write_one
        write_file(out, lambda path: write_one(export, path), refuse)
        size = out.stat().st_size
    else:
        with building(out, refuse) as folder:
            exporter.write(export, folder)
            writers.write_notes(export, folder, options.to)
        size = folder_size(out)
    return ExportResult(out, options.to, size, plan.load, plan.warnings)


def find_exporter(to: str) -> Exporter:
    """Look an exporter up by its name; raises AdapterError."""
    if to not in EXPORTERS:
        raise AdapterError(f"cannot export to {to!r}", hint=f"choose from {', '.join(EXPORTERS)}")
    return EXPORTERS[to]


def refuse_export(out: Path, options: ExportOptions) -> None:
    """Refuse an `out` that may not be written; raises AdapterError."""
    is_file = find_exporter(options.to).is_file(out)
    refuse_existing(
        out,
        force=options.force,
        own_names=(lambda path: () if is_own_gguf(path) else None)
        if is_file
        else writers.own_names,
        error=AdapterError,
        is_kind=Path.is_file if is_file else Path.is_dir,
    )


def name_beside(adapter: Path, to: str) -> Path:
    """Name the default output: "manual.gguf", "manual-mlx", … for "manual.lora"."""
    adapter = adapter if adapter.name.strip(".") else adapter.resolve()
    return adapter.with_name(
        adapter.name.removesuffix(".lora") + (".gguf" if to == "gguf" else f"-{to}")
    )


def refuse_beside(adapter: Path, targets: Sequence[str], *, force: bool) -> dict[str, Path]:
    """Name the exports beside an adapter; refuse those that are unknown or cannot be written."""
    outs = {to: name_beside(adapter, to) for to in targets}
    for to, out in outs.items():
        refuse_export(out, ExportOptions(to, force=force))
    return outs


def _check_shapes(weights: LoraWeights, base: BaseFiles) -> None:
    """Refuse a base that the adapter's modules do not fit. Writers check modules outside the
    decoder's layers: they know the modules of their runtime."""
    facts = BaseFacts.of(base.config)
    for module, factors in weights.factors.items():
        misfit = facts.find_misfit(module, (factors.a.shape[1], factors.b.shape[0]))
        if misfit is not None and module_names.parse(module).in_decoder:
            raise AdapterError(
                misfit, hint="name the base that the adapter was made for with --base"
            )


EXPORTERS: dict[str, Exporter] = {
    "gguf": Exporter(
        "a GGUF adapter, for llama.cpp",
        writers.write_gguf_folder,
        write_one=writers.write_gguf_file,
    ),
    "ollama": Exporter(
        "the base with the delta added, and a Modelfile, for `ollama create`",
        writers.write_ollama,
        needs_gguf=True,
    ),
    "mlx": Exporter("an adapter folder for mlx-lm", writers.write_mlx_folder),
    "uniform": Exporter("a PEFT folder of one rank, for SGLang", writers.write_uniform),
    "merged": Exporter(
        "the base with the delta added, as a model folder", writers.write_merged, needs_weights=True
    ),
}
