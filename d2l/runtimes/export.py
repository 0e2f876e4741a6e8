"""Adapter → the form that another runtime loads: GGUF, Ollama, MLX, or merged into its base.

`run()` reads an adapter, finds what must be known of its base, and writes one file or folder, whole
or not at all. Every writer reads back what it wrote. Prints nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from d2l.adapters import module_names
from d2l.adapters.info import read_info
from d2l.adapters.peft_config import refuse_extras
from d2l.adapters.peft_folder import read_adapter
from d2l.adapters.weights import LoraWeights
from d2l.bases.models import BaseFiles, find_base
from d2l.errors import AdapterError, BaseModelError
from d2l.files.atomic import building, refuse_existing, write_file
from d2l.runtimes import readme as export_card
from d2l.runtimes import writers as export_targets
from d2l.runtimes.gguf import is_own_gguf
from d2l.runtimes.writers import Export


@dataclass(frozen=True)
class ExportOptions:
    """What the user may choose. `dtype` None: fp32 for GGUF and MLX, which holds adapters of any
    precision exactly, and the base's own where it is merged."""

    to: str  # key of EXPORTERS
    base: str | None = None
    dtype: str | None = None
    offline: bool = False
    force: bool = False


@dataclass(frozen=True)
class Exporter:
    """One target. `write` fills a folder; `write_one`, where there is one, a single file, which is
    asked for by a name that ends in `suffix`. `compile --to` puts `suffix` behind a name."""

    description: str
    suffix: str
    write: Callable[[Export, Path], None]
    write_one: Callable[[Export, Path], None] | None = None
    needs_weights: bool = False

    def is_file(self, out: Path) -> bool:
        """Whether a single file is meant by `out`."""
        return self.write_one is not None and out.name.endswith(self.suffix)


@dataclass(frozen=True)
class ExportResult:
    """What was written, and the shell line that loads it."""

    path: Path
    to: str
    size_bytes: int
    load: str
    warnings: tuple[str, ...] = ()


def run(adapter: Path, out: Path, options: ExportOptions) -> ExportResult:
    """Export an adapter folder to `out`; raises D2LError."""
    exporter = find_exporter(options.to)
    refuse_export(out, options)
    info = read_info(adapter)
    refuse_extras(info, purpose="exported")
    weights = read_adapter(adapter)
    base = _find_base(weights.base, options, exporter)
    _check_shapes(weights, base)
    export = Export(info, weights, base, out.name, options.dtype)
    if exporter.write_one is not None and exporter.is_file(out):
        write_one = exporter.write_one
        write_file(out, lambda path: write_one(export, path))
        size = out.stat().st_size
    else:
        with building(out) as folder:
            exporter.write(export, folder)
            export_targets.write_notes(export, folder, options.to)
        size = sum(path.stat().st_size for path in out.iterdir())
    line = export_card.load_line(export.facts, options.to)
    return ExportResult(out, options.to, size, line, _warnings(export, options))


def find_exporter(to: str) -> Exporter:
    """Look an exporter up by its name; raises AdapterError."""
    if to not in EXPORTERS:
        raise AdapterError(f"cannot export to {to!r}", hint=f"choose from {', '.join(EXPORTERS)}")
    return EXPORTERS[to]


def refuse_export(out: Path, options: ExportOptions) -> None:
    """Raise AdapterError unless an export may be written at `out`."""
    if find_exporter(options.to).is_file(out):
        refuse_existing(
            out, force=options.force, is_ours=is_own_gguf, error=AdapterError, is_kind=Path.is_file
        )
    else:
        is_ours = export_targets.is_export
        refuse_existing(out, force=options.force, is_ours=is_ours, error=AdapterError)


def place_beside(adapter: Path, to: str) -> Path:
    """Where `compile --to` puts an export: "manual.lora" gets "manual.gguf", "manual-mlx", …."""
    return adapter.with_name(adapter.name.removesuffix(".lora") + find_exporter(to).suffix)


def _find_base(name: str, options: ExportOptions, exporter: Exporter) -> BaseFiles:
    if not name and options.base is None:
        raise AdapterError("the adapter does not name its base", hint="name it with --base")
    return find_base(
        name,
        override=options.base,
        offline=options.offline,
        config_only=not exporter.needs_weights,
    )


def _check_shapes(weights: LoraWeights, base: BaseFiles) -> None:
    """Refuse a base that the adapter's modules do not fit; unknown modules are the writer's."""
    n_layers = int(base.config.num_hidden_layers)
    for module, factors in weights.factors.items():
        name = module_names.parse(module)
        if name.in_decoder and name.layer is not None and name.layer >= n_layers:
            raise AdapterError(
                f"{module}: the base has {n_layers} layers",
                hint="name the base that the adapter was made for with --base",
            )
        try:
            expected = base.family.module_shape(base.config, name.short)
        except BaseModelError:
            continue
        found = (factors.a.shape[1], factors.b.shape[0])
        if found != expected:
            raise AdapterError(
                f"{module}: is {found[0]} → {found[1]}, the base has {expected[0]} → {expected[1]}",
                hint="name the base that the adapter was made for with --base",
            )


def _warnings(export: Export, options: ExportOptions) -> tuple[str, ...]:
    found = []
    if options.to == "merged" and export.base.gguf is not None:
        found.append(
            f"{export.base.gguf.name} is quantized: the merged model is its dequantized fp32 with "
            "the delta added, and larger than the file"
        )
    if options.to == "ollama" and export.base.gguf is None:
        found.append(
            "the base is no GGUF file, so the Modelfile names its folder on this machine; with "
            "--base FILE.gguf the export is complete in itself"
        )
    return tuple(found)


EXPORTERS: dict[str, Exporter] = {
    "gguf": Exporter(
        "a GGUF adapter, for llama.cpp",
        ".gguf",
        export_targets.write_gguf_folder,
        write_one=export_targets.write_gguf_file,
    ),
    "ollama": Exporter(
        "a Modelfile with all it needs, for `ollama create`",
        "-ollama",
        export_targets.write_ollama,
        needs_weights=True,
    ),
    "mlx": Exporter("an adapter folder for mlx-lm", "-mlx", export_targets.write_mlx_folder),
    "merged": Exporter(
        "the base with the delta added, as a model folder",
        "-merged",
        export_targets.write_merged,
        needs_weights=True,
    ),
}
