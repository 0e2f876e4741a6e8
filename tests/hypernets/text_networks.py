"""Small random Text-to-LoRA networks, and the three files of one as its trainer writes them."""

import json
from collections import OrderedDict

import torch

from d2l.hypernets.text_to_lora.network import TextToLoraConfig, build, expected_shapes


def make_config(**changes) -> TextToLoraConfig:
    """A network of two layers for q_proj and v_proj, in an order that is not alphabetical."""
    values = {
        "base": "tiny-org/mistral-tiny",
        "embedder": None,
        "embedding_size": 6,
        "n_layers": 2,
        "module_order": ("v_proj", "q_proj"),
        "d_in": (6, 6),
        "d_out": (3, 5),
        "rank": 2,
        "scale": 2.0,
        "rank_stabilized": True,
        "latent_size": 8,
        "head_size": 7,
        "shared_head": False,
        "autoregressive": False,
        "head_bias": True,
        "adds_offset": True,
        "z_scores": False,
    }
    return TextToLoraConfig(**(values | changes))


def make_tensors(config, seed=0) -> dict[str, torch.Tensor]:
    """Random tensors of every name that the network has."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * 0.4
        for name, shape in expected_shapes(config).items()
    }


def make_network(config, seed=0):
    """A random network on the CPU."""
    return build(config, make_tensors(config, seed), device="cpu")


def write_released(folder, config, tensors=None, *, adapter=None, **arguments):
    """Write `hypermod.pt`, `args.yaml` and `adapter_config.json`; a value of `...` leaves one out.

    Every file has the offsets and the constants of training targets, used or not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = OrderedDict()
    for name, (d_in, d_out) in config.module_shapes.items():
        for kind in ("AB_offset", "mean_recon_target", "std_recon_target"):
            stored[f"{kind}.A.{name}"] = torch.zeros(config.n_layers, config.rank, d_in)
            stored[f"{kind}.B.{name}"] = torch.zeros(config.n_layers, d_out, config.rank)
    stored.update(make_tensors(config) if tensors is None else tensors)
    torch.save(stored, folder / "hypermod.pt")
    direct = not config.adds_offset
    values = {
        "model_dir": config.base,
        "emb_model": "''" if config.embedder is None else config.embedder,
        "training_task": "recon" if direct or config.z_scores else "sft",
        "shared_AB_head": config.shared_head,
        "autoreg_gen": config.autoregressive,
        "learnable_pos_emb": config.autoregressive,
        "factorized": config.z_scores,
        "pred_z_score": config.z_scores,
        "delta_w_scaling": config.delta_scaling,
        "use_one_hot_task_emb": False,
    } | arguments
    lines = [
        f"{name}: {str(value).lower() if type(value) is bool else value}"
        for name, value in values.items()
        if value is not ...
    ]
    text = "\n".join(["eval_ds_info:", "  task_a:", "    descriptions:", "    - x", *lines, ""])
    (folder / "args.yaml").write_text(text, "utf-8")
    written = {
        "r": config.rank,
        "lora_alpha": config.scale * config.rank,
        "use_rslora": config.rank_stabilized,
        "target_modules": sorted(config.module_order),
        "base_model_name_or_path": config.base,
    } | (adapter or {})
    (folder / "adapter_config.json").write_text(json.dumps(written), "utf-8")
    return folder
