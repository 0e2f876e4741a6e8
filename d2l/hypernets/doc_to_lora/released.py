"""A released Doc-to-LoRA checkpoint: its file, its configuration and its tensors.

A path to `pytorch_model.bin` or a folder around it in, a DocToLoraConfig and tensors by name out.
Only this module knows the file's own configuration objects (SakanaAI/doc-to-lora,
modeling/hypernet.py, modeling/aggregator.py, configs.py).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch

from d2l.errors import CheckpointError
from d2l.hypernets.doc_to_lora.network import (
    EARLY_EXIT,
    PER_LAYER,
    DocToLoraConfig,
    expected_shapes,
)
from d2l.hypernets.formats import pickles
from d2l.hypernets.formats.fields import naming, show, to_float
from d2l.hypernets.formats.format import Released
from d2l.hypernets.formats.native import UNUSABLE, check_shapes
from d2l.hypernets.formats.pickles import ObjectRecord, TensorRecord

WEIGHTS_FILE = "pytorch_model.bin"
ARGUMENTS_FILE = "args.yaml"
MAX_ARGUMENTS_BYTES = 1 << 20


_BASE = "base_model_name_or_path"
_NETWORK = "hypernet_config"
_ENCODER = "ctx_encoder_args"

_T = TypeVar("_T", bool, int, str, float)


def matches(path: Path) -> bool:
    """True if a path may be a released checkpoint, by names alone."""
    if path.is_file():
        return path.suffix in (".bin", ".pt", ".pth")
    return (path / WEIGHTS_FILE).is_file() or bool(_list_steps(path))


def find_file(path: Path) -> Path:
    """Find the weights file: the path itself, in the folder, or in its newest checkpoint-N
    folder."""
    if path.is_file():
        return path
    if (path / WEIGHTS_FILE).is_file():
        return path / WEIGHTS_FILE
    steps = _list_steps(path)
    if not steps:
        raise CheckpointError(f"{path}: holds no {WEIGHTS_FILE}")
    return steps[max(steps)]


def list_warnings(path: Path) -> list[str]:
    """Warn if a run's folder holds several checkpoints, of which only one is read."""
    n_steps = 0 if path.is_file() or (path / WEIGHTS_FILE).is_file() else len(_list_steps(path))
    if n_steps < 2:
        return []
    return [f"{path} holds {n_steps} checkpoints; reading {find_file(path).parent.name}"]


def read_released(path: Path) -> Released:
    """Read and check everything but the weights; fast for any size of file."""
    file = find_file(path)
    values = pickles.read_object(file)
    with naming(file):
        records = _take_tensors(values)
    layers = _read_layers(file, values)
    with naming(file):
        config = _translate(values, layers, chunk_tokens=read_chunk_tokens(file))
        check_shapes(
            {name: record.shape for name, record in records.items()}, expected_shapes(config)
        )
    return Released(file, config, records)


def read_chunk_tokens(file: Path) -> int | None:
    """Read the chunk limit of training from the `args.yaml` beside or above a weights file.

    Returns None if the file is missing or unusable. The original writes a flat dump with tags that
    call Python functions: this searches one line, and no YAML parser runs.
    """
    folders = [file.parent]
    if file.absolute().parent.name.startswith("checkpoint-"):
        folders.append(file.absolute().parent.parent)
    path = next((f / ARGUMENTS_FILE for f in folders if (f / ARGUMENTS_FILE).is_file()), None)
    if path is None or path.stat().st_size > MAX_ARGUMENTS_BYTES:
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    match = re.search(r"^max_ctx_chunk_len: *([0-9]{1,9})\s*$", text, re.MULTILINE)
    return int(match[1]) or None if match else None  # 0 and negative numbers mean no limit


def _list_steps(folder: Path) -> dict[int, Path]:
    found = {}
    for file in folder.glob(f"checkpoint-*/{WEIGHTS_FILE}"):
        match = re.fullmatch(r"checkpoint-([0-9]{1,18})", file.parent.name)
        if match:
            found[int(match[1])] = file
    return found


def _take_tensors(values: Mapping[str, object]) -> dict[str, TensorRecord]:
    """Take the tensors out of the saved dictionary, and refuse entries of unknown names."""
    records: dict[str, TensorRecord] = {}
    for key, value in values.items():
        if not isinstance(value, TensorRecord):
            if key not in (_BASE, _NETWORK, _ENCODER):
                raise CheckpointError(f"unknown entry {show(key)}", hint=f"name the {WEIGHTS_FILE}")
            continue
        name = key.removeprefix("_orig_mod.")  # torch.compile leaves it
        if name in records:
            raise CheckpointError(f"has two tensors of the name {show(name)}")
        records[name] = value
    return records


def _read_layers(file: Path, values: Mapping[str, object]) -> list[int]:
    """Read the indices of the adapted layers: a tensor inside the configuration."""
    with naming(file):
        record = _attributes(values, _NETWORK).get("layer_indices")
        if (
            not isinstance(record, TensorRecord)
            or record.storage.dtype != torch.int64
            or len(record.shape) != 1
            or record.shape[0] > 512
        ):
            raise CheckpointError("layer_indices is not a short list of whole numbers")
    indices = pickles.read_tensors(file, {"layer_indices": record})["layer_indices"]
    return [int(index) for index in indices]


