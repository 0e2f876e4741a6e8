"""Refining through the real pipeline: what is kept, what is said of it, and what it reads."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import d2l
from d2l.adapters.info import read_info
from d2l.adapters.peft_folder import read_adapter, read_memory
from d2l.adapters.weights import Memory
from d2l.change.edit import prepare as prepare_edit
from d2l.change.merge import run as run_merge
from d2l.change.merge_plan import prepare as prepare_merge
from d2l.change.parents import Parent, read_parent
from d2l.documents.document import Document
from d2l.errors import AdapterError, OptionError
from d2l.questions.about import Effort
from d2l.questions.marks import AboutText
from d2l.readers.parsing import Section
from d2l.refining import teacher
from d2l.refining.adapters import refine_adapter
from d2l.refining.drills import name_reason, sentences_of
from d2l.refining.options import RefineOptions
from d2l.refining.subjects import MovableLora, MovableSeats
from d2l.training.learners.document_data import Asked, Exercise
from tests.change.test_merge import options_for
from tests.compiled import Compiled, compile_tiny, make_document, read_files
from tests.slow import slow_after

pytestmark = pytest.mark.usefixtures("one_thread", "cache")
STEPS = RefineOptions(steps=12)


@pytest.fixture(autouse=True)
def same_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine: in bf16, whose sums differ from one to another, a few steps of so small
    a model may gain less than it can tell."""
    monkeypatch.setattr("d2l.refining.refine.pick_precision", lambda _: torch.float32)


def refine(done: Compiled, out: Path, options: RefineOptions = STEPS, **changes: Any) -> Path:
    made = refine_adapter(
        changes.pop("parent", None) or read_parent(done.adapter),
        changes.pop("documents", [make_document()]),
        options,
        options_for(done),
    )
    return d2l.Adapter.of(made).save_pretrained(out)


def read_record(folder: Path) -> dict[str, Any]:
    values = json.loads((folder / "d2l.json").read_text("utf-8"))
    assert isinstance(values, dict)
    return values


@pytest.mark.parametrize("kind", slow_after(2, "seats", "mistral", "gemma2"))
def test_an_adapter_is_refined_and_says_so(kind: str, tmp_path: Path) -> None:
    done = compile_tiny(tmp_path, kind)
    out = refine(done, tmp_path / "better.lora")
    before, after = read_record(done.adapter), read_record(out)
    said = after["refinement"]
    assert 0 < said["kept"] <= said["steps"] <= 12
    assert said["recall"][1] < said["recall"][0]  # random weights learn fast
    assert (said["sentences"], said["questions"], said["seed"]) == (5, 0, 0)
    assert said["documents"] == ["0" * 64]
    assert [chunk.get("ranks") for chunk in after["chunks"]] == [None] * len(before["chunks"])
    for key in ("inputs", "prompt", "rank", "base", "checkpoint", "options"):
        assert after[key] == before[key]
    old, new = read_adapter(done.adapter).factors, read_adapter(out).factors
    assert {name: f.b.shape for name, f in old.items()} == {n: f.b.shape for n, f in new.items()}
    assert any(not torch.allclose(f.b @ f.a, new[n].b @ new[n].a) for n, f in old.items())
    assert "- Refined: " in (out / "README.md").read_text("utf-8")
    assert read_info(out).provenance is not None


def write_some(text: str) -> list[AboutText]:
    """Two words of every sentence are asked for, as a writer would."""
    return [
        AboutText(0, one.start, one.start + 1, f"What is {word} {one.start}?", word)
        for one in sentences_of([text])
        for word in one.text.split()[1:3]
    ]


