"""Adapters for `d2l check`: every rule and fault once, and clean ones.

A table, and what writes and checks an entry of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2l.runtimes.check import CheckOptions, CheckReport, check
from tests import tiny
from tests.task_adapters import EVERY_MODULE, PREFIX, make_factors, write_task

Q = f"{PREFIX}model.layers.1.self_attn.q_proj"
STRICT = ("vllm", "mistral.rs")
#: Runtimes that scale by alpha and the rank of all modules alone.
OWN_SCALE = ("sglang", "llama.cpp")
#: Runtimes that take nothing beside A and B.
PLAIN = (*STRICT, "llama.cpp", "ollama", "mlx")


@dataclass(frozen=True)
class Case:
    """One adapter: what is changed in a clean one, and what must be found.

    `refuses` and `ignores` name the runtimes that do so and a word of what they are told; `faults`
    are words of faults, fatal ones with a "!" in front.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor | None] = field(default_factory=dict)
    modules: tuple[str, ...] = ("q_proj", "v_proj")
    family: str = "llama"
    rank: int = 4
    layers: range = range(tiny.N_LAYERS)
    max_lora_rank: int | None = None
    refuses: Mapping[str, str] = field(default_factory=dict)
    ignores: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def put(module: str, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    return {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}


DEFAULT_KEYS: dict[str, Tensor | None] = {}
BARE_KEYS: dict[str, Tensor | None] = {}
for _name, (_a, _b) in make_factors("llama").items():
    for _part, _tensor in (("A", _a), ("B", _b)):
        _key = f"{PREFIX}{_name}.lora_{_part}.weight"
        DEFAULT_KEYS |= {_key: None, _key.replace(".weight", ".default.weight"): _tensor}
        BARE_KEYS |= {_key: None, _key.removeprefix(PREFIX): _tensor}
INFINITE = torch.full((4, 32), torch.inf)
MIXERS: dict[str, Tensor | None] = {}
for _layer in range(tiny.N_LAYERS):
    _module = f"{PREFIX}model.layers.{_layer}.mixer.in_proj"
    MIXERS |= put(_module, torch.ones(4, 32), torch.ones(8, 4))

CASES: dict[str, Case] = {
    "clean": Case(),
    "clean, every module": Case(modules=EVERY_MODULE),
    "clean, gemma": Case(family="gemma2"),
    "clean, qwen": Case(family="qwen3", modules=EVERY_MODULE),
    "clean, mistral, fields at rest": Case(
        family="mistral", config={"use_dora": False, "bias": "none", "modules_to_save": None}
    ),
    "clean, a rank that is no power of two": Case(rank=5),
    "clean, a start that changes no base": Case(config={"init_lora_weights": "gaussian"}),
    "clean, served at its own rank": Case(rank=8, max_lora_rank=8),
    "rank above the server's": Case(
        rank=20,
        max_lora_rank=16,
        refuses=dict.fromkeys(("vllm", "sglang", "mistral.rs"), "above --max-lora-rank 16"),
    ),
    "rank above all that can be served": Case(rank=513, refuses={"vllm": "rank is 513, above 512"}),
    "a rank that vLLM has not": Case(
        max_lora_rank=24, refuses={"vllm": "allowed are 1, 8, 16, 32"}
    ),
    "rank-stabilized": Case(
        config={"use_rslora": True}, ignores=dict.fromkeys(OWN_SCALE, "use_rs")
    ),
    "alpha of one module": Case(
        config={"alpha_pattern": {"q_proj": 2}}, ignores=dict.fromkeys(OWN_SCALE, "alpha_pattern")
    ),
    "rank of one module": Case(
        config={"rank_pattern": {"layers.1.self_attn.q_proj": 2}},
        tensors=put(Q, torch.ones(2, 32), torch.ones(32, 2)),
        ignores=dict.fromkeys(OWN_SCALE, "rank_pattern"),
    ),
    "DoRA": Case(
        config={"use_dora": True},
        tensors={f"{Q}.lora_magnitude_vector": torch.ones(32)},
        refuses=dict.fromkeys((*PLAIN, "sglang"), "use_dora"),
        ignores={"openvino": "use_dora"},
    ),
    "biases of the base": Case(
        config={"bias": "lora_only"},
        refuses=dict.fromkeys(PLAIN, "bias: 'lora_only'"),
        ignores=dict.fromkeys(("sglang", "openvino"), "bias: 'lora_only'"),
    ),
    "biases on B": Case(config={"lora_bias": True}, refuses=dict.fromkeys(STRICT, "lora_bias:")),
    "whole modules": Case(
        config={"modules_to_save": ["lm_head"]},
        refuses=dict.fromkeys(PLAIN, "modules_to_save: lm_head"),
        ignores={"sglang": "modules_to_save"},
    ),
    "whole modules, as one name": Case(
        config={"modules_to_save": "lm_head"},
        refuses=dict.fromkeys(PLAIN, "modules_to_save: lm_head"),
        ignores={"sglang": "modules_to_save"},
    ),
    "whole modules, as a number": Case(
        config={"modules_to_save": 1},
        refuses=dict.fromkeys(PLAIN, "modules_to_save: 1"),
        ignores=dict.fromkeys(("sglang", "openvino"), "modules_to_save"),
    ),
    "a classifier beside it": Case(
        config={"modules_to_save": ["score"]},
        refuses=dict.fromkeys(PLAIN[1:], "modules_to_save: score"),
        ignores=dict.fromkeys(("sglang", "openvino"), "modules_to_save"),
    ),
    "a start that changes the base": Case(
        config={"init_lora_weights": "pissa"},
        refuses=dict.fromkeys(STRICT, "init_lora_weights: 'pissa'"),
        ignores=dict.fromkeys(("sglang", "openvino"), "init_lora_weights"),
    ),
    "aLoRA": Case(
        config={"alora_invocation_tokens": [1, 2]},
        refuses=dict.fromkeys(STRICT, "aLoRA"),
        ignores={"sglang": "aLoRA"},
    ),
    "replicated layers": Case(
        config={"layer_replication": [[0, 2], [1, 3]]},
        refuses=dict.fromkeys(STRICT, "layer_replication"),
        ignores={"sglang": "layer_replication"},
    ),
    "without what is fused with it": Case(modules=("k_proj", "v_proj")),
    "transposed base": Case(
        config={"fan_in_fan_out": True},
        ignores=dict.fromkeys((*STRICT, "llama.cpp"), "fan_in_fan_out"),
    ),
    "some layers only": Case(layers=range(1, 3)),
    "a module that no server adapts": Case(
        tensors=MIXERS,
        refuses=dict.fromkeys((*STRICT, "sglang", "llama.cpp", "ollama"), "in_proj cannot be adap"),
    ),
    "a tied head": Case(
        family="gemma2",
        tensors=put(f"{PREFIX}lm_head", torch.ones(4, 32), torch.ones(tiny.vocab_size(), 4)),
        refuses={
            **dict.fromkeys(("llama.cpp", "ollama"), "shares the embedding's weights"),
            "mistral.rs": "lm_head cannot be adapted",
        },
    ),
    "embeddings": Case(
        tensors={
            f"{PREFIX}model.embed_tokens.lora_embedding_A": torch.ones(4, 40),
            f"{PREFIX}model.embed_tokens.lora_embedding_B": torch.ones(32, 4),
        },
        refuses={
            "mlx": "the embedding is adapted",
            **dict.fromkeys(("mistral.rs", "ollama"), "lora_embedding_A is no LoRA"),
        },
        ignores={"openvino": "the embedding is adapted"},
    ),
    "a tensor that is no LoRA": Case(
        tensors={f"{PREFIX}model.layers.0.self_attn.extra": torch.ones(3)},
        refuses=dict.fromkeys((*STRICT, "sglang", "llama.cpp", "ollama"), "extra is no LoRA"),
    ),
    "keys without PEFT's prefix": Case(
        tensors=BARE_KEYS,
        refuses=dict.fromkeys(("peft", "openvino"), "does not begin with base_model.model."),
    ),
    ".default. in the keys": Case(tensors=DEFAULT_KEYS, faults=('!".default."',)),
    "NaN": Case(
        tensors={f"{Q}.lora_B.weight": torch.full((32, 4), torch.nan)},
        faults=("!1 tensors have NaN or infinite values",),
    ),
    "infinite": Case(tensors={f"{Q}.lora_A.weight": INFINITE}, faults=("!NaN or infinite",)),
    "dead modules": Case(
        tensors={f"{Q}.lora_B.weight": torch.zeros(32, 4)},
        faults=("1 modules change nothing (all zero)",),
    ),
    "B transposed": Case(tensors={f"{Q}.lora_B.weight": torch.ones(4, 32)}, faults=("!B is sto",)),
    "A and B transposed": Case(
        tensors=put(Q, torch.ones(32, 4), torch.ones(4, 32)),
        faults=("!A and B is stored transposed",),
    ),
    "another rank than declared": Case(config={"r": 8}, faults=("!the config says rank 8, A",) * 6),
    "no rank": Case(config={"r": None}, faults=("!r is 0, expected a positive",)),
    "for another base": Case(
        tensors=put(Q, torch.ones(4, 48), torch.ones(48, 4)),
        faults=("!is 48 → 48, the base has 32 → 32",),
    ),
    "for a deeper base": Case(
        tensors=put(Q.replace("layers.1.", "layers.9."), torch.ones(4, 32), torch.ones(32, 4)),
        faults=("!the base has 3 layers",),
    ),
    "B missing": Case(
        tensors={f"{Q}.lora_B.weight": None}, faults=("!self_attn.q_proj has no lora_B",)
    ),
    "numbers of a kind that nothing multiplies": Case(
        tensors={f"{Q}.lora_B.weight": torch.ones(32, 4, dtype=torch.int8)},
        faults=("!values are stored as I8",),
    ),
    "no LoRA": Case(config={"peft_type": "LOHA"}, faults=("!peft_type is 'LOHA': this is no L",)),
}


def write(case: Case, folder: Path) -> Path:
    factors = make_factors(case.family, case.modules, rank=case.rank, layers=case.layers)
    base = tiny.base_name(case.family)
    return write_task(folder, factors, base=base, config=case.config, tensors=case.tensors)


def run(case: Case, folder: Path, bases: Path, *runtimes: str) -> CheckReport:
    options = CheckOptions(
        runtimes, case.max_lora_rank, str(bases / f"{case.family}-tiny"), offline=True
    )
    return check(write(case, folder), options)
