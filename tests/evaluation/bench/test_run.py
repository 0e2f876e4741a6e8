import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from d2l.errors import ProbeError
from d2l.evaluation.bench import check
from d2l.evaluation.bench.cases import draw_phonebooks, take_documents
from d2l.evaluation.bench.published import REPORTED
from d2l.evaluation.bench.report import draw_bench, make_report, sum_up
from d2l.evaluation.bench.run import BenchOptions, measure_harms, run_cases
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.registry import ALIASES
from d2l.inference.adapted_model import AskOptions
from tests import tiny
from tests.compiled import write_files

pytestmark = pytest.mark.usefixtures("one_thread")
ARMS = ("base", "rag", "adapter", "routed", "prompt")
draw = partial(draw_phonebooks, entries=(2, 6), limit=3, seed=1)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> BenchOptions:
    """Of a tiny seats network, which has two parts for six names."""
    root = tmp_path_factory.mktemp("bench")
    tiny.write_seats(root / "checkpoint", repeats=2, chunk_tokens=96)
    base, checkpoint = write_files(root, "seats")
    compiling = CompileOptions(str(checkpoint), str(base), device="cpu", offline=True)
    asking = AskOptions(str(base), "cpu", max_new_tokens=4, offline=True)
    return BenchOptions("phonebook", compiling, asking, ARMS)


def test_rows_hold_scores_seconds_and_memory_and_no_path(options: BenchOptions) -> None:
    rows = run_cases(draw, options)
    assert [list(row["arms"]) for row in rows] == [["base", "adapter", "prompt"], list(ARMS)]
    for row in rows:
        assert [len(question["answers"]) for question in row["questions"]] == [
            len(row["arms"])
        ] * len(row["questions"])
        for took in (row["compile"], *row["arms"].values()):
            assert took["seconds"] > 0
            assert took["peak_bytes"] > 10e6
    report = make_report("phonebook", rows)
    (adapter, *_) = [row for row in report["rows"] if row["arm"] == "adapter"]
    assert adapter["held_per_megabyte"] == adapter["contained"] * 2 / adapter["adapter_bytes"] * 1e6
    assert str(Path(options.compiling.checkpoint).parent) not in json.dumps([rows, report])
    assert report["network"] == "checkpoint"


def test_a_run_goes_on_where_it_was_stopped(
    options: BenchOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    kept = replace(options, kept=path, arms=("base", "prompt"))

    def stop(done: int, *_: object) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cases(draw, kept, progress=stop)
    first = path.read_text("utf-8")
    assert first.count("\n") == 1
    rows = run_cases(draw, kept)
    assert path.read_text("utf-8").startswith(first)
    with monkeypatch.context() as forbidden:
        forbidden.setattr("d2l.evaluation.bench.run._compile", None)
        assert run_cases(draw, kept) == json.loads(json.dumps(rows))
    other = run_cases(draw, replace(kept, arms=("base",)))  # of other arms nothing is kept
    assert [list(row["arms"]) for row in other] == [["base"], ["base"]]
    path.write_text("{", "utf-8")
    with pytest.raises(ProbeError, match="line 1: not a row of d2l bench"):
        run_cases(draw, kept)


def test_harm_of_the_adapter_stands_beside_that_of_the_document_in_the_prompt(
    options: BenchOptions, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text(tiny.DOCUMENT)
    drawn = partial(take_documents, inputs=str(tmp_path / "note.txt"), limit=2)
    rows = run_cases(drawn, options, measure=measure_harms())
    report = make_report("harm", rows)
    assert [(row["document"], row["arm"], row["n"]) for row in report["rows"]] == [
        ("note.txt", "adapter", 2),
        ("note.txt", "prompt", 2),
    ]
    assert all(row["kl"] > 0 and row["seconds"] > 0 for row in report["rows"])
    assert str(tmp_path) not in json.dumps([rows, report])


def test_a_network_is_checked_with_a_page_and_in_what_it_takes(
    options: BenchOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(check, "VARIANTS", ({}, {"base_dtype": "fp32"}, {"chunk_tokens": 8_192}))
    path = tmp_path / "set.jsonl"
    row = {"doc": tiny.DOCUMENT, "question": "Where is the pump?", "answers": ["the harbor"]}
    path.write_text(json.dumps(row) + "\n")
    rows = check.check_network(replace(options, arms=("adapter",)), path, limit=1)
    variants = [(row["cell"]["variant"], row["dtype"], len(row["questions"])) for row in rows]
    assert variants == [
        ("a page", "fp32", 10),
        ("as usual", "fp32", 1),
        ("base_dtype fp32", "fp32", 1),
    ]
    (warning,) = caplog.messages
    assert warning.startswith("chunk_tokens 8192 is left out: ")
    page = " ".join(check.PAGE.split())
    assert all(answer in page for _, answer in check.QUESTIONS)


def test_arms_of_parts_need_parts(options: BenchOptions) -> None:
    short = partial(draw_phonebooks, entries=(2,), limit=1, seed=1)
    rows = run_cases(short, replace(options, arms=("routed", "right")))
    with pytest.raises(ProbeError, match="nothing to ask in these arms"):
        make_report("phonebook", rows)


# ---- reports ------------------------------------------------------------------------------------


def make_row(low: int, depth: int, right: dict[str, float]) -> dict[str, object]:
    """A needle's row: which arms are right."""
    took = {"seconds": 1.0 + depth, "peak_bytes": low, "extra_bytes": None}
    answers = {
        arm: {"answer": "7" if hit else "8", "contained": hit, "em": hit, "nll": 1.0}
        for arm, hit in right.items()
    }
    return {
        **{"network": "sakana/gemma-2-2b", "network_sha256": "", "base": "b", "device": "cpu"},
        **{"dtype": "fp32", "options": {}, "versions": {}},
        **{"tokens": low + 9, "chunks": 1, "rank": 8, "adapter_bytes": 10**6, "parts_bytes": 0},
        "cell": {"from": low, "to": 2 * low, "depth": depth},
        "compile": took,
        "arms": dict.fromkeys(right, took),
        "questions": [{"wanted": ["7"], "n_tokens": 1, "answers": answers}],
    }


def test_a_report_sums_up_by_length_and_draws_by_depth(tmp_path: Path) -> None:
    rows = [
        make_row(64, 0, {"adapter": 1.0, "prompt": 1.0}),
        make_row(64, 9, {"adapter": 0.0, "prompt": 1.0}),
        make_row(128, 0, {"adapter": 0.0}),
    ]
    report = make_report("niah", rows)
    assert [row["contained"] for row in report["rows"]] == [1, 1, 0, 1, 0]
    assert all("40 chunks" in other["figure"] for other in report["others"])
    adapter, prompt, last = sum_up(rows, leave_out="depth")
    assert (adapter["from"], adapter["arm"], adapter["n"]) == (64, "adapter", 2)
    assert (adapter["contained"], adapter["relative"], prompt["relative"]) == (0.5, 0.5, 1.0)
    assert (adapter["seconds"], adapter["peak_bytes"], adapter["compile_seconds"]) == (5.5, 64, 5.5)
    assert "relative" not in last
    pytest.importorskip("matplotlib")
    for bench in ("niah", "squad"):
        out = tmp_path / f"{bench}.png"
        assert draw_bench(report | {"bench": bench}, out).stat().st_size > 5_000


def test_figures_of_others_are_of_known_names_and_say_whose_they_are() -> None:
    for _, checkpoints, figure, source in REPORTED:
        assert set(checkpoints) <= set(ALIASES)
        assert figure
        assert source
