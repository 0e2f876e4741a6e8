"""A released Text-to-LoRA checkpoint: its three files, its configuration and its tensors.

A path to `hypermod.pt` or the folder around it, with `args.yaml` and `adapter_config.json`, in; a
TextToLoraConfig and tensors by name out. Only this module knows the files' own words
(SakanaAI/text-to-lora, hyper_llm_modulator).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from d2l.errors import CheckpointError
from d2l.hypernets.formats import pickles
from d2l.hypernets.formats.fields import naming, read_json, show, to_float
from d2l.hypernets.formats.format import Released
from d2l.hypernets.formats.native import UNUSABLE, check_shapes
from d2l.hypernets.formats.pickles import TensorRecord
from d2l.hypernets.text_to_lora.network import TextToLoraConfig, expected_shapes

WEIGHTS_FILE = "hypermod.pt"
ARGUMENTS_FILE = "args.yaml"
ADAPTER_FILE = "adapter_config.json"
#: Larger than a configuration: the file may contain training descriptions.
MAX_ARGUMENTS_BYTES = 16 << 20

_HEAD = re.compile(r"heads\.([^.]+)\.weight")
#: Constants of training targets: every file has them, only some networks use them.
_TARGETS = ("mean_recon_target.", "std_recon_target.")


def matches(path: Path) -> bool:
    """True if a path may be a released Text-to-LoRA checkpoint, by names alone."""
    return path.name == WEIGHTS_FILE if path.is_file() else (path / WEIGHTS_FILE).is_file()


def find_file(path: Path) -> Path:
    """Find the weights file: the path itself, or in the folder."""
    return path if path.is_file() else path / WEIGHTS_FILE


def read_released(path: Path) -> Released:
    """Read and check everything but the weights; fast for any size of file."""
    file = find_file(path)
    arguments_file = file.parent / ARGUMENTS_FILE
    adapter_file = file.parent / ADAPTER_FILE
    arguments = read_arguments(arguments_file)
    adapter = read_json(adapter_file)
    values = pickles.read_object(file)
    with naming(file):
        records = _take_tensors(values)
        order = tuple(match[1] for name in records if (match := _HEAD.fullmatch(name)))
    with naming(adapter_file):
        rank, alpha = _read_scale(adapter)
        _check_modules(adapter.get("target_modules"), order)
    with naming(arguments_file):
        flags = _read_flags(arguments)
        base, embedder = _read_models(arguments, adapter)
    with naming(file):
        config = TextToLoraConfig(
            base=base,
            embedder=embedder,
            **_read_sizes(records, order),  # type: ignore[arg-type]
            module_order=order,
            rank=rank,
            scale=alpha / rank,
            rank_stabilized=adapter.get("use_rslora") is True,
            head_bias=f"heads.{order[0]}.bias" in records,
            **flags,  # type: ignore[arg-type]
        )
        used = _drop_unused(records, config)
        got = {name: record.shape for name, record in used.items()}
        check_shapes(got, expected_shapes(config))
    return Released(file, config, used)


def read_arguments(path: Path) -> dict[str, object]:
    """Read the one-line values of a flat YAML file: names, numbers, true, false and null.

    No YAML parser runs; nested values are ignored, since no network's shape depends on them.
    """
    with naming(path):
        if not path.is_file():
            raise CheckpointError(
                "no such file", hint=f"a released Text-to-LoRA folder has {ARGUMENTS_FILE}"
            )
        if path.stat().st_size > MAX_ARGUMENTS_BYTES:
            raise CheckpointError(f"is larger than {MAX_ARGUMENTS_BYTES} bytes")
        text = path.read_text(encoding="utf-8", errors="replace")
    found = re.finditer(r"^([A-Za-z_]\w*):[ \t]+(\S[^\n]*)$", text, re.MULTILINE)
    return {match[1]: _read_scalar(match[2].rstrip()) for match in found}


def _read_scalar(text: str) -> object:
    """Read a YAML scalar of one line."""
    plain: dict[str, object] = {"null": None, "~": None, "true": True, "false": False}
    if text.lower() in plain:
        return plain[text.lower()]
    if text[0] == text[-1] == "'" and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    if re.fullmatch(r"-?[0-9]+\.[0-9]*([eE][-+]?[0-9]{1,3})?", text):
        return float(text)
    if text[0] == '"':
        try:
            return json.loads(text)  # the escapes of a dumped line are nearly always JSON's
        except ValueError:
            return text
    return text


def _take_tensors(values: Mapping[str, object]) -> dict[str, TensorRecord]:
    records: dict[str, TensorRecord] = {}
    for key, value in values.items():
        if not isinstance(value, TensorRecord):
            raise CheckpointError(
                f"{show(key)} is not a tensor", hint="expected a Text-to-LoRA checkpoint"
            )
        if not value.storage.dtype.is_floating_point:
            raise CheckpointError(f"{show(key)} is {value.storage.dtype}, expected {torch.float32}")
        records[key.removeprefix("_orig_mod.")] = value
    if not any(_HEAD.fullmatch(name) for name in records):
        raise CheckpointError("has no heads", hint="expected a Text-to-LoRA checkpoint")
    return records


def _read_scale(adapter: Mapping[str, object]) -> tuple[int, float]:
    """Read rank and alpha of the generated adapters."""
    rank, alpha = adapter.get("r"), adapter.get("lora_alpha")
    if type(rank) is not int or not 1 <= rank < 1 << 20:
        raise CheckpointError(f"r is {show(rank)}, expected a positive whole number")
    if type(alpha) not in (int, float) or not abs(alpha) < 1 << 63:  # type: ignore[arg-type]
        raise CheckpointError(f"lora_alpha is {show(alpha)}, expected a number")
    if adapter.get("use_dora"):
        raise CheckpointError("use_dora is set, expected plain LoRA", hint=UNUSABLE)
    return rank, to_float(alpha)  # type: ignore[arg-type]


def _check_modules(stored: object, order: tuple[str, ...]) -> None:
    """Check modules against the heads, which have the order: the file's list was a set."""
    names = stored if isinstance(stored, list) else []
    if sorted(map(str, names)) != sorted(order):
        raise CheckpointError(
            f"target_modules are not the modules of the weights, {', '.join(order)}",
            hint="are the weights and the configuration of the same checkpoint?",
        )


