import json
import statistics
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from d2l import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.api.compiler import Compiler
from d2l.bases import models
from d2l.compiler import run as pipeline
from d2l.compiler.plan import CompilePlan
from d2l.datasets.silence import SILENCE
from d2l.errors import ProbeError
from d2l.evaluation.answers import Share
from d2l.hypernets.network import Loaded
from d2l.hypernets.options import CompileOptions
from d2l.parts.kept import PartOptions
from d2l.progress import Progress
from d2l_lab.bench import run as running
from d2l_lab.bench.answers import Arm
from d2l_lab.bench.cases import CHUNKS, draw_manuals, draw_needles, draw_sets
from d2l_lab.bench.report import make_report
from d2l_lab.bench.run import BenchOptions, run_bench
from d2l_lab.commands import bench
from examples.training.tests.toy import Lab
from tests import tiny
from tests.compiled import write_files

pytestmark = pytest.mark.usefixtures("one_thread")
PAGES = [
    ("Which color has the lantern of Ada?", "green", "The lantern of Ada is painted green"),
    ("Where does Bob keep his oil?", "cellar", "Bob keeps the oil in the cellar"),
    ("How often does Cleo rinse the filter?", "14 days", "Cleo rinses the filter every 14 days"),
]
FILLER = "The pump stands in the harbor. The copper valve is older than the lantern and the pump."


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny seats network, a manual of three pages with its questions, and a set of the pages."""
    folder = tmp_path_factory.mktemp("bench")
    tiny.write_seats(folder / "checkpoint", repeats=2, chunk_tokens=64)  # a page each
    pages = [f"{fact}. {FILLER}" for _, _, fact in PAGES]
    (folder / "manual.md").write_text("\n\n".join(f"# Page\n\n{page}" for page in pages), "utf-8")
    manual: list[dict[str, object]] = [
        {"doc": "manual.md", "question": question, "answers": [answer], "evidence": fact}
        for question, answer, fact in PAGES
    ]
    manual += [
        {"doc": "manual.md", "question": "How heavy is the anchor?", "answers": []},
        {"doc": "manual.md", "question": "Xyzzy qwv?", "answers": []},
    ]
    write_rows(folder / "questions.jsonl", manual)
    howtos: list[dict[str, object]] = [
        {"doc": "manual.md", "kind": kind, "question": question, "facts": facts}
        for kind, question, facts in [
            ("howto", "How do I rinse the filter of Cleo?", [["14 days"], ["rinse", "wash"]]),
            ("none", "How do I paint the anchor?", []),
        ]
    ]
    write_rows(folder / "howto.jsonl", howtos)
    texts: list[dict[str, object]] = [
        {"doc": page, "question": question, "answers": [answer]}
        for page, (question, answer, _) in zip(pages, PAGES, strict=True)
    ]
    write_rows(folder / "set.jsonl", texts)
    return folder


@pytest.fixture
def options(root: Path) -> BenchOptions:
    base, checkpoint = write_files(root, "seats")
    compiling = CompileOptions(str(checkpoint), str(base), device="cpu", offline=True)
    asking = AskOptions(str(base), "cpu", max_new_tokens=4, offline=True)
    return BenchOptions("sets", compiling, asking)


def draw_pages(root: Path) -> partial[object]:
    return partial(draw_sets, files=[root / "set.jsonl"], lengths=[60, 250], limit=3)


def test_rows_are_those_of_compiling_loading_and_asking_one_by_one(
    root: Path, options: BenchOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    load = pipeline.load

    def count(plan: CompilePlan, watch: Progress) -> Loaded:
        loads.append(plan.options.device)
        return load(plan, watch)

    monkeypatch.setattr(pipeline, "load", count)
    rows = run_bench(draw_pages(root), options)
    assert rows[-1].chunks > 1
    assert loads == ["cpu"]  # once for so many documents
    assert [(row.length, len(row.questions), row.chunks) for row in rows] == [
        *[(60, 1, 1)] * 3,
        (250, 3, rows[-1].chunks),
    ]
    short, long = rows[0], rows[-1]
    assert list(short.costs) == [Arm.ADAPTER, Arm.PROMPT, Arm.BASE]
    assert list(long.costs) == [Arm.PARTS, Arm.ADAPTER, Arm.PROMPT, Arm.BASE]
    for row in rows:
        for cost in (row.compiling, *row.costs.values()):
            assert cost.seconds > 0
            assert cost.peak_bytes is not None
            assert cost.peak_bytes > 10e6
    compiler = Compiler(options.compiling)
    (*_, case) = draw_sets(
        compiler.network.tokenizer, files=[root / "set.jsonl"], lengths=[250], limit=3
    )
    adapter = compiler(case.asked.document).save_pretrained(tmp_path / "own.lora")
    for arm, parts in ((Arm.PARTS, PartOptions()), (Arm.ADAPTER, PartOptions(whole=True))):
        model = AdaptedModel.load(adapter, replace(options.asking, parts=parts))
        said = [question.answers[arm].text for question in long.questions]
        assert said == [model.ask(question.question) for question in long.questions]


def test_on_a_card_costs_are_the_bytes_that_torch_allocated(
    root: Path, options: BenchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU is taken for a card; each measure waits for it at both ends."""
    answers = {"memory_allocated": 100, "max_memory_allocated": 164, "get_device_name": "A card"}
    calls: list[str] = []

    def answer(name: str, _device: object) -> object:
        calls.append(name)
        return answers.get(name)

    names = ("synchronize", "reset_peak_memory_stats", *answers)
    for name in names:
        monkeypatch.setattr(f"torch.cuda.{name}", partial(answer, name))
    monkeypatch.setattr("d2l.bases.devices.is_cuda", lambda _: True)
    row = run_bench(partial(draw_sets, files=[root / "set.jsonl"], lengths=[60], limit=1), options)[
        0
    ]
    assert row.run.device == "A card"
    costs = [row.compiling, *row.costs.values()]
    assert {(cost.peak_bytes, cost.extra_bytes) for cost in costs} == {(164, 64)}
    measured = [*names[:3], "synchronize", "max_memory_allocated"]
    assert calls == ["get_device_name", *measured * len(costs)]


