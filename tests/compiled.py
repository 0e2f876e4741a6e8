"""Adapters compiled from a tiny document through the real pipeline, and what to compare them with.

`kind` is a family, for the tiny Doc-to-LoRA checkpoint of it, or "seats". A root folder holds
base, checkpoint and adapter under the names that the model card gives them, so that the card's
lines run there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from d2l.api.compiler import Compiler
from d2l.compiler.plan import CompilePlan
from d2l.documents.document import Document
from d2l.hypernets.options import CompileOptions
from d2l.readers.parsing import Section
from tests import tiny
from tests.slow import slow_after

KINDS = slow_after(3, "seats", "llama", "gemma2", "mistral", "qwen2", "qwen3")
ADAPTER = "tiny.lora"
LAST_PAGE = "The tower has 96 steps."

#: PEFT still asks by the old name of what transformers 5 has renamed; no adapter's fault.
PEFT_DEPRECATION = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"


@dataclass(frozen=True)
class Compiled:
    """A finished run: `root` holds base, checkpoint and adapter."""

    root: Path
    base: Path
    checkpoint: Path
    adapter: Path
    plan: CompilePlan


#: Compiles the tiny document by kind, each only once: the fixture `compiled` of tests/conftest.py.
Compile = Callable[[str], Compiled]


def make_document(name: str = "handbook.txt") -> Document:
    """The tiny document, and a second page."""
    sections = (Section(tiny.DOCUMENT, page=1), Section(LAST_PAGE, page=2))
    size = sum(len(section.text) for section in sections)
    return Document(name, "text", sections, "0" * 64, size)


def family_of(kind: str) -> str:
    """The family of a kind's base."""
    return "llama" if kind == "seats" else kind


def write_files(root: Path, kind: str) -> tuple[Path, Path]:
    """Write a kind's base and checkpoint below `root`, if they are not there."""
    family = family_of(kind)
    base, checkpoint = root / tiny.base_name(family), root / "checkpoint"
    if not base.exists():
        tiny.write_base(base, family)
    if not checkpoint.exists():
        if kind == "seats":
            tiny.write_seats(checkpoint)
        else:
            tiny.write_doc_to_lora(checkpoint, family)
    return base, checkpoint


def compile_tiny(root: Path, kind: str, *documents: Document, **changes: Any) -> Compiled:
    """Compile into `root`, into one memory; `changes` are fields of CompileOptions, `parts` among
    them. Caches stay below `root`."""
    base, checkpoint = write_files(root, kind)
    values: dict[str, Any] = {"checkpoint": str(checkpoint), "base": str(base), "device": "cpu"}
    values |= {"dtype": "fp32", "keep_paths": True}  # they are looked for under another cache
    options = CompileOptions(**(values | {"offline": True, "parts": False} | changes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2L_CACHE_DIR", str(root / "cache"))
        compiler = Compiler(options)
        plan = compiler.plan(documents or make_document())
        compiler(plan).save_pretrained(root / ADAPTER)
    return Compiled(root, base, checkpoint, root / ADAPTER, plan)


def make_dense(kind: str, adapter: Path) -> Any:
    """The tiny base with an adapter's file multiplied out into its weights, without PEFT or d2l.

    Adapters of d2l have alpha / rank = 1, so the delta is B @ A.
    """
    model = tiny.make_causal(family_of(kind))
    tensors = load_file(adapter / "adapter_model.safetensors")
    with torch.no_grad():
        for name, a in tensors.items():
            if ".lora_A." in name:
                module = name.removeprefix("base_model.model.").split(".lora_A.")[0]
                b = tensors[name.replace(".lora_A.", ".lora_B.")]
                model.get_submodule(module).weight += b.float() @ a.float()
    return model


def generate(model: Any, prompt: str, n_tokens: int, *, raw: bool = False) -> str:
    """Greedy answer to a prompt whose control tokens count, by transformers itself.

    `raw` keeps control tokens and outer white space in the answer.
    """
    ids = torch.tensor([tiny.encode(prompt)])
    with torch.no_grad():
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n_tokens,
            do_sample=False,
        )
    answer = output[0, ids.shape[1] :].tolist()
    text = tiny.load_tokenizer().decode(answer, skip_special_tokens=not raw)
    return text if raw else text.strip()


def write_prompt(text: str, system: str = tiny.SYSTEM) -> str:
    """One user turn as the tiny bases' chat template writes it, ready for the answer."""
    return (
        f"<|im_start|>system\n{system}<|im_end|>\n"
        f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    )


def read_files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
