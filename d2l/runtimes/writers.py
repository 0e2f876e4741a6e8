"""Writers of `d2l export`: an adapter with its base in, files in a folder out.

Each reads its files back. `d2l.runtimes.export` lists them.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor

from d2l.adapters import info as names
from d2l.adapters.info import AdapterInfo
from d2l.adapters.module_names import parse
from d2l.adapters.peft_folder import digest_tensors, read_content, write_files
from d2l.adapters.provenance import VERSION, ExportRecord
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.bases.chat_templates import SYSTEM, is_own, render_apart
from d2l.bases.load_errors import LOAD_ERRORS, explain, panics_as_errors
from d2l.bases.models import BaseFiles
from d2l.bases.shards import list_tensors, refuse_quantized, rewrite
from d2l.bases.tokenizers import BaseTokenizer
from d2l.bases.turns import Render, Turn
from d2l.errors import AdapterError
from d2l.files.cache import file_digest
from d2l.files.ownership import list_foreign
from d2l.files.printable import printable
from d2l.files.tensors import compare_written, read_tensors
from d2l.runtimes import ollama
from d2l.runtimes.adapter_facts import BaseFacts
from d2l.runtimes.gguf import GgufBase, write_gguf
from d2l.runtimes.merged import merge_weight, write_merged_gguf
from d2l.runtimes.mlx import write_mlx
from d2l.runtimes.readme import ADAPTER_FILE, MODEL_FILE, ExportFacts, write_readme
from d2l.runtimes.rules import PARTNERS
from d2l.version import __version__

#: Files of a seats adapter that make its prompts: they go into every exported folder.
_PROMPT_FILES = (names.CHAT_TEMPLATE, *names.TOKENIZER)


@dataclass(frozen=True)
class Export:
    """Export for a writer: the adapter as read, its base, the output's name, a precision, and the
    folder that the texts name."""

    info: AdapterInfo
    weights: LoraWeights
    base: BaseFiles
    out: str
    dtype: str | None
    called: Path

    @property
    def opening(self) -> str:
        """Text that every prompt begins with; empty for all adapters but seats."""
        made = self.info.provenance
        return made.prompt.opening.text if made is not None and made.prompt.opening else ""

    @property
    def facts(self) -> ExportFacts:
        """Facts for the texts about the export."""
        gguf = self.base.gguf.name if self.base.gguf is not None else None
        base = self.weights.base or self.base.name
        return ExportFacts(str(self.called), base, gguf, self.out, bool(self.opening))


def write_gguf_file(export: Export, path: Path) -> None:
    """Write the adapter as one GGUF file; for seats it holds the opening as the prompt's prefix."""
    name = export.called.resolve().name.removesuffix(".lora")
    write_gguf(
        export.weights,
        _describe_base(export),
        path,
        name=name,
        opening=export.opening,
        dtype=export.dtype or "fp32",
    )


def _describe_base(export: Export) -> GgufBase:
    config, family = export.base.config, export.base.family
    heads = int(config.num_attention_heads)
    return GgufBase(
        arch=family.gguf_arch,
        n_layers=int(config.num_hidden_layers),
        n_heads=heads,
        n_kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        permutes=family.gguf_permutes,
    )


def write_gguf_folder(export: Export, folder: Path) -> None:
    """Write the GGUF file into a folder, beside the files of its prompts."""
    write_gguf_file(export, folder / ADAPTER_FILE)
    _copy_prompt_files(export, folder)


def write_mlx_folder(export: Export, folder: Path) -> None:
    """Write mlx-lm's two files, and for seats the tokenizer with the template of the opening."""
    n_layers = int(export.base.config.num_hidden_layers)
    write_mlx(export.weights, n_layers, folder, dtype=export.dtype or "fp32")
    _copy_prompt_files(export, folder)


def write_uniform(export: Export, folder: Path) -> None:
    """Write the whole adapter with modules of one rank and in fused groups; in its own precision,
    or in fp32 if that would round the scale that is folded in."""
    content = read_content(export.info, purpose="exported")
    weights = make_uniform(export.weights, BaseFacts.of(export.base.config))
    content = replace(content, weights=weights, n_base_layers=None)
    exact = content.to_state_dict(dtype="fp32")
    rounds = any(not torch.equal(exact[n], t.float()) for n, t in content.to_state_dict().items())
    dtype = export.dtype or ("fp32" if rounds else content.dtype)
    write_files(content, folder, dtype=dtype)
    path, written = folder / names.WEIGHTS, content.to_state_dict(dtype=dtype)
    compare_written(path, written, read_tensors(path, AdapterError), torch.equal, AdapterError)


def make_uniform(weights: LoraWeights, base: BaseFacts) -> LoraWeights:
    """Bring deltas to one rank, and add factors of zeros for missing partners of modules: engines
    that fuse projections take all of a fused weight or none."""
    even = weights.even_ranks()
    factors = dict(even.factors)
    for module, own in even.factors.items():
        short = parse(module).short
        for partner in PARTNERS.get(short, ()):
            a = torch.zeros_like(own.a)  # (rank, d_in): partners read the same input
            b = own.b.new_zeros(base.shapes[partner][1], even.rank)  # (d_out, rank)
            factors.setdefault(module.removesuffix(short) + partner, LoraFactors(a, b))
    return LoraWeights(even.base, even.scale, factors)


