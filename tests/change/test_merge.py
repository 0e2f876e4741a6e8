"""`merge`: dense arithmetic for LoRA, and for seats what compiling the documents together gives."""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from d2l.adapters.peft_folder import read_adapter, read_memory
from d2l.adapters.provenance import Provenance
from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.api.adapter import Adapter
from d2l.change import edit as editing
from d2l.change.merge import run
from d2l.change.merge_plan import prepare
from d2l.change.parents import ChangeOptions
from d2l.documents.document import Document
from d2l.errors import CheckpointError, D2LError, MergeError
from d2l.readers.parsing import Section
from d2l.runtimes.check import CheckOptions, check
from tests import tiny
from tests.compiled import Compiled, compile_tiny, make_dense, read_files, write_prompt
from tests.task_adapters import make_factors, write_task

pytestmark = pytest.mark.usefixtures("one_thread")
PAGES = ("The pump stands in the harbor.", "Open the copper valve below 3 bar.")
OFFLINE = ChangeOptions(device="cpu", offline=True)


def merge(
    folders: list[Path], out: Path, *, options: ChangeOptions, force: bool = False, **wishes: Any
) -> Provenance:
    """Merge folders and write the new one; what its d2l.json says."""
    plan = prepare(folders, checkpoint=options.checkpoint, offline=options.offline, **wishes)
    made = Adapter.of(run(plan, options))
    made.save_pretrained(out, force=force)
    assert made.provenance is not None
    return made.provenance


def dense(adapter: Path) -> dict[str, torch.Tensor]:
    weights = read_adapter(adapter)
    return {n: weights.scale * (f.b.double() @ f.a.double()) for n, f in weights.factors.items()}


def worst(got: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> float:
    """Largest difference, relative to the largest value; what one lacks must be nought there."""
    names = {*got, *expected}
    zero = torch.zeros(1).double()
    largest = max(float(delta.abs().max()) for delta in expected.values())
    gaps = [float((got.get(n, zero) - expected.get(n, zero)).abs().max()) for n in names]
    return max(gaps) / largest


def make_note(text: str, name: str) -> Document:
    return Document(name, "text", (Section(text, page=1),), "0" * 64, len(text))


def options_for(done: Compiled, **changes: Any) -> ChangeOptions:
    values = {"checkpoint": str(done.checkpoint), "base": str(done.base), "device": "cpu"}
    return ChangeOptions(**(values | {"offline": True} | changes))


def compile_roomy(root: Path, kind: str, *documents: Document, **changes: Any) -> Compiled:
    """Compile with a checkpoint that has seats for several documents."""
    if kind == "seats" and not (root / "checkpoint").exists():
        tiny.write_seats(root / "checkpoint", repeats=3)
    return compile_tiny(root, kind, *documents, **changes)


def compile_apart(root: Path, kind: str, *, dtype: str = "fp32") -> tuple[Compiled, list[Path]]:
    """Each page compiled alone; (one of the runs, the adapters)."""
    adapters = []
    for n, page in enumerate(PAGES):
        done = compile_roomy(root, kind, make_note(page, f"{n}.txt"), dtype=dtype)
        adapters.append(done.adapter.rename(root / f"{n}.lora"))
    return done, adapters


# ---- LoRA ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "weights", "factors"),
    [
        ("concat", None, (1.0, 1.0)),
        ("concat", (1.0, 0.5), (1.0, 0.5)),
        ("concat", (0.3, -1.7), (0.3, -1.7)),
        ("average", None, (0.5, 0.5)),
        ("average", (3.0, 1.0), (0.75, 0.25)),
    ],
)
def test_the_delta_is_the_weighted_sum_of_different_modules_and_ranks(
    method: str,
    weights: tuple[float, float] | None,
    factors: tuple[float, float],
    tmp_path: Path,
) -> None:
    one = write_task(tmp_path / "one", make_factors("llama", rank=4), base="b")
    other = write_task(
        tmp_path / "other",
        make_factors("llama", ("k_proj", "v_proj", "down_proj"), rank=6, seed=3, layers=(1, 2)),
        base="b",
        config={"use_rslora": True, "lora_alpha": 5},
    )
    done = merge([one, other], tmp_path / "both", shares=weights, method=method, options=OFFLINE)
    expected: dict[str, torch.Tensor] = {}
    for folder, factor in zip((one, other), factors, strict=True):
        for name, delta in dense(folder).items():
            expected[name] = expected.get(name, 0.0) + factor * delta
    assert worst(dense(tmp_path / "both"), expected) < 1e-6
    assert (done.rank, done.merge_error) == (10, {})


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_peft_loads_the_result_and_misses_nothing(tmp_path: Path) -> None:
    one = write_task(tmp_path / "one", make_factors("llama"), base="b")
    two = write_task(tmp_path / "two", make_factors("llama", ("k_proj",), layers=(2,)), base="b")
    merge([one, two], tmp_path / "both", options=OFFLINE)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Found missing adapter keys")
        model = peft.PeftModel.from_pretrained(tiny.make_causal("llama"), tmp_path / "both")
    ids = torch.tensor([[1, 40, 50, 60]])
    with torch.no_grad():
        got, expected = model(ids).logits, make_dense("llama", tmp_path / "both")(ids).logits
    assert (got - expected).abs().max() < 1e-4


