"""Rewrite a base's safetensors with changed tensors, one shard in memory at a time."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from d2l.bases.catalog import list_weights
from d2l.bases.gguf import add_old_keys, ensure_weights
from d2l.bases.models import BaseFiles
from d2l.errors import BaseModelError
from d2l.files.tensors import FILE_ERRORS, compare_written
from d2l.memory import refuse_shortage

Change = Callable[[str, Tensor], Tensor]
#: Files of a model folder beside the weights that transformers, vLLM and mlx-lm read.
_TEXTS = (
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)


def list_shards(base: BaseFiles) -> list[Path]:
    """List the safetensors files of a base, sorted; raises BaseModelError if there are none.

    Weights of a GGUF file are dequantized first, once.
    """
    if base.gguf is not None:
        ensure_weights(base.gguf, base.folder)
    shards = list_weights(base.folder)
    if not shards:
        raise BaseModelError(
            f"{base.folder}: no safetensors weights",
            hint="d2l reads model.safetensors (or its shards), not pickled weights",
        )
    return shards


def refuse_quantized(base: BaseFiles) -> None:
    """Raise BaseModelError for quantized weights, to which no delta can be added."""
    quantized = getattr(base.config, "quantization_config", None)
    if quantized is not None:
        method = quantized.get("quant_method") if isinstance(quantized, Mapping) else None
        raise BaseModelError(
            f"{base.folder}: is quantized ({method or 'quantization_config'}), so no delta can be "
            "added to its weights and written back",
            hint="name the base in fp32, fp16 or bf16 with --base",
        )


def list_tensors(base: BaseFiles) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a base by name, from the headers alone."""
    shapes: dict[str, tuple[int, ...]] = {}
    for shard in list_shards(base):
        with _reading(shard) as stream:
            for name in stream.keys():  # noqa: SIM118 - a safetensors file, no mapping
                shapes[name] = tuple(stream.get_slice(name).get_shape())
    return shapes


def rewrite(base: BaseFiles, folder: Path, change: Change) -> None:
    """Write the base into `folder`, each tensor after `change`, in its own dtype.

    Names of shards, their index, config and tokenizer stay the same. Every shard is read back and
    compared; raises BaseModelError. Memory: one shard, before and after.
    """
    for shard in list_shards(base):
        with _reading(shard) as stream:
            metadata = stream.metadata() or {"format": "pt"}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        changed = {name: change(name, tensor) for name, tensor in sorted(tensors.items())}
        odd = [n for n, t in changed.items() if t.dtype != tensors[n].dtype]
        if odd or any(t.shape != tensors[n].shape for n, t in changed.items()):
            raise BaseModelError(f"{shard.name}: a tensor's dtype or shape was changed")
        save_file(changed, folder / shard.name, metadata)
        path = folder / shard.name
        compare_written(path, changed, load_file(path), _same, BaseModelError)
    for name in (*_TEXTS, "model.safetensors.index.json"):
        if (base.folder / name).is_file():
            shutil.copyfile(base.folder / name, folder / name)
    add_old_keys(folder / "config.json")
    _check_index(folder)


def _same(written: Tensor, read: Tensor) -> bool:
    """True if dtypes and all values are equal; NaN equals NaN."""
    return read.dtype == written.dtype and bool(
        ((read == written) | (read.isnan() & written.isnan())).all()
        if read.is_floating_point()
        else (read == written).all()
    )


def _check_index(folder: Path) -> None:
    """Raise BaseModelError if there is an index that names missing shards."""
    path = folder / "model.safetensors.index.json"
    if not path.is_file():
        return
    try:
        named = set(json.loads(path.read_text("utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as error:
        raise BaseModelError(f"{path.name}: the base's index cannot be read") from error
    missing = sorted(name for name in named if not (folder / name).is_file())
    if missing:
        raise BaseModelError(
            f"the base's index names {missing[0]}, which is not there",
            hint="the base's folder is incomplete: download it again",
        )


def _reading(shard: Path) -> safe_open:
    try:
        return safe_open(shard, framework="pt")
    except FILE_ERRORS as error:
        refuse_shortage(error)
        raise BaseModelError(f"{shard}: not a safetensors file that can be read") from error
