"""Bases and goldens of the tests, straight through transformers and safetensors."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from d2l.bases.activations import ActivationEncoder, Activations
from d2l.bases.families import Reading

COMMITTED = Path(__file__).parents[1] / "data" / "goldens"
SIBLING = Path(__file__).parents[2].parent / "shared" / "goldens"
NAMES = (
    "gemma2_tiny_d2l",
    "mistral_tiny_d2l",
    "niah_early_exit",
    "qwen3_tiny_d2l",
    "variant_multi_module",
)


@dataclass(frozen=True)
class Golden:
    """A recorded run of the original: checkpoint, inputs and what it computed from them."""

    root: Path
    folder: Path
    inputs: dict[str, torch.Tensor]
    expected: dict[str, torch.Tensor]
    strengths: dict[str, float]

    def read_chunks(self, case, config) -> list[Activations]:
        """Activations of every chunk of a case."""
        encode = load_encoder(self.root / config.base, config.reading)
        ids, masks = (self.inputs[f"{case}.ctx_{name}"] for name in ("ids", "attn_mask"))
        rows = zip(ids, masks, strict=True)
        return [encode(ids[mask.bool()].tolist()) for ids, mask in rows]


def load_golden(name) -> Golden:
    """The committed copy of a golden, or the sibling folder's; skips where there is neither."""
    root = COMMITTED if (COMMITTED / "d2l" / name).is_dir() else SIBLING
    folder = root / "d2l" / name
    if not folder.is_dir():
        pytest.skip(f"no golden {name} beside the repository")
    info = json.loads((folder / "info.json").read_text())
    info = info.get("cases", {}).get("three", info)
    return Golden(
        root,
        folder,
        load_file(folder / "inputs.safetensors"),
        load_file(folder / "expected.safetensors"),
        {name: info[name] for name in ("bias_scaler", "user_defined_scaling")},
    )


def load_encoder(folder, reading: Reading) -> ActivationEncoder:
    """Decoder of a tiny base, cut to the layers that are read."""
    config = transformers.AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = reading.n_layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: reading.n_layers]
    model = transformers.AutoModel.from_pretrained(
        folder, config=config, attn_implementation="eager", dtype=torch.float32
    )
    return ActivationEncoder(model.eval(), reading)


def compute_logits(folder, ids, weights) -> torch.Tensor:
    """Logits of a tiny base with W + scale * b @ a in place of W."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    with torch.no_grad():
        for name, f in weights.factors.items():
            model.get_submodule(name).weight += weights.scale * (f.b @ f.a)
        return model(ids).logits