def test_documents_and_a_task_keep_the_provenance_of_both(tmp_path: Path) -> None:
    done, (first, second) = compile_apart(tmp_path, "llama")
    task = write_task(tmp_path / "task", make_factors("llama"), base=tiny.base_name("llama"))
    result = merge(
        [first, second, task], tmp_path / "all", shares=(1, 0.5, 2), options=options_for(done)
    )
    record = json.loads((tmp_path / "all" / "d2l.json").read_text())
    assert [parent["adapter"] for parent in record["parents"]] == ["0.lora", "1.lora", "task"]
    assert [chunk["document"] for chunk in record["chunks"]] == ["0.txt", "1.txt"]
    assert [row["name"] for row in record["inputs"]] == ["0.txt", "1.txt"]
    assert record["merge"]["weights"] == [1, 0.5, 2]
    # Each chunk's ranks hold its own share of the delta, at the strength that it was given.
    weights = read_adapter(tmp_path / "all")
    for n, (folder, factor) in enumerate(((first, 1.0), (second, 0.5))):
        start, stop = record["chunks"][n]["ranks"]
        old = json.loads((folder / "d2l.json").read_text())["chunks"][0]["ranks"]
        source = read_adapter(folder)
        for name, f in source.factors.items():
            expected = factor * (f.b[:, slice(*old)].double() @ f.a[slice(*old)].double())
            now = weights.factors[name]
            got = now.b[:, start:stop].double() @ now.a[start:stop].double()
            assert (got - expected).abs().max() < 1e-6
    assert "hold their network's learned" in result.warnings[0]
    report = check(tmp_path / "all", CheckOptions(("vllm",), base=str(done.base), offline=True))
    assert report.passes


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_precision_is_the_parents_where_that_is_exact(dtype: str, tmp_path: Path) -> None:
    done, folders = compile_apart(tmp_path, "llama", dtype=dtype)
    for shares, expected in (((1, 0.5), dtype), ((1, 0.3), "fp32")):
        out = tmp_path / f"{shares[1]}"
        merge(folders, out, shares=shares, options=options_for(done))
        (stored,) = {t.dtype for t in _tensors(out).values()}
        assert stored == {"bf16": torch.bfloat16, "fp32": torch.float32}[expected]
        wanted: dict[str, torch.Tensor] = {}
        for folder, share in zip(folders, shares, strict=True):
            for name, delta in dense(folder).items():
                wanted[name] = wanted.get(name, 0.0) + share * delta
        assert worst(dense(out), wanted) < 1e-6


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


# ---- seats --------------------------------------------------------------------------------------


