"""The pipeline on tiny bases of every family: what is written, merged, bounded and refused."""

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from d2l.adapters.peft_folder import read_adapter
from d2l.adapters.weights import LoraWeights
from d2l.api.compiler import Compiler
from d2l.compiler import run as pipeline
from d2l.documents.document import Document
from d2l.documents.intake import Intake
from d2l.errors import BaseModelError, D2LError, DocumentError, OptionError
from d2l.hypernets.options import CompileOptions
from d2l.readers.parsing import Section
from tests import tiny
from tests.slow import slow_after

PAGES = (
    "The filter is rinsed every 14 days. The pump stands in the harbor.",
    "Open the copper valve before the pressure falls below 3 bar.",
    "The lantern in the meadow is lit at 21:40. Ask the keeper for the key.",
)
EARLY_EXIT = {"encoder_type": "early_exit"}
QUERY = "Where is the pump?"


@pytest.fixture(autouse=True)
def place(working_folder: Path) -> Path:
    """A working folder, below which checkpoints find their bases by relative names."""
    return working_folder


def make_document(*pages: str, name: str = "manual.pdf") -> Document:
    sections = tuple(Section(text, page) for page, text in enumerate(pages, start=1))
    return Document(name, "pdf", sections, "0" * 64, 100)


def set_up(family: str, network: str = "doc_to_lora", **changes: Any) -> Path:
    """Write a base and a checkpoint into the working folder; the checkpoint's path."""
    base = Path(tiny.base_name(family))
    if not base.exists():
        tiny.write_base(base, family)
    if network == "seats":
        return tiny.write_seats(Path("seats"))
    return tiny.write_doc_to_lora(Path(f"network-{family}"), family, **changes)


@dataclass(frozen=True)
class Written:
    """An adapter that was compiled and written: its plan, its folder, and its errors by module."""

    plan: pipeline.CompilePlan
    adapter: Path
    merge_error: dict[str, float]


def prepare(documents: Sequence[Document], options: CompileOptions) -> pipeline.CompilePlan:
    return Compiler(options).plan(Intake(tuple(documents)))


def compile_to(out: str, *documents: Document, **options: Any) -> Written:
    compiler = Compiler(CompileOptions(device="cpu", **({"dtype": "fp32"} | options)))
    plan = compiler.plan(documents)
    adapter = compiler(plan)
    assert adapter.provenance is not None
    return Written(plan, adapter.save_pretrained(out), adapter.provenance.merge_error)


def dense(weights: LoraWeights) -> dict[str, torch.Tensor]:
    """The delta of every module in float64."""
    return {n: weights.scale * f.b.double() @ f.a.double() for n, f in weights.factors.items()}


def largest_difference(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """Largest difference of two sets of deltas, relative to the largest value of the second."""
    assert left.keys() == right.keys()
    top = max(float(delta.abs().max()) for delta in right.values())
    return max(float((left[name] - right[name]).abs().max()) for name in left) / top


def load_causal(family: str) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        tiny.base_name(family), attn_implementation="eager", dtype=torch.float32
    ).eval()


@pytest.mark.parametrize("family", slow_after(2, *tiny.FAMILIES))
def test_every_family_gives_an_adapter_that_peft_computes_as_the_dense_delta(family: str) -> None:
    modules = {
        "down_proj": (tiny.INNER, tiny.HIDDEN),
        "v_proj": (tiny.HIDDEN, 32 if family == "gemma2" else 16),
    }
    checkpoint = set_up(
        family,
        target_modules=tuple(modules),
        d_in=tuple(size[0] for size in modules.values()),
        d_out=tuple(size[1] for size in modules.values()),
    )
    done = compile_to("a.lora", make_document(*PAGES), checkpoint=str(checkpoint))
    assert len(done.plan.chunks) > 1
    weights = read_adapter(done.adapter)
    assert {name.rsplit(".", 1)[1] for name in weights.factors} == set(modules)
    query = torch.tensor([tiny.encode(QUERY)])
    with torch.no_grad():
        alone = load_causal(family)(query).logits
        expected = tiny.add_delta(load_causal(family), weights)(query).logits
        with warnings.catch_warnings():
            # PEFT still asks by the old name of what transformers 5 has renamed.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
            tuned = peft.PeftModel.from_pretrained(load_causal(family), "a.lora").eval()
        got = tuned(query).logits
    assert (got - expected).abs().max() < 1e-4 * alone.abs().max()  # fp32, another order of sums
    assert (got - alone).abs().max() > 1e-2 * alone.abs().max()  # the adapter does something