def write_ollama(export: Export, folder: Path) -> None:
    """Write the base's GGUF file with the delta added, and a Modelfile for it."""
    source = export.base.gguf
    assert source is not None  # `export.prepare` refuses model folders
    write_merged_gguf(
        export.weights,
        _describe_base(export),
        source,
        folder / MODEL_FILE,
        dtype=export.dtype or "fp16",
    )
    start, turns = ollama.read_turns(make_render(export))
    opening = export.opening.removeprefix(SYSTEM)
    text = ollama.write_modelfile(f"./{MODEL_FILE}", start, turns, opening)
    (folder / "Modelfile").write_text(text, "utf-8", newline="\n")


def write_merged(export: Export, folder: Path) -> None:
    """Write the base's shards with the delta added, in the base's dtype, one shard in memory at a
    time; refuses quantized weights."""
    refuse_quantized(export.base)
    if export.dtype is not None:
        raise AdapterError(
            "a merged model keeps its base's precision", hint="leave the dtype out, or convert it"
        )
    shapes = list_tensors(export.base)
    for module, factors in export.weights.factors.items():
        expected = (factors.b.shape[0], factors.a.shape[1])
        shape = shapes.get(f"{module}.weight")
        if shape != expected:
            tied = "; it shares the embedding's weights" if module == "lm_head" else ""
            raise AdapterError(
                f"{module}.weight: expected {expected}, the base has {shape or 'none'}{tied}",
                hint="name the base that the adapter was made for with --base",
            )

    def change(name: str, weight: Tensor) -> Tensor:
        factors = export.weights.factors.get(name.removesuffix(".weight"))
        if factors is None:
            return weight
        if not weight.is_floating_point() or weight.element_size() < 2:
            raise AdapterError(
                f"{name}: is stored as {weight.dtype}, which no delta can be added to",
                hint="name the base in fp32, fp16 or bf16 with --base",
            )
        scale = export.weights.scale
        return merge_weight(weight, factors, scale, dtype=weight.dtype, name=name)

    rewrite(export.base, folder, change)
    _copy_prompt_files(export, folder)


def write_notes(export: Export, folder: Path, to: str) -> None:
    """Write README.md, below the adapter's own card if that is there, and d2l.json of an export."""
    path, card = folder / names.CARD, printable(write_readme(export.facts, to))
    own = path.read_text("utf-8") + "\n" if path.is_file() else ""
    path.write_text(own + card, "utf-8", newline="\n")
    write_record(export.info, folder, to, export.dtype)


def write_record(info: AdapterInfo, folder: Path, to: str, dtype: str | None) -> None:
    """Write d2l.json of an exported folder, its last file: the adapter's own, and the export."""
    made = info.provenance
    record: dict[str, Any] = {"format": VERSION} if made is None else made.to_json()
    record |= {} if made is None else digest_tensors(folder)
    record["export"] = ExportRecord(
        to=to,
        d2l=__version__,
        adapter_sha256=file_digest(info.folder / names.WEIGHTS),
        dtype=dtype,
        files=tuple(
            sorted(
                {f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir()}
                | {names.PROVENANCE}
            )
        ),
    ).to_json()
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / names.PROVENANCE).write_text(text, "utf-8", newline="\n")


def own_names(folder: Path) -> tuple[str, ...] | None:
    """List the names of files that `d2l export` wrote into a folder; None for other folders."""
    export = names.read_export(folder)
    if export is None or export.files is None:  # older exports list none
        return None
    # Names alone: a pattern in a stranger's d2l.json must not cover other files.
    own = [name for name in export.files if not set(name) & set("*?[")]
    return tuple(name for name in own if not name.endswith("/") or _is_part(folder / name))


def _is_part(folder: Path) -> bool:
    """True if a folder holds an adapter that d2l wrote, and nothing else."""
    return names.own_names(folder) is not None and not list_foreign(folder, names.FILES)


def make_render(export: Export) -> Render:
    """Make a function that renders prompts by the adapter's own chat template, else by the base's.

    A beginning token of the tokenizer is left out, since the runtime adds it, too.
    """
    template = export.info.folder / names.CHAT_TEMPLATE
    own = template.is_file()
    try:
        with panics_as_errors():
            tokenizer = BaseTokenizer(export.info.folder if own else export.base.folder).chat
            added = tokenizer("", add_special_tokens=True)["input_ids"]
            begin = tokenizer.decode(added[:1]) if added else ""
            apart = own and not is_own(tokenizer.chat_template, export.opening or None)
    except LOAD_ERRORS as error:
        raise AdapterError(
            f"{template.parent}: its tokenizer or chat template cannot be read", hint=explain(error)
        ) from error
    if not tokenizer.chat_template:
        raise AdapterError(
            f"{export.base.folder}: has no chat template, which an Ollama model needs",
            hint="name the base's instruction-tuned version with --base",
        )

    def render(turns: Sequence[Turn], answering: bool) -> str:
        try:
            text = (
                render_apart(
                    tokenizer.get_chat_template(),
                    turns,
                    source=str(template),
                    answering=answering,
                    names=tokenizer.special_tokens_map,
                )
                if apart
                else tokenizer.apply_chat_template(
                    list(turns), tokenize=False, add_generation_prompt=answering
                )
            )
        except (*LOAD_ERRORS, TemplateError, RecursionError) as error:
            raise AdapterError(f"the chat template refuses these turns: {error}") from error
        return str(text).removeprefix(begin)

    return render


def _copy_prompt_files(export: Export, folder: Path) -> None:
    """Copy the files that make a seats adapter's prompts; none for other adapters."""
    for name in _PROMPT_FILES if export.opening else ():
        source = export.info.folder / name
        if not source.is_file():
            raise AdapterError(
                f"{source}: is missing, and prompts cannot be made without it",
                hint="compile the document again",
            )
        shutil.copyfile(source, folder / name)
