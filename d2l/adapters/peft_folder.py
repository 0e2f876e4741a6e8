"""LoRA weights ↔ PEFT adapter folders, with provenance.

Any PEFT-compatible runtime loads the folder. It is written whole or not at all, and the same values
give the same bytes.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from d2l.adapters import info as names
from d2l.adapters.adapter_paths import refuse_adapter
from d2l.adapters.card import HERE, name_folder, unname_folder
from d2l.adapters.info import AdapterInfo
from d2l.adapters.lock_file import write_lock
from d2l.adapters.module_names import PREFIX, is_uneven, list_layers, list_short, parse
from d2l.adapters.parts import (
    PartIndex,
    PartRecord,
    Parts,
    read_parts,
    read_text,
    write_index,
    write_parts,
)
from d2l.adapters.peft_config import module_scales, refuse_extras, refuse_odd_factors
from d2l.adapters.provenance import Provenance
from d2l.adapters.weights import LoraFactors, LoraWeights, Memory, pad_factors
from d2l.errors import AdapterError, OptionError, ShapeError
from d2l.files.atomic import building
from d2l.files.cache import hash_file
from d2l.files.printable import printable
from d2l.files.tensors import TensorInfo, all_finite, read_header, read_tensors, write_tensors
from d2l.progress import announce, log_time

_log = logging.getLogger(__name__)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
#: Keys of DTYPES by their names in safetensors' headers.
_STORED = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}
#: Text files of a folder that are read with it: the card, chat template and tokenizer.
_TEXTS = (names.CARD, names.CHAT_TEMPLATE, *names.TOKENIZER)
#: Fields of d2l.json with the digests of files.
_DIGESTS = {names.WEIGHTS: "weights_sha256", names.MEMORY: "memory_sha256"}
#: Tokenizers of 260,000 tokens have 35 MB.
_MAX_TEXT_BYTES = 256 << 20


@dataclass(frozen=True, eq=False)
class AdapterContent:
    """Content of an adapter folder.

    `n_base_layers` is the base's depth: an adapter of fewer layers names them in its config. None:
    the depth is unknown, and the config always names the adapted layers. `provenance` is None for
    adapters of other tools. `texts` are further text files by name: the card, a chat template,
    tokenizer files; the card names the folder by `card.FOLDER`. `dtype`, a key of DTYPES, is the
    precision of the written weights, which are fp32 here. `name` is the folder that was read, or a
    suitable name. `lock` are the values of `compiler.lock` for the next folder to be written; they
    are not read back. `parts`: one for each chunk, if the adapter keeps parts; `records`: place and
    text of each chunk, if it keeps the text of one memory.
    """

    weights: LoraWeights
    n_base_layers: int | None
    provenance: Provenance | None
    memory: Memory | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "bf16"
    name: str = "adapter.lora"
    lock: Mapping[str, Any] | None = None
    parts: Parts | None = None
    records: tuple[PartRecord, ...] = ()

    def __post_init__(self) -> None:
        pick_torch_dtype(self.dtype)

    @property
    def config(self) -> dict[str, Any]:
        """PEFT's config, the content of adapter_config.json: `lora_alpha` is the rank, since the
        scale is folded into lora_B; likewise for modules with their own rank. Fields that no
        runtime reads keep PEFT's defaults, so no version warns."""
        weights, n_base_layers = self.weights, self.n_base_layers
        layers = list_layers(weights.factors)
        config: dict[str, Any] = {
            "base_model_name_or_path": weights.base,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": True,
            "lora_alpha": weights.rank,
            "lora_dropout": 0.0,
            "modules_to_save": None,
            "peft_type": "LORA",
            "r": weights.rank,
            "target_modules": list_short(weights.factors),
            "task_type": "CAUSAL_LM",
            "use_dora": False,
            "use_rslora": False,
        }
        if differing := {
            name: rank for name, rank in weights.ranks.items() if rank != weights.rank
        }:
            ranks = dict(sorted(differing.items()))
            config |= {"rank_pattern": ranks, "alpha_pattern": ranks}
        if is_uneven(weights.factors):  # PEFT would put every module into every layer
            config["target_modules"] = sorted(weights.factors)
        elif layers and (n_base_layers is None or layers != list(range(n_base_layers))):
            config |= {"layers_to_transform": layers, "layers_pattern": "layers"}
        return config

    @property
    def opening(self) -> str:
        """Beginning of every prompt to the adapter; empty for all but seats adapters."""
        provenance = self.provenance
        return (
            provenance.prompt.opening.text
            if provenance is not None and provenance.prompt.opening
            else ""
        )

    def to_state_dict(self, *, dtype: str | None = None) -> dict[str, torch.Tensor]:
        """Make the tensors of adapter_model.safetensors, by PEFT's names: lora_A (rank, d_in) and
        lora_B (d_out, rank) of each module's own rank, scale folded in, in `dtype` (None: its own).

        Raises AdapterError if a value is not finite in that precision, and OptionError for an
        unknown precision.
        """
        return dict(self._list_tensors(pick_torch_dtype(dtype or self.dtype)))

    def write_weights(self, path: Path, dtype: str) -> None:
        """Write the tensors of `to_state_dict` to a file, with one of them in memory at a time."""
        precision = pick_torch_dtype(dtype)
        stored = next(name for name, spelled in _STORED.items() if spelled == dtype)
        infos = {n: TensorInfo(stored, tuple(f.shape)) for n, (f, _) in self._list_factors()}
        tensors = (tensor for _, tensor in self._list_tensors(precision))
        write_tensors(path, infos, tensors, _FORMAT)

    def _list_tensors(self, precision: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the tensors of `to_state_dict` in the order of their names."""
        for name, (factor, scale) in self._list_factors():
            tensor = (factor if scale == 1 else factor.float() * scale).to(precision).contiguous()
            if not bool(all_finite(tensor)):
                raise AdapterError(
                    f"the adapter has values that are not finite in {precision}, for example in "
                    f"{name}",
                    hint="use --dtype fp32 or bf16; if it is so in fp32 too, the checkpoint is "
                    "damaged",
                )
            yield name, tensor

    def _list_factors(self) -> list[tuple[str, tuple[torch.Tensor, float]]]:
        """List each module's two factors at its own rank, with their scale, by name."""
        factors = {}
        for module in self.weights.factors:
            own = self.weights.trim(module)
            factors[f"{PREFIX}{module}.lora_A.weight"] = own.a, 1.0
            factors[f"{PREFIX}{module}.lora_B.weight"] = own.b, self.weights.scale
        return sorted(factors.items(), key=itemgetter(0))


def pick_torch_dtype(dtype: str) -> torch.dtype:
    """Find a precision by its name; raises OptionError."""
    if dtype not in DTYPES:
        raise OptionError(f"unknown precision {dtype!r}", hint=f"choose from {', '.join(DTYPES)}")
    return DTYPES[dtype]


def write_adapter(
    content: AdapterContent,
    out: Path,
    *,
    dtype: str | None = None,
    force: bool = False,
    called: str | None = None,
) -> Path:
    """Write an adapter folder; raises AdapterError if `out` may not be replaced.

    The scale is folded into b, and `lora_alpha` equals the rank, both integers, so that alpha /
    rank is 1 in every runtime, also if modules differ in rank. `dtype` None is the content's own.
    The card names no path, but the name by which the adapter is `called` elsewhere.
    """
    refuse_adapter(out, force=force)
    dtype = dtype or content.dtype
    may_replace = partial(refuse_adapter, out, force=force)
    announce(f"writing {out}")
    with log_time(_log, "wrote the adapter %s", out), building(out, may_replace) as folder:
        write_files(content, folder, dtype=dtype, called=called)
    return out


def write_files(
    content: AdapterContent, folder: Path, *, dtype: str, called: str | None = None
) -> None:
    """Write the files of an adapter into an existing folder, like `write_adapter`."""
    content.write_weights(folder / names.WEIGHTS, dtype)
    _write_json(folder / names.CONFIG, content.config)
    if content.memory is not None:
        pair = {"keys": content.memory.keys, "values": content.memory.values}
        # As exact as the weights: seating an fp32 memory again gives the same bits.
        precision = torch.float32 if dtype == "fp32" else torch.bfloat16
        stored = {name: t.to(precision).contiguous() for name, t in pair.items()}
        save_file(stored, folder / names.MEMORY, _FORMAT)
    if content.provenance is not None:
        record = content.provenance.to_json() | digest_tensors(folder)
        _write_json(folder / names.PROVENANCE, record)
    if content.parts is not None:
        write_parts(content.parts, folder)
    if content.records:
        write_index(PartIndex(parts=content.records), folder / names.TEXT)
    for name, text in content.texts.items():
        named = name_folder(text, called or HERE) if name == names.CARD else text
        _write_text(folder / name, printable(named) if name == names.CARD else text)
    if content.lock is not None:
        write_lock(folder, content.lock)  # last: it has the digests of all other files


def digest_tensors(folder: Path) -> dict[str, str]:
    """Fields of d2l.json with the digests of a folder's files of tensors, but for parts."""
    files = {field: folder / name for name, field in _DIGESTS.items()}
    return {field: hash_file(path) for field, path in files.items() if path.is_file()}


def check_values(info: AdapterInfo) -> None:
    """Read an adapter's memory, parts and texts; raises AdapterError if any is damaged, or was
    changed. Reading weights checks these."""
    if (info.folder / names.MEMORY).is_file():
        load_tensors(info, names.MEMORY)
    read_text(info)
    if (parts := read_parts(info)) is not None:
        parts.check_values()


def read_content(info: AdapterInfo, *, purpose: str) -> AdapterContent:
    """Read a PEFT LoRA folder with all its files; raises AdapterError, also for more than plain
    LoRA, which cannot be `purpose`. Writing a folder of d2l again gives the same bytes."""
    refuse_extras(info, purpose=purpose)
    folder = info.folder
    weights = read_adapter(folder)
    texts = {name: _read_text(folder / name) for name in _TEXTS if (folder / name).is_file()}
    if names.CARD in texts:
        card = texts[names.CARD]
        texts[names.CARD] = unname_folder(card)
    named = bool(info.config.get("layers_to_transform"))
    return AdapterContent(
        weights=weights,
        n_base_layers=None if named else len(list_layers(weights.factors)),
        provenance=info.provenance,
        memory=read_memory(folder) if (folder / names.MEMORY).is_file() else None,
        texts=texts,
        dtype=stored_dtype(info),
        name=str(folder),
        parts=read_parts(info),
        records=read_text(info),
    )


def stored_dtype(info: AdapterInfo) -> str:
    """Find the precision of all weights of a folder; "fp32" if they differ."""
    stored = {tensor.dtype for tensor in info.tensors.values()}
    return _STORED.get(next(iter(stored), ""), "fp32") if len(stored) == 1 else "fp32"


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_TEXT_BYTES:
            raise UnicodeError(f"more than {_MAX_TEXT_BYTES:,} bytes")
        return path.read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise AdapterError(
            f"{path}: is not readable as UTF-8 text", hint="the file is damaged: write it again"
        ) from error


def read_adapter(folder: Path) -> LoraWeights:
    """Read the weights of a PEFT LoRA folder back, in fp32; raises AdapterError.

    If modules differ in rank or scale (`rank_pattern`, `alpha_pattern`), all get the highest rank,
    filled up with zeros, and the first module's scale, the difference folded into b. `ranks` are
    their own ranks.
    """
    info = names.read_info(folder)
    if info.rank < 1:
        raise AdapterError(f"{folder / names.CONFIG}: r is {info.rank}, expected a positive rank")
    path = folder / names.WEIGHTS
    factors = _pair(load_tensors(info, names.WEIGHTS), path)
    if not factors:
        raise AdapterError(f"{path}: no LoRA tensors")
    refuse_odd_factors(info)
    try:
        scales = module_scales(info.config, list(factors))
    except AdapterError as error:
        raise AdapterError(f"{folder / error.message}") from error
    base = str(info.config.get("base_model_name_or_path", ""))
    try:
        ranks: dict[str, int] = {}
        if info.config.get("rank_pattern"):
            for name, f in factors.items():
                short = parse(name).short
                ranks[short] = max(ranks.get(short, 0), f.rank)
            factors = {name: pad_factors(f, max(ranks.values())) for name, f in factors.items()}
        scale = next((scale for scale in scales.values() if scale), 0.0)
        factors = {
            name: f if scales[name] == scale else LoraFactors(f.a, f.b * (scales[name] / scale))
            for name, f in factors.items()
        }
        return LoraWeights(base=base, scale=scale, factors=factors, ranks=ranks)
    except ShapeError as error:  # modules of different ranks
        raise AdapterError(f"{path}: {error.message}") from error


def _pair(tensors: Mapping[str, torch.Tensor], path: Path) -> dict[str, LoraFactors]:
    """Pair the tensors of a PEFT file as factors in fp32, by module."""
    factors = {}
    for name, a in tensors.items():
        module, separator, rest = name.removeprefix(PREFIX).partition(".lora_A.")
        if not separator:
            continue
        partner = name.replace(".lora_A.", ".lora_B.")
        if partner not in tensors or rest != "weight":
            raise AdapterError(f"{path}: {name} has no partner {partner}")
        try:
            factors[module] = LoraFactors(a.float(), tensors[partner].float())
        except ShapeError as error:
            raise AdapterError(f"{path}: {module}: {error.message}") from error
    return factors


def read_memory(folder: Path) -> Memory:
    """Read the memory of a seats adapter; raises AdapterError."""
    path = folder / names.MEMORY
    if not path.is_file():
        raise AdapterError(f"{folder}: has no {names.MEMORY}", hint="it is not a seats adapter")
    tensors = load_tensors(names.read_info(folder), names.MEMORY)
    if tensors.keys() != {"keys", "values"}:
        raise AdapterError(f"{path}: expected two tensors, keys and values")
    return Memory(tensors["keys"].float(), tensors["values"].float())


def load_tensors(info: AdapterInfo, name: str) -> dict[str, torch.Tensor]:
    """Read the tensors of an adapter's file to the CPU; raises AdapterError if it is damaged, or
    was changed since d2l.json recorded its digest."""
    path, made = info.folder / name, info.provenance
    read_header(path)  # explains damage better than safetensors does
    sha256 = None if made is None else getattr(made, _DIGESTS[name])
    return read_tensors(path, AdapterError, hint="compile the document again", sha256=sha256)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    """Write UTF-8; half a character, from a file name of another encoding, becomes an escape
    (`\\udcff`), which JSON and Python read back."""
    path.write_text(text, "utf-8", errors="backslashreplace", newline="\n")


_FORMAT = {"format": "pt"}  # the metadata that transformers and PEFT expect