def test_concat_is_the_sum_and_average_the_mean_of_the_documents_deltas() -> None:
    checkpoint = str(set_up("llama", use_bias=False))
    documents = [make_document(page, name=f"{n}.txt") for n, page in enumerate(PAGES)]
    adapters = [compile_to(f"{n}.lora", d, checkpoint=checkpoint) for n, d in enumerate(documents)]
    alone = [dense(read_adapter(done.adapter)) for done in adapters]
    summed = {name: sum(delta[name] for delta in alone) for name in alone[0]}
    mean = {name: delta / len(alone) for name, delta in summed.items()}
    for method, expected in (("concat", summed), ("average", mean)):
        done = compile_to(f"{method}.lora", *documents, checkpoint=checkpoint, merge=method)
        assert largest_difference(dense(read_adapter(done.adapter)), expected) < 1e-6


def test_max_rank_keeps_the_largest_part_and_reports_what_it_cut_off() -> None:
    checkpoint = str(set_up("llama"))
    document = make_document(*PAGES)
    wide = compile_to("wide.lora", document, checkpoint=checkpoint)
    full = dense(read_adapter(wide.adapter))
    done = compile_to("narrow.lora", document, checkpoint=checkpoint, max_rank=3)
    narrow = dense(read_adapter(done.adapter))
    assert read_adapter(done.adapter).rank == 3
    stored = json.loads(Path("narrow.lora/d2l.json").read_text())["merge_error"]
    for name, delta in full.items():
        tail = torch.linalg.svdvals(delta)[3:]
        best = float(tail.norm() / delta.norm())  # Eckart and Young
        assert done.merge_error[name] == pytest.approx(best, rel=1e-3)
        assert stored[name] == pytest.approx(best, rel=1e-3)
        assert float((narrow[name] - delta).norm() / delta.norm()) == pytest.approx(best, rel=1e-3)
    exact = compile_to("exact.lora", document, checkpoint=checkpoint, max_rank=wide.plan.rank)
    assert exact.merge_error == {}
    assert largest_difference(dense(read_adapter(exact.adapter)), full) < 1e-12


def test_fewer_tokens_per_seat_give_a_document_more_seats() -> None:
    checkpoint = str(set_up("llama", "seats"))
    config = tiny.make_seats_config()
    document = make_document(*PAGES[:2])

    def plan_with(tokens_per_seat: int | None) -> pipeline.CompilePlan:
        options = CompileOptions(checkpoint=checkpoint, tokens_per_seat=tokens_per_seat)
        return prepare([document], options)

    n_tokens = plan_with(None).n_tokens - len(plan_with(None).chunks) * len(config.read_opening)
    for wanted in (config.tokens_per_seat, 2, 1):
        seats = min(max(math.ceil(n_tokens / wanted), config.min_seats), config.max_seats)
        assert plan_with(wanted).rank == seats
    assert plan_with(None).rank == plan_with(config.tokens_per_seat).rank < plan_with(2).rank
    assert plan_with(1).warnings == plan_with(None).warnings  # what the network holds is the same
    public = CompileOptions(checkpoint=str(set_up("llama")), tokens_per_seat=4)
    with pytest.raises(OptionError, match="is no seat network"):
        prepare([document], public)


