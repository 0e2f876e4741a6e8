"""Small random Doc-to-LoRA networks, and checkpoint files of them in the released layout."""

import enum
import sys
import types
import zipfile
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import torch

from d2l.hypernets.doc_to_lora.network import DocToLoraConfig, build, expected_shapes
from d2l.hypernets.formats.fields import EveryLayer
from d2l.hypernets.formats.native import write_folder
from d2l.hypernets.networks import find_format

SIZES = {"down_proj": (12, 8), "q_proj": (8, 10), "v_proj": (8, 6)}


def make_config(**changes) -> DocToLoraConfig:
    """Configuration of a network that adapts down_proj of three layers."""
    values = {
        "base": "tiny-org/tiny",
        "encoder": None,
        "encoder_type": "per_layer_activations",
        "encoder_layer": None,
        "encoder_quantized": False,
        "n_layers": 3,
        "target_modules": ("down_proj",),
        "rank": 2,
        "scale": 4.0,
        "latent_size": 6,
        "feature_size": 8,
        "n_latent_queries": 4,
        "n_blocks": 1,
        "n_self_attention": 0,
        "shared_weights": False,
        "n_pre_head_blocks": 1,
        "per_layer_pre_head": True,
        "use_bias": True,
        **changes,
    }
    sizes = [SIZES[module] for module in values["target_modules"]]
    return DocToLoraConfig(
        d_in=tuple(d_in for d_in, _ in sizes), d_out=tuple(d_out for _, d_out in sizes), **values
    )


def make_tensors(config, seed=0) -> dict[str, torch.Tensor]:
    """Random tensors of a configuration; layers that share weights have the same ones."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(shape, generator=generator) * 0.5
        for name, shape in expected_shapes(config).items()
    }
    if config.shared_weights:
        period = 1 + config.n_self_attention
        prefix = "aggregator.perceiver.encoder.layers."
        for name in tensors:
            if name.startswith(prefix):
                index, _, rest = name.removeprefix(prefix).partition(".")
                block, place = divmod(int(index), period)
                twin = min(block, 1 if place == 0 else 0) * period + place
                tensors[name] = tensors[f"{prefix}{twin}.{rest}"]
    return tensors


def make_network(config, seed=0):
    """A random network on the CPU."""
    return build(config, make_tensors(config, seed), device="cpu")


def make_hidden(config, n_tokens=9, seed=1) -> torch.Tensor:
    """Random hidden states (layers, tokens, hidden) of one chunk."""
    generator = torch.Generator().manual_seed(seed)
    n_states = len(config.reading.hidden_states)
    return torch.randn(n_states, n_tokens, config.feature_size, generator=generator)


def write_native(source: Path, target: Path) -> Path:
    """Write a checkpoint of any format as a native folder."""
    _, entry = find_format(source)
    config = entry.read_config(source)
    assert isinstance(config, EveryLayer)
    target.mkdir()
    write_folder(target, config.kind, config.to_json(), entry.read_tensors(source))
    return target


def write_released(path, config, tensors, **changes) -> None:
    """Write `pytorch_model.bin` as the original's trainer would.

    `changes` replace attributes of the stored configuration, by name, wherever they are; a name
    with a value of `...` is removed. `entries` adds to the dictionary itself.
    """
    entries = changes.pop("entries", {})
    with _original_classes() as classes:
        config = make_stored(config, classes, changes)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(OrderedDict({**tensors, **config, **entries}), path)


def make_stored(config, classes, changes):
    """The three entries beside the tensors, as objects of the original's classes."""

    def make(name, **values):
        made = classes[name]()
        for key, value in {**values, **{k: v for k, v in changes.items() if k in values}}.items():
            if value is not ...:
                setattr(made, key, value)
        return made

    lora = make(
        "LoraConfig",
        peft_type=classes["PeftType"]("LORA"),
        r=config.rank,
        lora_alpha=config.scale,
        target_modules=set(config.target_modules),
    )
    aggregator = make(
        "AggregatorConfig",
        aggregator_type="perceiver",
        num_layers=config.n_layers,
        num_modules=len(config.target_modules),
        num_extra_modules=0,
        output_size=config.latent_size,
        feature_size=config.feature_size,
        lora_r=config.rank,
        n_latent_queries=config.n_latent_queries,
        num_blocks=config.n_blocks,
        num_self_attn_per_block=config.n_self_attention,
        shared_weights=config.shared_weights,
        layer_to_layer_ctx_encoder=config.encoder_type == "per_layer_activations",
    )
    network = make(
        "HypernetConfig",
        latent_size=config.latent_size,
        per_rank_gen=True,
        use_light_weight_lora=False,
        use_per_rank_bias=False,
        use_bias=config.use_bias,
        per_layer_processing=config.per_layer_pre_head,
        use_token_mixing=False,
        num_pre_head_layers=config.n_pre_head_blocks,
        lora_config=lora,
        extra_modules=None,
        layer_indices=torch.arange(config.n_layers),
        feature_sizes=tuple(
            {name: shape[i] for name, shape in config.module_shapes.items()} for i in (0, 1)
        ),
        aggregator_config=aggregator,
    )
    encoder = make(
        "CtxEncoderArguments",
        ctx_encoder_model_name_or_path=config.encoder,
        ctx_encoder_type=config.encoder_type,
        layer_idx=config.encoder_layer or 1,
        quantize_ctx_encoder=config.encoder_quantized,
        ctx_encoder_last_layer=None,
    )
    return {
        "base_model_name_or_path": config.base,
        "hypernet_config": network,
        "ctx_encoder_args": encoder,
    }


@contextmanager
def _original_classes():
    """Empty classes under the original's module names, importable for as long as they are saved."""
    places = {
        "HypernetConfig": "ctx_to_lora.modeling.hypernet",
        "AggregatorConfig": "ctx_to_lora.modeling.aggregator",
        "CtxEncoderArguments": "ctx_to_lora.configs",
        "LoraConfig": "peft.tuners.lora.config",
        "PeftType": "peft.utils.peft_types",
    }
    classes = {
        name: type(name, (), {"__module__": module})
        for name, module in places.items()
        if name != "PeftType"
    }
    classes["PeftType"] = enum.Enum("PeftType", {"LORA": "LORA"}, module=places["PeftType"])
    parents = {
        ".".join(m.split(".")[: i + 1]) for m in places.values() for i in range(m.count("."))
    }
    before = {module: sys.modules.get(module) for module in parents | set(places.values())}
    try:
        for module in parents:
            sys.modules.setdefault(module, types.ModuleType(module))
        for name, module in places.items():
            sys.modules[module] = types.ModuleType(module)
            setattr(sys.modules[module], name, classes[name])
        yield classes
    finally:
        for module, old in before.items():
            if old is None:
                del sys.modules[module]
            else:
                sys.modules[module] = old


def write_zip(path, pickle, storages=None, *, root="pytorch_model", compression=0, extra=()):
    """Write a zip like that of `torch.save` by hand; `extra` are more (name, bytes) entries."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr(f"{root}/data.pkl", pickle)
        for key, data in (storages or {}).items():
            file.writestr(f"{root}/data/{key}", data)
        for name, data in extra:
            file.writestr(name, data)
