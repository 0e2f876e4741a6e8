"""Goldens of the seat network: compile their documents, run adapters in PEFT, measure errors.

An adapter is always judged through a real PEFT folder, loaded by PEFT into the causal model.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from d2l.adapters.weights import LoraWeights
from d2l.bases.activations import ActivationEncoder
from d2l.bases.tokenizers import BaseTokenizer
from d2l.hypernets.options import MergeOptions
from d2l.hypernets.protocol import Assembled
from d2l.hypernets.seats.network import Seats
from d2l.hypernets.seats.sharing import centers, count_seats, split_seats

ROOT = Path(__file__).parents[2]
BUILTIN = ROOT / "d2l" / "hypernets" / "builtin" / "smollm2-135m"
GOLDENS = ROOT / "tests" / "data" / "seats"
ORIGINAL = ROOT.parent / "shared" / "seats-v0"
CONFIG = GOLDENS / "config.json"  # of the original
MAX_ANSWER_TOKENS = 20


@dataclass(frozen=True)
class Answer:
    """What the adapted model says to one question, in the terms of the goldens."""

    logits: Tensor  # (vocabulary,), at the prompt's last position
    nll: float
    text: str


@dataclass(frozen=True)
class Compiled:
    """One golden document as compiled here."""

    centers: list[list[float]]
    assembled: Assembled


def compile_case(seats: Seats, cases: dict[str, Any], name: str) -> Compiled:
    """Read the golden's chunks, share out the seats and seat the memory.

    `merged` joins what the documents `short` and `note` have when they are compiled alone.
    """
    case, config = cases[name], seats.config
    documents = [cases[part]["chunks"] for part in ("short", "note")]
    if name != "merged":
        documents = [case["chunks"]]
    read = ActivationEncoder(seats.base_model, config.reading)
    memories, places = [], []
    for chunks in documents:
        n_tokens = [len(chunk["token_ids"]) for chunk in chunks]
        shares = split_seats(n_tokens, count_seats(sum(n_tokens), config=config))
        for chunk, n_seats in zip(chunks, shares, strict=True):
            ids = (*config.read_opening, *chunk["token_ids"])
            memories.append(seats.generate(read(ids), n_seats))
            places.append(centers(n_seats, len(chunk["token_ids"])))
    return Compiled(places, seats.assemble(memories, MergeOptions()))


def write_peft(folder: Path, weights: LoraWeights) -> Path:
    """A minimal PEFT folder, written by hand so that it tests what PEFT makes of the weights."""
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": weights.base,
        "r": weights.rank,
        "lora_alpha": weights.rank * weights.scale,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(weights.factors),
        "inference_mode": True,
    }
    tensors = {}
    for name, factors in weights.factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = factors.a
        tensors[f"base_model.model.{name}.lora_B.weight"] = factors.b
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(settings), "utf-8")
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def load_peft(causal: Any, folder: Path) -> Any:
    """Wrap the model in the adapter of a PEFT folder."""
    with warnings.catch_warnings():
        # PEFT 0.21 still asks by the old name, which transformers 5 has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        return peft.PeftModel.from_pretrained(causal, folder).eval()


@torch.no_grad()
def ask(
    model: Any, tokenizer: BaseTokenizer, prompt: Sequence[int], reference: str, end_token: int = 2
) -> Answer:
    """Logits after the prompt, likelihood of the reference and the greedy answer."""
    prompt_ids = torch.tensor([list(prompt)])
    target = torch.tensor([*tokenizer.encode(reference), end_token])
    forced = torch.cat([prompt_ids, target[None, :-1]], dim=1)
    logits = model(input_ids=forced, use_cache=False).logits[0, len(prompt) - 1 :]
    nll = -float(logits.log_softmax(dim=-1).gather(1, target[:, None]).mean())
    greedy = model.generate(
        input_ids=prompt_ids,
        attention_mask=torch.ones_like(prompt_ids),
        do_sample=False,
        max_new_tokens=MAX_ANSWER_TOKENS,
        eos_token_id=end_token,
        pad_token_id=end_token,
    )[0, len(prompt) :]
    return Answer(logits[0], nll, tokenizer.chat.decode(greedy, skip_special_tokens=True))


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest absolute value expected."""
    return float((got - expected).abs().max() / expected.abs().max())


def tensor_errors(assembled: Assembled, folder: Path, name: str) -> dict[str, float]:
    """Worst relative errors of memory, A and B against a golden's tensors."""
    expected = load_file(folder / f"{name}.safetensors")
    memory, factors = assembled.memory, assembled.weights.factors
    assert memory is not None
    errors = dict.fromkeys(("memory", "a", "b"), 0.0)
    for key, tensor in expected.items():
        if key.startswith("logits"):
            continue
        if key.startswith("memory"):
            _, what, layer = key.split(".")
            kind, got = "memory", getattr(memory, what)[int(layer) - 3]
        elif key.endswith("A"):
            layer = key.split(".")[0]
            kind, got = "a", factors[f"model.layers.{layer}.self_attn.k_proj"].a
        else:
            layer, module, _ = key.split(".")
            kind, got = "b", factors[f"model.layers.{layer}.self_attn.{module}"].b
        error = relative_error(got, tensor)
        errors[kind] = max(errors[kind], error)
    return errors


def norm_error(assembled: Assembled, case: dict[str, Any]) -> float:
    """Worst relative error of the Frobenius norms of A, B_k and B_v over all layers."""
    worst = 0.0
    for layer in range(3, 30):
        norms = case["frobenius"][str(layer)]
        keys = assembled.weights.factors[f"model.layers.{layer}.self_attn.k_proj"]
        values = assembled.weights.factors[f"model.layers.{layer}.self_attn.v_proj"]
        for got, expected in zip((keys.a, keys.b, values.b), norms, strict=True):
            norm = float(got.to(torch.float64).norm())
            worst = max(worst, abs(norm - expected) / expected)
    return worst