def test_a_base_of_another_size_is_refused_before_any_weights_are_read() -> None:
    checkpoint = set_up("llama", d_in=(tiny.INNER + 2,))
    (Path(tiny.base_name("llama")) / "model.safetensors").unlink()
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(BaseModelError) as refused:
        prepare([make_document(*PAGES)], CompileOptions(checkpoint=str(checkpoint)))
    assert refused.value.message == (
        "tiny-org/llama-tiny: down_proj is 64 → 32, the checkpoint is for 66 → 32"
    )
    assert refused.value.hint == "the checkpoint needs tiny-org/llama-tiny"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (EARLY_EXIT | {"encoder_layer": 9}, "has 3 layers, the checkpoint reads 9"),
        ({"feature_size": 48}, "hidden states are 32 wide, the checkpoint reads 48"),
    ],
)
def test_an_encoder_needs_what_the_network_reads(changes: dict[str, Any], message: str) -> None:
    options = CompileOptions(checkpoint=str(set_up("llama", **changes)))
    with pytest.raises(BaseModelError) as refused:
        prepare([make_document(*PAGES)], options)
    assert refused.value.message == f"tiny-org/llama-tiny: {message}"
    assert refused.value.hint == "the checkpoint reads documents with tiny-org/llama-tiny"


def test_another_encoder_than_the_base_reads_the_document() -> None:
    tiny.write_base(Path("reader"), "qwen3")
    done = compile_to(
        "a.lora", make_document(*PAGES), checkpoint=str(set_up("mistral", encoder="reader"))
    )
    before, after = done.plan.network.reader.family.document_template.before, "<|im_end|>"  # Qwen's
    first = done.plan.chunks[0].token_ids
    assert list(first[: len(tiny.encode(before))]) == tiny.encode(before)
    assert tiny.encode(after)[0] in done.plan.chunks[-1].token_ids
    assert read_adapter(done.adapter).base == "tiny-org/mistral-tiny"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_rank": 0}, OptionError, "--max-rank is not from 1 to"),
        ({"max_rank": 10**30}, OptionError, "--max-rank is not from 1 to"),
        ({"max_rank": 10**5000}, OptionError, "--max-rank is not from 1 to"),
        ({"base": "nowhere"}, BaseModelError, "base model 'nowhere' not found"),
    ],
)
def test_impossible_plans_are_refused(
    options: dict[str, Any], error: type[D2LError], message: str
) -> None:
    checkpoint = str(set_up("llama", "seats"))
    values = {"checkpoint": checkpoint, "offline": True} | options
    with pytest.raises(error, match=message):
        prepare([make_document(*PAGES)], CompileOptions(**values))


@pytest.mark.parametrize("text", ["", " \n "])
def test_a_document_without_any_token_is_refused(text: str) -> None:
    checkpoint = str(set_up("llama", "seats"))
    documents = [make_document(*PAGES), make_document(text, name="empty.txt")]
    with pytest.raises(DocumentError) as refused:
        prepare(documents, CompileOptions(checkpoint=checkpoint))
    assert refused.value.message == "empty.txt: no text that the base's tokenizer knows"


def test_only_the_layers_that_are_read_are_loaded() -> None:
    """The base of an early-exit network may lack everything above the layer it reads."""
    checkpoint = set_up("llama", encoder_type="early_exit", encoder_layer=1)
    base = Path(tiny.base_name("llama"))
    tensors = load_file(base / "model.safetensors")
    kept = {n: t for n, t in tensors.items() if ".layers.1." not in n and ".layers.2." not in n}
    kept.pop("lm_head.weight", None)
    assert len(kept) < len(tensors)
    save_file(kept, base / "model.safetensors", {"format": "pt"})
    done = compile_to("a.lora", make_document(*PAGES), checkpoint=str(checkpoint))
    assert done.adapter.is_dir()