def test_seats_are_seated_again_as_if_compiled_together(tmp_path: Path) -> None:
    done, folders = compile_apart(tmp_path, "seats")
    merge(folders, tmp_path / "merged", options=options_for(done))
    notes = [make_note(page, f"{n}.txt") for n, page in enumerate(PAGES)]
    together = compile_roomy(tmp_path, "seats", *notes)
    assert worst(dense(tmp_path / "merged"), dense(together.adapter)) < 1e-6
    for name in ("chat_template.jinja", "adapter_config.json", "tokenizer.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (together.adapter / name).read_bytes()
    both = [read_memory(folder) for folder in (tmp_path / "merged", together.adapter)]
    assert torch.equal(both[0].keys, both[1].keys)
    records = [
        json.loads((folder / "d2l.json").read_text())
        for folder in (tmp_path / "merged", together.adapter)
    ]
    for key in ("prompt", "rank", "base", "checkpoint", "inputs"):
        assert records[0][key] == records[1][key], key
    for key in ("document", "source", "ranks", "characters"):
        assert [c[key] for c in records[0]["chunks"]] == [c[key] for c in records[1]["chunks"]]
    added = {n: dense(folders[0])[n] for n in dense(folders[0])}
    assert worst(added, dense(together.adapter)) > 0.1  # adding up would be something else


@pytest.mark.usefixtures("whole_ranks")
def test_strengths_multiply_what_each_documents_seats_add(tmp_path: Path) -> None:
    done, folders = compile_apart(tmp_path, "seats")
    merge(folders, tmp_path / "even", options=options_for(done))
    merge(folders, tmp_path / "uneven", shares=(1, 0.25), options=options_for(done))
    even, uneven = (read_adapter(tmp_path / name) for name in ("even", "uneven"))
    spans = [c["ranks"] for c in json.loads((tmp_path / "even" / "d2l.json").read_text())["chunks"]]
    for name, f in even.factors.items():
        expected = f.b.clone()
        expected[:, slice(*spans[1])] *= 0.25
        assert torch.allclose(uneven.factors[name].b, expected, rtol=1e-6, atol=0)
        assert torch.equal(uneven.factors[name].a, f.a)
    # Merged once more, the strengths are still there.
    merge([tmp_path / "uneven"], tmp_path / "again", options=options_for(done))
    assert worst(dense(tmp_path / "again"), dense(tmp_path / "uneven")) < 1e-6


def test_seats_with_a_task_are_a_mixture_that_is_warned_of(tmp_path: Path) -> None:
    done = compile_roomy(tmp_path, "seats", make_note(PAGES[0], "0.txt"))
    task = write_task(tmp_path / "task", make_factors("llama"), base=tiny.base_name("llama"))
    result = merge([done.adapter, task], tmp_path / "mixed.lora", options=options_for(done))
    assert "what comes back of the documents is not known" in result.warnings[0]
    expected = dense(done.adapter)
    for name, delta in dense(task).items():
        expected[name] = expected.get(name, 0.0) + delta
    assert worst(dense(tmp_path / "mixed.lora"), expected) < 1e-6
    # Probed: it still loads, its prompt begins with the opening, and it answers as the dense model.
    asker = AdaptedModel.load(
        tmp_path / "mixed.lora",
        AskOptions(base=str(done.base), device="cpu", max_new_tokens=8, offline=True),
    )
    ids = torch.tensor([asker.prompt("Where is the pump?")])
    with torch.no_grad():
        got = asker.model(ids).logits
        wanted = make_dense("seats", tmp_path / "mixed.lora")(ids).logits
    assert (got - wanted).abs().max() < 1e-3
    assert not (tmp_path / "mixed.lora" / "memory.safetensors").exists()
    assert len(asker.ask("Where is the pump?")) > 0
    assert write_prompt("?")  # the base's own prompt stays what it was


@pytest.mark.parametrize(
    ("prepared", "message"),
    [
        (lambda _: {"max_rank": 3}, "seats need rank .* and cannot be cut to 3"),
        (lambda _: {"shares": (1.0,)}, "2 adapters and 1 weights"),
        (lambda _: {"shares": (1.0, float("inf"))}, "not a finite number"),
        (lambda _: {"shares": (1.0, -1.0), "method": "average"}, "have no average"),
    ],
)
def test_what_cannot_be_done_to_seats_is_refused(
    prepared: Callable[[Path], dict[str, Any]], message: str, tmp_path: Path
) -> None:
    done, folders = compile_apart(tmp_path, "seats")
    with pytest.raises(MergeError, match=message):
        merge(folders, tmp_path / "out", options=options_for(done), **prepared(tmp_path))
    assert not (tmp_path / "out").exists()


def test_more_seats_than_an_opening_has_are_seated_with_fewer_and_said(tmp_path: Path) -> None:
    done, folders = compile_apart(tmp_path, "seats")
    copies = [folders[1].with_name(f"{n}.copy") for n in range(3)]
    for copy in copies:
        shutil.copytree(folders[1], copy)
    most = done.plan.config.max_seats
    before = [read_memory(folder).n_seats for folder in (*folders, *copies)]
    assert sum(before) > most
    result = merge([*folders, *copies], tmp_path / "out", options=options_for(done))
    assert result.seats == most
    assert result.rank == done.plan.config.find_rank(most)
    assert result.warnings[0].startswith(
        f"the adapters have {sum(before)} seats together, and an opening has at most {most}: "
    )
    record = json.loads((tmp_path / "out" / "d2l.json").read_text())
    assert record["warnings"] == list(result.warnings)
    spans = [chunk["ranks"] for chunk in record["chunks"]]
    assert spans[0][0] == 0
    assert spans[-1][1] == most
    assert all(left[1] == right[0] for left, right in pairwise(spans))
    # Every seat is one of its parent's, at its chunk's place, in every layer and head.
    memory, heads = read_memory(tmp_path / "out"), done.plan.config.kv_heads
    for (start, stop), folder in zip(spans, (*folders, *copies), strict=True):
        whole = read_memory(folder)
        assert stop - start < whole.n_seats
        for kept, had in ((memory.keys, whole.keys), (memory.values, whole.values)):
            own = kept[:, start:stop].unflatten(2, (heads, -1))
            old = had.unflatten(2, (heads, -1))
            same = (own[:, :, None] == old[:, None]).all(-1)  # (layers, new, old, heads)
            assert same.any(2).all()
    # Edited, it is the others' seats alone, each document's as they were.
    edits = editing.prepare(tmp_path / "out", drop=("0.txt",))
    left = editing.run(edits, options_for(done)).memory
    assert left is not None
    assert torch.equal(left.keys, memory.keys[:, spans[0][1] :])


def test_adapters_in_memory_get_fewer_seats_as_those_on_disk(tmp_path: Path) -> None:
    done, folders = compile_apart(tmp_path, "seats")
    wishes = {"checkpoint": str(done.checkpoint), "offline": True}
    held = [Adapter.from_pretrained(folder) for folder in folders * 3]
    plans = [prepare(adapters, **wishes) for adapters in (folders * 3, held)]
    assert plans[0].after == plans[1].after
    assert sum(plans[1].after) < sum(plans[1].before)
    options = options_for(done, checkpoint=None)  # the plan knows which network
    made = [Adapter.of(run(plan, options)) for plan in plans]
    assert made[0].weights.rank == plans[0].rank == made[1].weights.rank
    for name, f in made[0].weights.factors.items():
        assert torch.equal(f.b, made[1].weights.factors[name].b)


def test_strengths_stay_with_the_seats_that_are_kept(tmp_path: Path) -> None:
    done, folders = compile_apart(tmp_path, "seats")
    copies = [shutil.copytree(folder, folder.with_suffix(".copy")) for folder in folders]
    five = [*folders, *map(Path, copies), folders[0]]
    merge(five, tmp_path / "even", options=options_for(done))
    merge(five, tmp_path / "uneven", shares=(1, 1, 1, 1, 0.25), options=options_for(done))
    even, uneven = (read_adapter(tmp_path / name) for name in ("even", "uneven"))
    start, stop = json.loads((tmp_path / "even" / "d2l.json").read_text())["chunks"][-1]["ranks"]
    for name, f in even.factors.items():
        expected = f.b.clone()
        expected[:, start:stop] *= 0.25
        assert torch.allclose(uneven.factors[name].b, expected, rtol=1e-6, atol=0)


def test_seats_of_other_networks_are_refused(tmp_path: Path) -> None:
    done, folders = compile_apart(tmp_path, "seats")
    record = json.loads((folders[1] / "d2l.json").read_text())
    record["checkpoint"]["sha256"] = "0" * 64
    (folders[1] / "d2l.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="is not the checkpoint that"):
        merge([folders[1]], tmp_path / "out", options=options_for(done))


def test_the_same_merge_gives_the_same_bytes(tmp_path: Path) -> None:
    done, folders = compile_apart(tmp_path, "seats")
    merge(folders, tmp_path / "out", options=options_for(done))
    first = read_files(tmp_path / "out")
    merge(folders, tmp_path / "out", options=options_for(done), force=True)
    assert read_files(tmp_path / "out") == first
    with pytest.raises(D2LError, match="exists already"):
        merge(folders, tmp_path / "out", options=options_for(done))
