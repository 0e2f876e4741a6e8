"""What an adapter made from a description says of itself in `d2l.json`.

Facts of one adapter in, plain JSON values out. No time stamps: the same run gives the same bytes.
"""

import math
from dataclasses import dataclass
from typing import Any

from d2l import __version__
from d2l.adapters.info import FORMAT
from d2l.adapters.weights import LoraWeights, delta_norm
from d2l.bases.families import module_path
from d2l.hypernets.text_to_lora.network import TextToLoraConfig


@dataclass(frozen=True)
class Made:
    """Where one adapter came from; `base_sha256` is None where no weights of the base were read."""

    text: str
    text_sha256: str
    checkpoint: str
    checkpoint_sha256: str
    base_sha256: str | None
    embedder: str
    scaling: str
    dtype: str
    familiarity: float | None = None  # None: the checkpoint does not say what it knows
    warnings: tuple[str, ...] = ()


def describe(made: Made, config: TextToLoraConfig, weights: LoraWeights) -> dict[str, Any]:
    """Provenance of an adapter: tool, checkpoint, base, description, options, prompt, norms."""
    return {
        "format": FORMAT,
        "tool": {"name": "d2l", "version": __version__},
        "checkpoint": {
            "name": made.checkpoint,
            "network": config.kind,
            "sha256": made.checkpoint_sha256,
        },
        "base": {"name": config.base, "sha256": made.base_sha256},
        "description": {
            "text": made.text,
            "sha256": made.text_sha256,
            "embedder": made.embedder,
            "familiarity": None if made.familiarity is None else round(made.familiarity, 4),
        },
        "inputs": [],  # documents; `ask --compare` and probes look for them here
        "skipped": [],
        "chunks": [],
        "rank": weights.rank,
        "scale": weights.scale,  # folded into lora_B
        "options": {"scaling": made.scaling, "dtype": made.dtype},
        "merge_error": {},
        "prompt": {"chat_template": "base", "turns": "user", "opening": None},
        "norms": {"layers": _norms(config, weights), "chunks": []},
        "warnings": list(made.warnings),
    }


def _norms(config: TextToLoraConfig, weights: LoraWeights) -> list[float]:
    """Frobenius norm of all modules' deltas side by side, by layer, to six digits."""
    norms = []
    for layer in range(config.n_base_layers):
        names = [module_path(layer, module) for module in config.target_modules]
        found = [delta_norm(weights.factors[name], weights.scale) for name in names]
        norms.append(float(f"{math.hypot(*found):.6g}"))
    return norms