@pytest.mark.parametrize("kind", ["seats", "mistral"])
def test_a_writers_questions_are_drilled_and_said(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A memory learns them from a teacher, whatever the base answers; A and B learn the answers of
    the questions that the base can answer."""
    done = compile_tiny(tmp_path, kind)
    document = make_document()
    about, efforts = write_some(document.text), list[Effort]()

    def write(*_: object, effort: Effort, **__: object) -> list[AboutText]:
        efforts.append(effort)
        return about

    monkeypatch.setattr("d2l.refining.refine.write_about", write)
    drilled = spy_on_drills(monkeypatch)
    out = refine(done, tmp_path / "better.lora", documents=[document])
    said = read_record(out)["refinement"]
    assert said["questions"] == len(about) == 10
    assert said["drilled"][1] < said["drilled"][0]
    taught, asked = kind == "seats", {question for question, _ in drilled}
    assert said.get("taught") == (True if taught else None)
    assert [effort.checked for effort in efforts] == [not taught]
    assert asked == {one.question for one in about}
    card = (out / "README.md").read_text("utf-8")
    assert (" from those of a seat for every token, drilled ones " in card) == taught
    assert ", drilled ones " in card


def test_few_questions_are_taught_beside_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said of such a refinement is of answers, most of which no teacher gives."""
    done, document = compile_tiny(tmp_path, "seats"), make_document()
    about = write_some(document.text)[:3]
    monkeypatch.setattr("d2l.refining.refine.write_about", lambda *_, **__: about)
    drilled = spy_on_drills(monkeypatch)
    out = refine(done, tmp_path / "better.lora", documents=[document])
    said = read_record(out)["refinement"]
    assert (said["questions"], said.get("taught"), said.get("drilled")) == (3, None, None)
    assert len({question for question, _ in drilled}) > 3
    assert "a seat for every token" not in (out / "README.md").read_text("utf-8")


def test_a_teacher_reads_each_question_behind_its_own_passage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny network reads a few words at a time, and the document has more."""
    done = compile_tiny(tmp_path, "seats")
    document = make_document()
    about = write_some(document.text)
    monkeypatch.setattr("d2l.refining.refine.write_about", lambda *_, **__: about)
    read: list[tuple[int, int]] = []
    real = teacher.read_passage

    def spy(memory: Memory, *given: Any) -> None:
        read.append((memory.n_seats, len(given[-1])))
        real(memory, *given)

    monkeypatch.setattr(teacher, "read_passage", spy)
    refine(done, tmp_path / "better.lora", documents=[document], options=RefineOptions(steps=1))
    chunks = read_record(done.adapter)["chunks"]
    spans = [chunk["characters"] for chunk in chunks]
    held = [sum(start <= one.start < stop for one in about) for start, stop in spans]
    assert [n for _, n in read] == [n for n in held if n]
    assert len(read) > 1
    assert sum(held) == len(about)
    config = done.plan.config
    tokens = [chunk["n_tokens"] - len(config.read_opening) for chunk in chunks]
    wanted = [min(n, config.max_seats) for n, some in zip(tokens, held, strict=True) if some]
    assert [n_seats for n_seats, _ in read] == wanted


def test_a_crowded_memory_needs_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = compile_tiny(tmp_path, "seats")
    n_seats = read_record(done.adapter)["seats"]
    monkeypatch.setattr("d2l.refining.refine.CROWDED", n_seats - 1)
    monkeypatch.setattr("d2l.refining.refine.SEATS_A_QUESTION", n_seats // 2)
    out = refine(done, tmp_path / "same.lora")  # the tiny base has no writer
    said = read_record(out)
    assert (said["refinement"]["steps"], said["refinement"]["kept"]) == (0, 0)
    reason = said["warnings"][-1]
    assert reason.startswith("Nothing changed: refining 2 pages takes 2 written questions, ")
    assert "there is no question writer for the base" in reason
    assert f"- Refined: {reason}\n" in (out / "README.md").read_text("utf-8")
    weights = "adapter_model.safetensors"
    assert (out / weights).read_bytes() == (done.adapter / weights).read_bytes()
    monkeypatch.setattr("d2l.refining.refine.CROWDED", n_seats)
    assert read_record(refine(done, tmp_path / "better.lora"))["refinement"]["steps"] > 0


@pytest.mark.slow
def test_the_same_steps_give_the_same_bytes(tmp_path: Path) -> None:
    done = compile_tiny(tmp_path, "seats")
    first = read_files(refine(done, tmp_path / "one.lora"))
    assert first == read_files(refine(done, tmp_path / "two.lora"))
    assert first != read_files(refine(done, tmp_path / "3.lora", RefineOptions(steps=12, seed=1)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["seats", "mistral"])
def test_compiling_refines_at_once_to_the_same_weights(kind: str, tmp_path: Path) -> None:
    plain = compile_tiny(tmp_path / "plain", kind)
    apart = refine(plain, tmp_path / "apart.lora")
    together = compile_tiny(tmp_path / "together", kind, refine_steps=12)
    files = read_files(together.adapter)
    assert read_record(together.adapter)["refinement"] == read_record(apart)["refinement"]
    assert files["adapter_model.safetensors"] == read_files(apart)["adapter_model.safetensors"]
    card = (together.adapter / "README.md").read_text("utf-8")
    assert "was not fine-tuned" not in card
    assert "corrected by gradient steps" in card


def test_a_refined_memory_is_what_the_adapter_was_seated_from(tmp_path: Path) -> None:
    """Memory and weights belong together: seated again, the memory gives the weights."""
    done = compile_tiny(tmp_path, "seats")
    out = refine(done, tmp_path / "better.lora")
    assert torch.equal(read_memory(out).keys, read_memory(done.adapter).keys)
    assert not torch.equal(read_memory(out).values, read_memory(done.adapter).values)
    plan = prepare_merge([out], checkpoint=str(done.checkpoint))
    again = run_merge(plan, options_for(done)).weights
    found = read_adapter(out)
    for name, factors in again.factors.items():
        assert torch.allclose(factors.b, found.factors[name].b, atol=1e-5), name


def test_a_time_that_is_too_short_changes_nothing_and_says_so(tmp_path: Path) -> None:
    done = compile_tiny(tmp_path, "seats")
    out = refine(done, tmp_path / "same.lora", RefineOptions(seconds=1e-6))
    said = read_record(out)["refinement"]
    assert (said["steps"], said["kept"]) == (0, 0)
    assert "recall" not in said  # it ends before anything is judged
    assert said["reason"] == (
        "Nothing changed: 0 s were too short for 2 pages. Try --refine 1m, or refine single pages."
    )
    for name in ("adapter_model.safetensors", "memory.safetensors"):
        assert read_files(out)[name] == read_files(done.adapter)[name]
    assert read_record(out)["chunks"] == read_record(done.adapter)["chunks"]  # still to be edited


TABLE = "\n".join(f"{n} {n * n} {n * n * n}" for n in range(40))
CHINESE = "滤网每十四天冲洗一次。水泵在港口。打开铜阀。灯在二十一点四十分点亮。" * 3
CODE = "def f(x):\n    return x\n\n\nclass A:\n    y = 3\n"


@pytest.mark.parametrize("text", [TABLE, CHINESE, CODE], ids=["table", "chinese", "code"])
def test_what_cannot_be_asked_about_keeps_its_prediction(text: str, tmp_path: Path) -> None:
    document = Document("odd.txt", "text", (Section(text),), "1" * 64, len(text))
    plain = compile_tiny(tmp_path / "plain", "seats", document)
    refined = compile_tiny(tmp_path / "refined", "seats", document, refine_steps=12)
    said = read_record(refined.adapter)
    reason = name_reason([document])
    assert reason is not None
    assert reason.startswith("Nothing to refine: odd.txt has ")
    assert said["refinement"]["reason"] == reason
    assert reason in said["warnings"]
    for name in ("adapter_model.safetensors", "memory.safetensors"):
        assert read_files(refined.adapter)[name] == read_files(plain.adapter)[name]
    assert name_reason(refined.plan.documents) == reason


def test_only_the_document_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No question of anybody is seen: the files that are opened are the base's, the network's and
    d2l's own, and everything that is drilled stands in the document."""
    done = compile_tiny(tmp_path, "seats")
    secret = tmp_path / "questions.jsonl"
    secret.write_text('{"question": "Zebra?", "answers": ["Quagga"]}\n', "utf-8")
    opened: list[Path] = []
    watching = True

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[0], str):
            opened.append(Path(arguments[0]).resolve())

    sys.addaudithook(note)  # stays for good: `watching` ends it
    parent = read_parent(done.adapter)
    assert parent.content  # its files are read now
    drilled = spy_on_drills(monkeypatch)
    refine(done, tmp_path / "better.lora", parent=parent)
    watching = False
    data = [path for path in opened if path.name.endswith((".jsonl", ".gz"))]
    assert not data
    assert Path(d2l.__file__).parent / "datasets" / "general_prompts.txt" in opened
    assert Path(d2l.__file__).parent / "datasets" / "harm_prompts.txt" not in opened
    text = " ".join(make_document().text.split())
    assert len(drilled) > 30
    for question, answer in drilled:
        assert answer.strip(" .") in text
        assert "Zebra" not in question


