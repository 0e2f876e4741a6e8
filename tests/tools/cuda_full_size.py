"""Step of the proof on cards: seconds and memory of a full-size layout with random weights."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers

from d2l.api.compiler import Compiler
from d2l.bases import attention
from d2l.bases.families import FAMILIES
from d2l.compiler.plan import CompilePlan
from d2l.compiler.preflight import estimate_memory
from d2l.errors import OutOfMemoryError
from d2l_lab.bench.run import metered
from tests import tiny
from tests.compiled import write_files
from tests.test_pipeline import document_of
from tests.tools.cuda_machine import BOUNDS, Machine, Row, free_memory, measure_distance, multiply

#: A peak may exceed the estimate by a tenth, and by the work space of cuBLAS.
OVER, SLACK = 1.1, 64 << 20
LAYOUT: dict[str, Any] = {
    "n_layers": 26, "feature_size": 2304, "d_in": (9216,), "d_out": (2304,), "rank": 8,
    "latent_size": 512, "n_latent_queries": 8, "n_blocks": 9,
}  # fmt: skip


def write_layout(machine: Machine) -> tuple[Path, Path]:
    """Write a base with the layout of Gemma 2 2B and a network for it, both of random weights."""
    base, network = machine.folder / "base", machine.folder / "network"
    if base.exists():
        return base, network
    if machine.is_dry:
        return write_files(machine.folder / "gemma2", "gemma2")
    config = transformers.Gemma2Config()  # its sizes are those of the 2B model
    with torch.device(machine.cards[0]):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tiny.write_base(base, "gemma2", model)
    tiny.write_doc_to_lora(network, "gemma2", **LAYOUT)
    return base, network


@contextmanager
def running(name: str) -> Iterator[None]:
    """Let bases run with one implementation of attention, whatever d2l would pick."""
    with ExitStack() as stack:
        for module in [m for n, m in sys.modules.items() if n.startswith("d2l.")]:
            if hasattr(module, "pick_attention"):
                pick = mock.patch.object(module, "pick_attention", return_value=name)
                stack.enter_context(pick)
        yield


def plan_chunk(compiler: Compiler, n_tokens: int) -> CompilePlan:
    """Plan a document of one chunk of so many tokens."""

    def plan(n_words: int) -> CompilePlan:
        return compiler.plan(document_of("pump" + " pump" * (n_words - 1)))

    found = plan(n_tokens - len(plan(8).chunks[0].token_ids) + 8)  # less the template's
    assert [len(chunk.token_ids) for chunk in found.chunks] == [n_tokens]
    return found


def measure_length(compiler: Compiler, kind: str, n_tokens: int) -> Row:
    """Compile one chunk twice; seconds and memory are the second time's."""
    name, found = f"{kind} {n_tokens:,}", compiler.network
    own = found.format.find_weights(found.files.path).stat().st_size
    needed = own + estimate_memory(found, n_tokens, compiler.options.device)
    free, _ = torch.cuda.mem_get_info(compiler.options.device)
    plan = plan_chunk(compiler, n_tokens)
    try:
        compiler(plan)
        with metered(torch.device(plan.device)) as costs:
            compiler(plan)
    except OutOfMemoryError as error:  # the estimate is that of attention which d2l picks
        passed = None if kind == "eager" or needed > free else False
        return Row("full size", name, passed, error.describe())
    peak = costs[0].peak_bytes or 0
    told = "none" if kind == "eager" else f"{needed / 1e9:.1f} GB"
    note = f"{costs[0].seconds:.2f} s, peak {peak / 1e9:.1f} GB, estimate {told}"
    passed = kind == "eager" or peak <= OVER * needed + SLACK
    return Row("full size", name, passed, note, asdict(costs[0]) | {"estimated_bytes": needed})


def prove_full_size(machine: Machine) -> Iterator[Row]:
    """Seconds and memory of three lengths, and the distance of tiny adapters from eager's."""
    full, small = write_layout(machine), write_files(machine.folder / "gemma2", "gemma2")
    family, deltas = FAMILIES["gemma2"], list[torch.Tensor]()
    picked = attention.pick_attention(family, device=machine.cards[0], dtype=torch.bfloat16)
    for kind, name in {"eager": "eager", "blocks": family.attention, "flash": picked}.items():
        if kind not in name:
            yield Row("full size", kind, None, "not installed, or not for this card")
            continue
        with running(name):
            compiler = machine.make_compiler(small, base_dtype="bf16", chunk_tokens=1 << 20)
            deltas.append(multiply(compiler(plan_chunk(compiler, 300)).weights))
            if kind != "eager":
                far, bound = measure_distance(deltas[-1], deltas[0]), BOUNDS["bf16"]
                note = f"{far:.1e} from eager's adapter, bound {bound:.0e}"
                yield Row("full size", kind, far <= bound, note)
            compiler = machine.make_compiler(full, base_dtype="bf16", chunk_tokens=1 << 20)
            for n_tokens in machine.lengths:
                yield measure_length(compiler, kind, n_tokens)
        del compiler
        free_memory()
