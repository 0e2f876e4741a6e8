"""`d2l.Adapter`: in memory is what would be in its folder, for PEFT, for edits and on the hub."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

import d2l
from d2l.adapters.info import LOCK
from d2l.adapters.weights import LoraFactors
from d2l.errors import AdapterError, OptionError
from tests import tiny
from tests.change.test_merge import PAGES, compile_roomy, make_note
from tests.compiled import PEFT_DEPRECATION, Compile, family_of, read_files
from tests.files.hub_server import COMMIT, REPO, Hub, serve_hub
from tests.task_adapters import make_factors, write_task

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(PEFT_DEPRECATION)]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([tiny.encode("The pump stands in the harbor.")])).logits


# ---- folders ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_a_folder_that_is_read_and_written_has_the_same_bytes(
    kind: str, compiled: Compile, tmp_path: Path
) -> None:
    done = compiled(kind)
    adapter = d2l.Adapter.from_pretrained(done.adapter)
    again = adapter.save_pretrained(tmp_path / done.adapter.name)
    written = read_files(done.adapter)
    del written[LOCK]  # which holds for what was compiled, and not for copies of it
    assert read_files(again) == written
    with pytest.raises(AdapterError, match="exists already"):
        adapter.save_pretrained(again)
    moved = (adapter.save_pretrained(tmp_path / "other.lora") / "README.md").read_text("utf-8")
    assert moved == (done.adapter / "README.md").read_text("utf-8")  # it names no folder


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_another_precision_is_as_if_it_had_been_compiled_so(
    kind: str, compiled: Compile, tmp_path: Path
) -> None:
    done = compiled(kind)  # in fp32
    compiler = d2l.Compiler(done.plan.options)
    wanted = compiler(done.plan.documents, dtype="bf16").save_pretrained(tmp_path / "a" / "x.lora")
    got = compiler(done.plan).save_pretrained(tmp_path / "b" / "x.lora", dtype="bf16")
    assert read_files(got) == read_files(wanted)
    with pytest.raises(OptionError, match="unknown precision 'int4'"):
        compiler(done.plan).save_pretrained(tmp_path / "c", dtype="int4")
    assert not (tmp_path / "c").exists()


def test_an_adapter_of_another_tool_has_no_provenance_and_gets_none(tmp_path: Path) -> None:
    config = {"use_rslora": True, "lora_alpha": 5}
    task = write_task(tmp_path / "task", make_factors("llama", rank=6), base="b", config=config)
    adapter = d2l.Adapter.from_pretrained(task)
    assert adapter.provenance is None
    out = adapter.save_pretrained(tmp_path / "out")
    assert not (out / "d2l.json").exists()
    before, after = (
        peft.PeftModel.from_pretrained(tiny.make_causal("llama"), folder) for folder in (task, out)
    )
    torch.testing.assert_close(logits(after), logits(before), atol=1e-4, rtol=1e-4)


def test_nothing_of_it_can_be_set_and_little_is_printed(compiled: Compile) -> None:
    adapter = d2l.Adapter.from_pretrained(compiled("seats").adapter)
    with pytest.raises(FrozenInstanceError):
        adapter.name = "other"  # type: ignore[misc]
    assert len(repr(adapter)) < 200
    assert "tensor" not in repr(adapter)
    assert adapter.config["r"] == adapter.config["lora_alpha"] == adapter.weights.rank
    assert adapter.opening == adapter.provenance.prompt.opening.text  # type: ignore[union-attr]


def test_plans_and_models_print_one_short_line(compiled: Compile, tmp_path: Path) -> None:
    done = compiled("seats")
    where = {"base": str(done.base), "device": "cpu"}
    for value in (
        done.plan,
        *done.plan.documents,
        d2l.plan_merge([done.adapter, done.adapter]),
        d2l.plan_edit(done.adapter, keep=[":#0"]),
        d2l.plan_export(done.adapter, tmp_path / "a.gguf", to="gguf", base=str(done.base)),
        d2l.AdaptedModel.from_pretrained(done.adapter, **where),
    ):
        printed = repr(value)
        assert "\n" not in printed
        assert len(printed) < 1_000 + 4 * len(str(tmp_path))
        assert "pump" not in printed  # nor the document's text
    n_chunks, rank = len(done.plan.chunks), done.plan.file_rank
    assert repr(done.plan).endswith(f" in {n_chunks} chunk{'s' * (n_chunks > 1)}, rank {rank})")
    assert len(repr(done.plan)) < 300


@pytest.mark.parametrize(
    "call",
    [
        lambda adapter, **wrong: d2l.merge([adapter, adapter], **wrong),
        lambda adapter, **wrong: d2l.edit(adapter, keep=[":#0"], **wrong),
        lambda adapter, **wrong: d2l.export(adapter, "a.gguf", to="gguf", **wrong),
        lambda adapter, **wrong: d2l.plan_export(adapter, "a.gguf", to="gguf", **wrong),
        lambda adapter, **wrong: adapter.push_to_hub("org/name", **wrong),
    ],
)
def test_a_keyword_that_is_none_is_a_type_error(
    call: Callable[..., object], compiled: Compile, working_folder: Path
) -> None:
    adapter = d2l.Adapter.from_pretrained(compiled("seats").adapter)
    with pytest.raises(TypeError, match=r"unexpected keyword 'maxrank'; .*keywords are "):
        call(adapter, maxrank=8)
    assert list(working_folder.iterdir()) == []


# ---- on a model ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", [*tiny.FAMILIES, "seats"])
def test_applying_is_what_peft_makes_of_the_folder_and_no_file_is_written(
    kind: str, dtype: str, compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = compiled(kind)
    adapter = d2l.Compiler(done.plan.options)(done.plan.documents, dtype=dtype)
    folder = adapter.save_pretrained(tmp_path / "a.lora")
    expected = peft.PeftModel.from_pretrained(tiny.make_causal(family_of(kind)), folder)
    monkeypatch.setattr("tempfile.mkdtemp", lambda *_, **__: pytest.fail("a folder was made"))
    monkeypatch.setattr("builtins.open", lambda *_, **__: pytest.fail("a file was opened"))
    model = adapter.apply_to(tiny.make_causal(family_of(kind)))
    monkeypatch.undo()
    assert isinstance(model, peft.PeftModel)
    assert torch.equal(logits(model), logits(expected))
    assert not torch.equal(logits(model), logits(tiny.make_causal(family_of(kind))))
    states = [one.state_dict() for one in (model, expected)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert {t.dtype for key, t in states[0].items() if "lora" in key} == {torch.float32}
    assert model.peft_config["default"].to_dict() == expected.peft_config["default"].to_dict()
    assert not any(weight.requires_grad for weight in model.parameters())
    assert not model.training


def test_two_adapters_on_one_model_are_switched_by_name(compiled: Compile, tmp_path: Path) -> None:
    first = d2l.Adapter.from_pretrained(compiled("llama").adapter)
    task = write_task(tmp_path / "task", make_factors("llama"), base=tiny.base_name("llama"))
    second = d2l.Adapter.from_pretrained(task)
    alone = {a.name: logits(a.apply_to(tiny.make_causal("llama"))) for a in (first, second)}
    model = first.apply_to(tiny.make_causal("llama"))
    assert second.apply_to(model, adapter_name="task") is model
    assert torch.equal(logits(model), alone[second.name])
    model.set_adapter("default")
    assert torch.equal(logits(model), alone[first.name])
    with pytest.raises(AdapterError, match="has an adapter called 'task' already"):
        second.apply_to(model, adapter_name="task")


def test_a_model_that_does_not_fit_is_refused_and_stays_as_it_was(compiled: Compile) -> None:
    adapter = d2l.Adapter.from_pretrained(compiled("llama").adapter)
    model = tiny.make_causal("llama")
    before, weights = logits(model), adapter.weights
    name, factors = next(iter(weights.factors.items()))
    short = LoraFactors(factors.a[:, 1:], factors.b)
    for factor, module, message in (
        (short, name, r"the base has 32 × 64"),
        (factors, "model.layers.9.mlp.down_proj", "the base has no such module"),
    ):
        other = replace(adapter, weights=replace(weights, factors={module: factor}))
        with pytest.raises(AdapterError, match=message):
            other.apply_to(model)
    assert torch.equal(logits(model), before)


# ---- new ones of it -----------------------------------------------------------------------------


def test_editing_in_memory_is_editing_the_folder(tmp_path: Path) -> None:
    for kind in ("llama", "seats"):
        root = tmp_path / kind
        notes = [make_note(page, f"{n}.txt") for n, page in enumerate(PAGES)]
        done = compile_roomy(root, kind, *notes)
        where: Any = {"checkpoint": str(done.checkpoint), "base": str(done.base), "device": "cpu"}
        adapter = d2l.Adapter.from_pretrained(done.adapter)
        before = adapter.to_state_dict()
        wanted = d2l.edit(done.adapter, drop=["1.txt"], **where)
        got = d2l.edit(adapter, drop=["1.txt"], **where)
        assert got.weights.rank == wanted.weights.rank
        for name, tensor in wanted.to_state_dict().items():
            torch.testing.assert_close(got.to_state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
        kept = d2l.edit(adapter, keep=["0.txt"], **where).provenance
        assert kept is not None
        assert [chunk.document for chunk in kept.chunks] == ["0.txt"]
        assert all(torch.equal(before[n], t) for n, t in adapter.to_state_dict().items())


def test_merging_in_memory_is_merging_the_folders_byte_for_byte(tmp_path: Path) -> None:
    for kind in ("llama", "seats"):
        done = compile_roomy(tmp_path / kind, kind, make_note(PAGES[0], "0.txt"))
        where: Any = {"checkpoint": str(done.checkpoint), "base": str(done.base), "device": "cpu"}
        in_memory = d2l.Adapter.from_pretrained(done.adapter)
        plan = d2l.plan_merge([in_memory, done.adapter], weights=[1, 0.5])
        mixed = d2l.merge(plan, **where)
        folders = d2l.merge([done.adapter, done.adapter], weights=[1, 0.5], **where)
        assert plan.rank == mixed.weights.rank
        written = [
            adapter.save_pretrained(tmp_path / kind / name / "both.lora")
            for name, adapter in (("mixed", mixed), ("folders", folders))
        ]
        assert read_files(written[0]) == read_files(written[1])


def test_plans_read_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = [make_note(page, f"{n}.txt") for n, page in enumerate(PAGES)]
    done = compile_roomy(tmp_path, "seats", *notes)
    monkeypatch.setattr(
        "d2l.adapters.peft_folder.read_tensors", lambda *_, **__: pytest.fail("weights were read")
    )
    plan = d2l.plan_edit(done.adapter, drop=["1.txt"])
    assert (plan.left_out, plan.stays) == (("1.txt: p. 1",), (0,))
    assert plan.rank == done.plan.chunks[0].rank
    assert d2l.plan_merge([done.adapter], weights=[2]).rank == done.plan.file_rank
    with pytest.raises(AdapterError, match="no such document"):
        d2l.plan_edit(done.adapter, drop=["2.txt"])


def test_exporting_from_memory_is_exporting_the_folder(
    compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = compiled("seats")
    monkeypatch.chdir(done.root)
    adapter = d2l.Adapter.from_pretrained(done.adapter.name)
    results = []
    for name, source in (("memory", adapter), ("folder", done.adapter.name)):
        out = tmp_path / name / "mlx"
        results.append(d2l.export(source, out, to="mlx", base=str(done.base)))
    assert read_files(results[0].path) == read_files(results[1].path)
    assert results[0].load.replace("/memory/", "/folder/") == results[1].load


# ---- the hub ------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_hub({}, tmp_path / "hub", monkeypatch) as server:
        yield server


def test_pushing_uploads_the_folder_named_by_its_repository(
    hub: Hub, compiled: Compile, tmp_path: Path
) -> None:
    adapter = d2l.Adapter.from_pretrained(compiled("seats").adapter)
    address = adapter.push_to_hub(REPO, private=True, token="hf_x", commit_message="A manual")
    assert address.endswith(f"/{REPO}/commit/{COMMIT}")
    made, header, *files = hub.pushed
    wanted = made["create"]  # versions of the client differ in how they say that it is private
    assert (wanted["organization"], wanted["name"]) == ("org", "repo")
    assert wanted.get("visibility") == "private" or wanted.get("private") is True
    assert header["value"]["summary"] == "A manual"
    pushed = {file["value"]["path"]: base64.b64decode(file["value"]["content"]) for file in files}
    written = read_files(adapter.save_pretrained(tmp_path / "a.lora"))
    card = written.pop("README.md").decode().replace('adapter = "."', f'adapter = "{REPO}"')
    assert pushed.pop("README.md").decode() == card
    assert pushed == written
    hub.files = {**pushed, "README.md": b"# Card\n"}
    again = d2l.Adapter.from_pretrained(REPO)
    assert again.provenance == adapter.provenance
    got, expected = again.to_state_dict(), adapter.to_state_dict()
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())
    assert json.loads(pushed["adapter_config.json"]) == again.config


def test_what_the_hub_refuses_is_one_line(hub: Hub, compiled: Compile) -> None:
    adapter = d2l.Adapter.from_pretrained(compiled("llama").adapter)
    hub.push_error = 403
    with pytest.raises(AdapterError) as refused:
        adapter.push_to_hub(REPO, token="hf_x")
    assert refused.value.message == f"{REPO}: the hub does not let you write there"
    assert "hf auth login" in str(refused.value.hint)
    hub.broken = "drop"
    hub.push_error = 500
    with pytest.raises(AdapterError, match="the hub cannot be reached"):
        adapter.push_to_hub(REPO, token="hf_x")


def test_a_name_that_leads_nowhere_is_told_with_its_form(compiled: Compile, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no such adapter folder"):
        d2l.Adapter.from_pretrained(tmp_path / "none")
    with pytest.raises(AdapterError, match="the hub was not asked"):
        d2l.Adapter.from_pretrained("me/none", local_files_only=True)
    with pytest.raises(AdapterError, match="has no revisions"):
        d2l.Adapter.from_pretrained(compiled("llama").adapter, revision="v1")
