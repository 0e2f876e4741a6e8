"""`d2l.Compiler` and `d2l.TaskCompiler`: loaded once, planned without weights; and the verbs."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import d2l
from d2l.compiler import run as pipeline
from d2l.errors import BaseModelError, CheckpointError, DescriptionError, DocumentError, OptionError
from d2l.hypernets.registry import DEFAULT
from tests import tiny
from tests.compiled import Compiled, make_document, read_files, write_files

pytestmark = pytest.mark.usefixtures("one_thread")
TASK = "open the copper valve"


@pytest.fixture(autouse=True)
def place(working_folder: Path) -> Path:
    """A working folder with a base, a network of each kind that finds it there, and a note."""
    for kind in ("llama", "seats"):
        write_files(working_folder, "llama")
        folder = working_folder / "public" if kind == "llama" else working_folder / "seats"
        (tiny.write_doc_to_lora(folder, "llama") if kind == "llama" else tiny.write_seats(folder))
    tiny.write_text_to_lora(working_folder / "tasks", "llama", None)
    (working_folder / "note.txt").write_text(tiny.DOCUMENT, "utf-8")
    return working_folder


def test_one_line_writes_what_the_command_does(command: Callable[..., object]) -> None:
    command("compile", "note.txt", "-o", "a/note.lora", "--checkpoint", "public", "--max-rank", 3)
    adapter = d2l.compile("note.txt", checkpoint="public", max_rank=3)
    assert adapter.name == "note.lora"
    assert read_files(adapter.save_pretrained("b/note.lora")) == read_files(Path("a/note.lora"))


@pytest.mark.parametrize("checkpoint", ["public", "seats"])
def test_planning_reads_no_weights_and_compiling_reads_them_once(
    checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[int] = []
    load = pipeline.load
    monkeypatch.setattr(pipeline, "load", lambda *given: loads.append(1) or load(*given))
    monkeypatch.setattr("d2l.hypernets.network.load_frozen", counted := CountedLoad())
    compiler = d2l.Compiler.from_pretrained(checkpoint, device="cpu")
    plan = compiler.plan(["note.txt", d2l.Document.from_text("The pump is red.", name="red")])
    assert [document.name for document in plan.documents] == ["note.txt", "red"]
    assert (len(loads), counted.n) == (0, 0)
    first = compiler(plan)
    assert first.weights.rank == plan.file_rank
    again = compiler(Path("note.txt"), max_rank=plan.rank - 1)
    assert again.weights.rank <= plan.rank - 1
    assert (len(loads), counted.n) == (1, 1)


class CountedLoad:
    """`load_frozen`, which counts how often it is called."""

    def __init__(self) -> None:
        from d2l.bases.models import load_frozen

        self.n, self._load = 0, load_frozen

    def __call__(self, *arguments: object, **options: object) -> object:
        self.n += 1
        return self._load(*arguments, **options)  # type: ignore[arg-type]


def test_a_text_is_a_document_of_its_own_name() -> None:
    document = d2l.Document.from_text("The pump is red.", name="a note")
    assert document.digest == hashlib.sha256(b"The pump is red.").hexdigest()
    adapter = d2l.compile(document, checkpoint="public")
    assert adapter.provenance is not None
    (row,) = adapter.provenance.inputs
    assert (row.name, row.format, row.size_bytes) == ("a note", "text", 16)
    assert adapter.name == "a note.lora"


def test_a_plan_is_for_its_own_compiler_and_has_its_options() -> None:
    public, seats = (d2l.Compiler.from_pretrained(name) for name in ("public", "seats"))
    plan = seats.plan("note.txt")
    with pytest.raises(OptionError, match="the plan is for seats, and this compiler has public"):
        public(plan)
    with pytest.raises(OptionError, match="a plan has its options already"):
        seats(plan, max_rank=3)
    assert plan.options.device in ("cpu", "cuda", "mps")


def test_what_cannot_be_is_told_by_the_first_call_that_can_know() -> None:
    with pytest.raises(CheckpointError, match="checkpoint 'nope' not found"):
        d2l.Compiler.from_pretrained("nope")
    with pytest.raises(CheckpointError, match="is a text_to_lora network"):
        d2l.Compiler.from_pretrained("tasks")
    with pytest.raises(CheckpointError, match="has no revisions"):
        d2l.Compiler.from_pretrained("seats", revision="v1")
    with pytest.raises(CheckpointError, match=f"{DEFAULT}: is no name on the hub"):
        d2l.Compiler.from_pretrained(revision="v1")
    with pytest.raises(CheckpointError, match="org/repo: not on disk"):
        d2l.Compiler.from_pretrained("org/repo", revision="v1", local_files_only=True)
    with pytest.raises(BaseModelError, match="unknown device 'warp'"):
        d2l.Compiler.from_pretrained("seats", device="warp")
    with pytest.raises(CheckpointError, match="is a seats network, which reads documents"):
        d2l.TaskCompiler.from_pretrained("seats")
    with pytest.raises(OptionError, match="unknown base_dtype 'int4'"):
        d2l.Compiler.from_pretrained("seats", dtype="int4")
    compiler = d2l.Compiler.from_pretrained("seats", device="cpu")
    with pytest.raises(DocumentError, match=r"none.txt: no such file"):
        compiler.plan("none.txt")
    with pytest.raises(DocumentError):
        compiler.plan([])
    with pytest.raises(OptionError, match="unknown dtype 'int4'"):
        compiler.plan("note.txt", dtype="int4")


@pytest.mark.parametrize("checkpoint", ["public", "seats"])
def test_the_base_runs_in_the_precision_asked_for(checkpoint: str) -> None:
    made = (d2l.Compiler.from_pretrained(checkpoint, device="cpu", dtype=d) for d in (None, "bf16"))
    full, half = (compiler("note.txt") for compiler in made)
    deltas = [{name: f.b @ f.a for name, f in one.weights.factors.items()} for one in (full, half)]
    gaps = [float((delta - deltas[1][name]).abs().max()) for name, delta in deltas[0].items()]
    assert max(gaps) > 0
    for adapter, dtype in ((full, "fp32"), (half, "bf16")):
        assert adapter.provenance is not None
        assert adapter.provenance.options.base_dtype == dtype
        assert adapter.lock is not None
        assert adapter.lock["base_dtype"] == dtype


def test_reading_options_reach_the_readers(place: Path) -> None:
    (place / "bad.pdf").write_bytes(b"no pdf")
    reading = d2l.ReadOptions(skip_bad=True)
    plan = d2l.Compiler.from_pretrained("seats").plan(["note.txt", "bad.pdf"], reading=reading)
    assert [name for name, _ in plan.intake.skipped] == ["bad.pdf"]
    as_text = d2l.ReadOptions(format="text")
    inputs = [make_document(), "note.txt", Path("bad.pdf")]
    mixed = d2l.Compiler.from_pretrained("seats").plan(inputs, reading=as_text)
    names = [document.name for document in mixed.documents]
    assert names == ["handbook.txt", "note.txt", "bad.pdf"]


# ---- tasks --------------------------------------------------------------------------------------


def test_descriptions_are_planned_made_and_loaded_for_once(
    command: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    command.t2l("make", TASK, "-o", "a/task.lora", "--checkpoint", "tasks")  # type: ignore[attr-defined]
    loads: list[int] = []
    load = pipeline.load
    monkeypatch.setattr(pipeline, "load", lambda *given: loads.append(1) or load(*given))
    make = d2l.TaskCompiler.from_pretrained("tasks")
    plan = make.plan(TASK)
    scale, _ = plan.network.explain_scale(plan.task.scaling)
    assert (plan.documents[0].text, scale, loads) == (TASK, 2.0, [])
    adapter = make(plan)
    assert read_files(adapter.save_pretrained("b/task.lora")) == read_files(Path("a/task.lora"))
    other = make("close it", scaling="config", dtype="fp32")
    assert (len(loads), other.dtype) == (1, "fp32")
    assert other.provenance is not None
    assert other.provenance.options.scaling == "config"
    with pytest.raises(DescriptionError, match="the description is empty"):
        make(" ")
    with pytest.raises(OptionError, match="unknown scaling 'odd'"):
        make.plan(TASK, scaling="odd")


# ---- asking -------------------------------------------------------------------------------------


def test_an_adapter_in_memory_is_asked_like_its_folder(compiled: Callable[[str], Compiled]) -> None:
    done, other = compiled("seats"), compiled("llama")
    adapter = d2l.Compiler(done.plan.options)(done.plan)
    question = "Where is the pump?"
    model = d2l.AdaptedModel.from_pretrained(adapter, base=str(done.base), device="cpu")
    folder = d2l.AdaptedModel.from_pretrained(done.adapter, base=str(done.base), device="cpu")
    answer = folder.ask(question, max_new_tokens=8)
    assert model.ask(question, max_new_tokens=8) == answer
    with model.disable_adapter():
        alone = model.ask(question, max_new_tokens=8)
    assert alone == folder.ask_alone(question)[: len(alone)]
    assert model.ask(question, max_new_tokens=8) == answer
    model.set_adapter(d2l.Adapter.from_pretrained(other.adapter))
    expected = d2l.AdaptedModel.from_pretrained(other.adapter, base=str(done.base), device="cpu")
    assert model.ask(question, max_new_tokens=8) == expected.ask(question, max_new_tokens=8)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert model.ask(question, max_new_tokens=8, temperature=3.0) != answer


def test_the_base_of_an_adapter_is_loaded_for_peft(place: Path) -> None:
    adapter = d2l.compile("note.txt", checkpoint="seats", device="cpu")
    folder = adapter.save_pretrained("note.lora")
    (base,) = (path for path in place.rglob("config.json") if path.parent.name == "llama-tiny")
    names = (adapter, folder, "note.lora", base.parent)
    models = [d2l.load_base(name, device="cpu", local_files_only=True) for name in names]
    expected = tiny.make_causal("llama").state_dict()
    for model in models:
        assert all(torch.equal(expected[k], tensor) for k, tensor in model.state_dict().items())
        assert not any(weight.requires_grad for weight in model.parameters())
        assert model.dtype == torch.float32
    assert d2l.load_base(folder, device="cpu", dtype="bf16").dtype == torch.bfloat16
    with pytest.raises(d2l.D2LError, match="no such adapter"):
        d2l.load_base("none.lora")
    with pytest.raises(TypeError, match="dtypes"):
        d2l.load_base(folder, dtypes="bf16")  # type: ignore[call-arg]


def test_an_adapter_answers_and_loads_its_base_once(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = d2l.compile("note.txt", checkpoint="seats", device="cpu")
    question, asked = "Where is the pump?", d2l.AdaptedModel.from_pretrained(adapter)
    loads: list[object] = []
    monkeypatch.setattr(d2l.AdaptedModel, "from_pretrained", lambda it: loads.append(it) or asked)
    expected = asked.ask(question, max_new_tokens=8)
    assert [adapter.ask(question, max_new_tokens=8) for _ in range(2)] == [expected] * 2
    assert loads == [adapter]