def _read_flags(arguments: Mapping[str, object]) -> dict[str, object]:
    """Read the network's form from its training options; forms without a release are refused."""
    flags = {}
    for name in (
        "shared_AB_head",
        "autoreg_gen",
        "learnable_pos_emb",
        "factorized",
        "pred_z_score",
        "use_one_hot_task_emb",
    ):
        flags[name] = arguments.get(name, False)
        if type(flags[name]) is not bool:
            raise CheckpointError(f"{name} is {show(flags[name])}, expected true or false")
    task = arguments.get("training_task")
    if task not in ("sft", "recon"):
        raise CheckpointError(f'training_task is {show(task)}, expected "sft" or "recon"')
    if flags["use_one_hot_task_emb"]:
        raise CheckpointError("use_one_hot_task_emb is true: it knows no descriptions")
    if flags["autoreg_gen"] and not flags["learnable_pos_emb"]:
        raise CheckpointError("autoreg_gen without learnable_pos_emb", hint=UNUSABLE)
    direct = task == "recon" and not flags["factorized"]
    if direct and flags["pred_z_score"]:
        raise CheckpointError("pred_z_score without factorized", hint=UNUSABLE)
    scaling = arguments.get("delta_w_scaling", 1)
    if not isinstance(scaling, int | float) or isinstance(scaling, bool):
        raise CheckpointError(f"delta_w_scaling is {show(scaling)}, expected a number")
    return {
        "shared_head": flags["shared_AB_head"],
        "autoregressive": flags["autoreg_gen"],
        "adds_offset": not direct,
        "z_scores": task == "recon" and bool(flags["pred_z_score"]),
        "delta_scaling": to_float(scaling) if direct else 1.0,
    }


def _read_models(
    arguments: Mapping[str, object], adapter: Mapping[str, object]
) -> tuple[str, str | None]:
    """Read the names of the base and of the embedder; None if the base embeds."""
    base = arguments.get("model_dir") or adapter.get("base_model_name_or_path")
    if not isinstance(base, str):
        raise CheckpointError(f"model_dir is {show(base)}, expected the name of the base")
    base = base.rstrip("/")  # the original's own command for this file ends in one
    embedder = arguments.get("emb_model")
    if not isinstance(embedder, str):
        raise CheckpointError(f"emb_model is {show(embedder)}, expected the name of a model or ''")
    return base, embedder if embedder not in ("", base) else None


def _read_sizes(
    records: Mapping[str, TensorRecord], order: tuple[str, ...]
) -> dict[str, int | tuple[int, ...]]:
    """Read sizes of the network from the tensors' shapes: no file states them all."""

    def size(name: str, axis: int, n_axes: int) -> int:
        record = records.get(name)
        if record is None or len(record.shape) != n_axes:
            raise CheckpointError(
                f"{name} is {'missing' if record is None else record.shape}",
                hint="expected a Text-to-LoRA checkpoint",
            )
        return record.shape[axis]

    return {
        "embedding_size": size("task_encoder.mlp.0.weight", 1, 2),
        "n_layers": size("layer_depth_encoder.0.weight", 0, 2),
        "latent_size": size("mixer.1.weight", 1, 2),
        "head_size": size("mlp3.4.weight", 0, 2),
        "d_in": tuple(size(f"AB_offset.A.{name}", 2, 3) for name in order),
        "d_out": tuple(size(f"AB_offset.B.{name}", 1, 3) for name in order),
    }


def _drop_unused(
    records: Mapping[str, TensorRecord], config: TextToLoraConfig
) -> dict[str, TensorRecord]:
    unused = () if config.z_scores else _TARGETS
    if not config.adds_offset:
        unused = (*unused, "AB_offset.")
    return {name: record for name, record in records.items() if not name.startswith(unused)}