def spy_on_drills(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every question about the document that a subject is asked from now on."""
    seen: list[tuple[str, str]] = []
    for subject in (MovableSeats, MovableLora):

        def spy(self: Any, asked: Asked, ask: Any = subject.ask) -> Exercise:
            if asked.answer:  # general prompts have none yet
                seen.append((asked.question, asked.answer))
            exercise: Exercise = ask(self, asked)
            return exercise

        monkeypatch.setattr(subject, "ask", spy)
    return seen


def test_a_refined_adapter_is_not_taken_apart(tmp_path: Path) -> None:
    done = compile_tiny(tmp_path, "seats")
    out = refine(done, tmp_path / "better.lora")
    with pytest.raises(AdapterError, match="was refined on the whole of its document") as caught:
        prepare_edit(out, drop=("p. 2",))
    assert "compile the document again" in str(caught.value.hint)


def test_merging_a_refined_adapter_says_what_may_be_lost(tmp_path: Path) -> None:
    done = compile_tiny(tmp_path, "seats")
    out = refine(done, tmp_path / "better.lora")
    alone = prepare_merge([out], checkpoint=str(done.checkpoint))
    both = prepare_merge([out, done.adapter], checkpoint=str(done.checkpoint))
    assert not [w for w in alone.warnings if "refined" in w]
    (said,) = [w for w in both.warnings if "refined" in w]
    assert said.startswith("better.lora: refined alone")


def test_another_document_is_taken_with_a_remark(tmp_path: Path) -> None:
    done = compile_tiny(tmp_path, "seats")
    other = replace(make_document("other.txt"), digest="2" * 64)
    out = refine(done, tmp_path / "better.lora", documents=[other])
    (said,) = [w for w in read_record(out)["warnings"] if "byte for byte" in w]
    assert "other.txt" in said


def test_what_cannot_be_refined_is_refused_with_a_reason(tmp_path: Path) -> None:
    done = compile_tiny(tmp_path / "weak", "seats", scale=0.5)
    with pytest.raises(AdapterError, match="another strength than 1"):
        refine(done, tmp_path / "out.lora")
    parts = compile_tiny(tmp_path / "parts", "seats", parts=True)
    for words in (
        {"parent": read_parent(parts.adapter)},
        {"parent": Parent(d2l.Adapter.from_pretrained(parts.adapter))},
    ):
        with pytest.raises(AdapterError, match="is asked by parts") as caught:
            refine(parts, tmp_path / "out.lora", **words)
        assert "--no-parts" in str(caught.value.hint)
    with pytest.raises(OptionError, match="is asked by parts"):
        compile_tiny(tmp_path / "parts", "seats", parts=True, refine_steps=12)
    with pytest.raises(OptionError, match="only an adapter of strength 1"):
        compile_tiny(tmp_path / "at_once", "seats", scale=0.5, refine_steps=12)
    llama = compile_tiny(tmp_path / "llama", "llama")
    bare = replace(d2l.Adapter.from_pretrained(llama.adapter), provenance=None)
    with pytest.raises(AdapterError, match="was not compiled from a document"):
        refine(llama, tmp_path / "out.lora", parent=Parent(bare))


def test_a_crowded_memory_whose_questions_are_too_few_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, document = compile_tiny(tmp_path, "seats"), make_document()
    monkeypatch.setattr("d2l.refining.refine.CROWDED", 1)
    monkeypatch.setattr("d2l.refining.refine.SEATS_A_QUESTION", 1)
    monkeypatch.setattr("d2l.refining.refine.find_writer", lambda _: tmp_path)
    about = write_some(document.text)[:1]
    monkeypatch.setattr("d2l.refining.refine.write_about", lambda *_, **__: about)
    n_seats = read_record(done.adapter)["seats"]
    enough = f"Nothing changed: refining 2 pages takes {n_seats} written questions, and the writer "
    for options, reason in (
        (RefineOptions(steps=4), f"{enough}could ask 1. Refine single pages."),
        (RefineOptions(seconds=1e-6), "Nothing changed: 0 s were too short for 2 pages. "),
    ):
        out = refine(done, tmp_path / f"{options.steps}.lora", options, documents=[document])
        assert read_record(out)["refinement"]["reason"].startswith(reason)
        assert (
            read_files(out)["memory.safetensors"] == read_files(done.adapter)["memory.safetensors"]
        )