def _translate(
    values: Mapping[str, object], layers: list[int], *, chunk_tokens: int | None
) -> DocToLoraConfig:
    """Turn the stored configuration into ours; raises CheckpointError for unknown features."""
    network = _attributes(values, _NETWORK)
    lora = _attributes(network, "lora_config")
    perceiver = _attributes(network, "aggregator_config")
    encoder = _attributes(values, _ENCODER)
    base = _get(values, _BASE, str)
    other = _get(encoder, "ctx_encoder_model_name_or_path", str, "")
    encoder_type = _get(encoder, "ctx_encoder_type", str)
    modules = lora.get("target_modules")
    if not isinstance(modules, list | tuple) or not all(isinstance(m, str) for m in modules):
        raise CheckpointError("target_modules is not a set of names")
    names = tuple(sorted(m for m in modules if isinstance(m, str)))
    d_in, d_out = _read_sizes(network.get("feature_sizes"), names)
    config = DocToLoraConfig(
        base=base,
        encoder=other if other not in ("", base) else None,
        encoder_type=encoder_type,
        encoder_layer=_get(encoder, "layer_idx", int) if encoder_type == EARLY_EXIT else None,
        encoder_quantized=_get(encoder, "quantize_ctx_encoder", bool, False),
        n_layers=_get(perceiver, "num_layers", int),
        target_modules=names,
        d_in=d_in,
        d_out=d_out,
        rank=_get(lora, "r", int),
        scale=_get(lora, "lora_alpha", float),
        latent_size=_get(network, "latent_size", int),
        feature_size=_get(perceiver, "feature_size", int),
        n_latent_queries=_get(perceiver, "n_latent_queries", int),
        n_blocks=_get(perceiver, "num_blocks", int),
        n_self_attention=_get(perceiver, "num_self_attn_per_block", int, 0),
        shared_weights=_get(perceiver, "shared_weights", bool, False),
        # Older files lack these two fields; the reference fills in the same values.
        n_pre_head_blocks=_get(network, "num_pre_head_layers", int, 4),
        use_bias=_get(network, "use_bias", bool, True),
        per_layer_pre_head=_get(network, "per_layer_processing", bool),
        chunk_tokens=chunk_tokens,
    )
    _refuse_unusable(network, perceiver)
    per_layer = encoder_type == PER_LAYER
    last_layer = _get(encoder, "ctx_encoder_last_layer", int, config.n_layers)
    _expect("aggregator's output_size", perceiver.get("output_size"), config.latent_size)
    _expect("aggregator's num_modules", perceiver.get("num_modules"), len(names))
    _expect("aggregator's lora_r", perceiver.get("lora_r"), config.rank)
    _expect("layer_to_layer_ctx_encoder", perceiver.get("layer_to_layer_ctx_encoder"), per_layer)
    if per_layer:
        _expect("ctx_encoder_last_layer", last_layer, config.n_layers)
    if layers != list(range(config.n_layers)):
        raise CheckpointError(
            f"layer_indices are not 0 to {config.n_layers - 1}, every layer of the base",
            hint=UNUSABLE,
        )
    return config


def _refuse_unusable(network: Mapping[str, object], perceiver: Mapping[str, object]) -> None:
    _expect("per_rank_gen", _get(network, "per_rank_gen", bool), True)
    _expect("aggregator_type", _get(perceiver, "aggregator_type", str), "perceiver")
    _expect("num_extra_modules", _get(perceiver, "num_extra_modules", int, 0), 0)
    for name in ("use_light_weight_lora", "use_per_rank_bias", "use_token_mixing"):
        _expect(name, _get(network, name, bool, False), False)
    if network.get("extra_modules"):
        raise CheckpointError("extra_modules is set, expected none", hint=UNUSABLE)


def _read_sizes(stored: object, names: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Read d_in and d_out of the target modules from a pair of dictionaries."""
    match stored:
        case (dict(inputs), dict(outputs)) if inputs.keys() == outputs.keys() == set(names):
            return (
                tuple(_get(inputs, name, int) for name in names),
                tuple(_get(outputs, name, int) for name in names),
            )
    raise CheckpointError("feature_sizes are not sizes of the target modules")


def _attributes(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    record = values.get(name)
    if not isinstance(record, ObjectRecord):
        raise CheckpointError(
            f"has no {name}", hint="expected a Doc-to-LoRA checkpoint, not other weights"
        )
    return record.values or {}


def _get(values: Mapping[str, object], name: str, kind: type[_T], default: _T | None = None) -> _T:
    """Read a stored attribute of a type; the default if it is absent or None."""
    value = values.get(name)
    if value is None:
        value = default
    if kind is float and type(value) is int:
        return kind(to_float(value))
    if type(value) is not kind:
        raise CheckpointError(f"{name} is {show(value)}, expected {kind.__name__}")
    return value


def _expect(name: str, got: object, expected: bool | int | str) -> None:
    if type(got) is not type(expected) or got != expected:
        raise CheckpointError(f"{name} is {show(got)}, expected {show(expected)}", hint=UNUSABLE)