def test_memory_never_holds_two_bases(
    root: Path, options: BenchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[Any]] = []
    load = models._load

    def look(*args: Any, **keywords: Any) -> Any:
        assert all(model() is None for model in loaded)
        model = load(*args, **keywords)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(models, "_load", look)
    monkeypatch.setattr(running, "_TOGETHER", 2)
    rows = run_bench(draw_pages(root), options)
    assert len(rows) == len(loaded) == 4  # twice two documents, compiled and asked


def test_a_network_is_checked_with_two_lengths_of_chunks_in_one_precision(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, checkpoint = write_files(tmp_path, "llama")
    dtypes: list[Any] = []
    load = models._load

    def look(*args: Any, **keywords: Any) -> Any:
        dtypes.append(keywords["dtype"])
        return load(*args, **keywords)

    monkeypatch.setattr(models, "_load", look)
    options = ("--base", str(base), "--device", "cpu", "--base-dtype", "bf16", "--max-tokens", "2")
    done = lab("bench", "check", str(checkpoint), *options, "-o", str(tmp_path / "check.json"))
    assert "both lengths of chunks recall as much" in done.out, done.err
    assert dtypes == [torch.bfloat16] * 2  # compiled and asked, each loaded once
    report = json.loads((tmp_path / "check.json").read_text("utf-8"))
    assert report["dtype"] == "bf16"
    chunks = [row for row in report["rows"] if row["set"] == CHUNKS]
    assert [(row["arm"], row["length"], row["n"]) for row in chunks] == [
        ("adapter", 60, 10),
        ("adapter", chunks[1]["length"], 10),
    ]
    assert chunks[0]["chunks"] > 8 > chunks[1]["chunks"]


def test_the_better_length_of_chunks_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def make_row(length: int, count: int) -> Any:
        scores = SimpleNamespace(recall=Share.of([n < count for n in range(10)]))
        return SimpleNamespace(set=CHUNKS, length=length, scores=scores)

    bench._show_chunks([make_row(512, 7), make_row(8183, 4)])
    assert "--chunk-tokens 512 recalls more of this text" in capsys.readouterr().out


def test_a_run_goes_on_after_a_stop(
    root: Path, options: BenchOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    kept = replace(options, kept=path)

    def stop(done: int, *_: object) -> None:
        if done == 7:  # four documents are compiled, and the second is asked
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_bench(draw_pages(root), kept, progress=stop)
    first = path.read_text("utf-8")
    assert first.count("\n") == 1
    rows = run_bench(draw_pages(root), kept)
    assert path.read_text("utf-8").startswith(first)
    assert str(root) not in path.read_text("utf-8")
    with monkeypatch.context() as forbidden:
        forbidden.setattr("d2l_lab.bench.run._compile", None)
        assert run_bench(draw_pages(root), kept) == rows
    longer = replace(kept, asking=replace(kept.asking, max_new_tokens=5))
    run_bench(draw_pages(root), longer)  # nothing is kept of other options
    assert path.read_text("utf-8").count("\n") == 2 * len(rows)
    path.write_text("{", "utf-8")
    with pytest.raises(ProbeError, match="line 1: not a row of d2l-lab bench"):
        run_bench(draw_pages(root), kept)
    path.write_text('{"set": "one"}', "utf-8")
    with pytest.raises(ProbeError, match="line 1: not a row of d2l-lab bench"):
        run_bench(draw_pages(root), kept)


def test_manuals_are_asked_by_parts_beside_their_rivals(root: Path, options: BenchOptions) -> None:
    draw = partial(
        draw_manuals, files=[root / n for n in ("questions.jsonl", "howto.jsonl")], limit=9
    )
    manuals = replace(options, name="manuals")
    (row,) = run_bench(draw, manuals)
    assert list(row.costs) == [Arm.PARTS, Arm.RIGHT, Arm.RAG, Arm.RAG4]
    answered, unanswerable, howtos = row.questions[:3], row.questions[3:5], row.questions[5:]
    assert [question.wanted for question in row.questions[2:5]] == [("14 days",), (), ()]
    for question in answered:
        assert len(question.right) == 1
        assert question.answers[Arm.RIGHT].part == question.right[0]
    for question in unanswerable:
        assert question.right == ()
        assert Arm.RIGHT not in question.answers
    assert unanswerable[1].answers[Arm.PARTS].text == SILENCE  # no word of it is in the manual
    report = make_report([row])
    scores = {one.scores.arm: one.scores for one in report.rows if one.kind == "short"}
    assert {arm: one.n for arm, one in scores.items()} == dict.fromkeys(row.costs, 3)
    counts = {arm: one.false_answers and one.false_answers.count for arm, one in scores.items()}
    assert (counts[Arm.RAG], counts[Arm.RIGHT]) == (2, None)
    assert counts[Arm.PARTS] in (0, 1)
    kinds = [(one.kind, one.scores.arm) for one in report.rows if one.kind != "short"]
    rivals = (Arm.PARTS, Arm.RAG, Arm.RAG4)
    assert kinds == [(kind, arm) for kind in ("howto", "none") for arm in rivals]
    for question in howtos:
        assert list(question.answers) == list(rivals)  # no evidence names a right part
    for one in report.rows:
        waits = [
            question.answers[one.scores.arm].first_seconds or 0
            for question in row.questions
            if one.scores.arm in question.answers
        ]
        assert min(waits) > 0
        assert one.first_seconds == pytest.approx(sum(waits) / len(waits))
        assert one.first_median == pytest.approx(statistics.median(waits))
    (routing,) = report.routing
    hits = sum(question.routed[0] in question.right for question in answered)
    assert (routing.first.n, routing.first.count) == (3, hits)
    assert routing.four.count == 3  # the manual has no more parts
    sources = [question.answers[Arm.PARTS].part in question.right for question in answered]
    assert routing.answering.count == sum(sources)


def test_a_report_sums_up_by_set_and_length_and_all_manuals(
    root: Path, options: BenchOptions
) -> None:
    rows = run_bench(draw_pages(root), options)
    report = make_report(rows)
    asked = [(row.length, row.scores.arm, row.scores.n, row.documents) for row in report.rows]
    assert asked == [
        *[(60, arm, 3, 3) for arm in ("adapter", "prompt", "base")],
        *[(250, arm, 3, 1) for arm in ("parts", "adapter", "prompt", "base")],
    ]
    value = json.loads(json.dumps(report.to_json()))
    assert value["network"] == "checkpoint"
    assert str(root) not in json.dumps(value)
    assert value["rows"][0]["seats"] == sum(row.seats for row in rows[:3]) / 3
    run = replace(rows[0].run, bench="manuals")
    several = [replace(row, run=run, set=f"{n}.md", length=None) for n, row in enumerate(rows[:2])]
    *_, last = make_report(several).rows
    assert (last.set, last.documents, last.scores.n) == ("all", 2, 2)


def test_needles_have_parts_if_the_document_is_long(options: BenchOptions) -> None:
    rows = run_bench(
        partial(draw_needles, lengths=[128], count=1), replace(options, name="needles")
    )
    assert len(rows) == 10
    for row in rows:
        assert list(row.costs) == [Arm.PARTS, Arm.ADAPTER, Arm.PROMPT]
        assert len(row.questions[0].right) == 1
