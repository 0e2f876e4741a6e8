import json
from pathlib import Path

import pytest

from d2l.datasets.questions import Question, read_whole
from d2l.datasets.silence import SILENCE, is_silence
from d2l.documents.intake import ReadOptions, take_inputs
from d2l.errors import ProbeError
from d2l.evaluation.recall.arms import ProbeOptions
from d2l.evaluation.recall.documents import find_right
from d2l.evaluation.recall.report import Probe, draw_recall
from d2l.evaluation.recall.whole import probe_whole
from d2l.hypernets.options import CompileOptions
from d2l.inference.adapted_model import AskOptions
from tests import tiny
from tests.compiled import write_files

pytestmark = pytest.mark.usefixtures("one_thread")

ARMS = ("base", "rag", "adapter", "routed", "right", "prompt")
MANUALS = Path(__file__).parents[4] / "shared" / "data" / "manuals"
FACTS = [
    ("Which color has the lantern of Ada?", "green", "The lantern of Ada is painted green"),
    ("Where does Bob keep his oil?", "cellar", "Bob keeps the oil in the cellar"),
    ("How often does Cleo rinse the filter?", "14 days", "Cleo rinses the filter every 14 days"),
]
WITHOUT = "How heavy is the anchor of Dora?"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manual of three pages with its questions, and a set with the same pages as texts."""
    folder = tmp_path_factory.mktemp("whole")
    tiny.write_seats(folder / "checkpoint", repeats=2, chunk_tokens=64)  # a page each
    pages = [f"{fact}. " + "The pump stands in the harbor." for _, _, fact in FACTS]
    (folder / "manual.md").write_text("\n\n".join(f"# Page\n\n{page}" for page in pages), "utf-8")
    manual = [
        {"doc": "manual.md", "question": question, "answers": [answer], "evidence": fact}
        for question, answer, fact in FACTS
    ]
    manual.append({"doc": "manual.md", "question": WITHOUT, "answers": [], "evidence": ""})
    texts = [
        {"doc": page, "question": question, "answers": [answer]}
        for page, (question, answer, _) in zip(pages, FACTS, strict=True)
    ]
    for name, rows in (("manual", manual), ("texts", texts)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")
    return folder


@pytest.fixture(autouse=True)
def own_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D2L_CACHE_DIR", str(root / "cache"))


def probe(root: Path, name: str, *lengths: int, arms: tuple[str, ...] = ARMS) -> Probe:
    base, checkpoint = write_files(root, "seats")
    compiling = CompileOptions(
        checkpoint=str(checkpoint),
        base=str(base),
        device="cpu",
        dtype="fp32",
        offline=True,
        parts=True,
    )
    return probe_whole(
        [root / f"{name}.jsonl"],
        lengths,
        compiling=compiling,
        asking=AskOptions(base=str(base), device="cpu", max_new_tokens=4, offline=True),
        options=ProbeOptions(arms=arms),
    )


def test_all_arms_are_asked_about_a_file_beside_the_set(root: Path) -> None:
    found = probe(root, "manual")
    assert {row["arm"]: row["n"] for row in found.rows} == dict.fromkeys(ARMS, 3)
    assert {row["set"] for row in found.rows} == {"manual.md"}
    assert all(row["first_token"]["n"] == 3 for row in found.rows)
    assert all(row["nll"] > 0 for row in found.rows)
    for row in found.silence:  # the random network never says that nothing is said
        assert row["arm"] != "right"
        assert row["false_answers"]["n"] == 1
    assert [row["wanted"] for row in found.questions] == [["green"], ["cellar"], ["14 days"], []]
    for row in found.questions[:3]:
        assert len(row["right_parts"]) == 1
        assert set(row["answers"]) == set(ARMS)
        assert row["said"] == row["answers"]["routed"]["answer"]  # as d2l ask would
        assert row["right"] == bool(row["answers"]["routed"]["contained"])
    last = found.questions[3]
    assert (last["right_parts"], last["right"]) == ([], last["answers"]["routed"]["silent"])


def test_the_router_is_scored_by_the_part_that_holds_the_evidence(root: Path) -> None:
    found = probe(root, "manual", arms=("base",))
    (row,) = found.routing
    records = found.questions[:3]
    hits = sum(record["parts"][0] in record["right_parts"] for record in records)
    assert (row["first"]["n"], row["first"]["count"]) == (3, hits)
    assert row["three"]["count"] >= hits


def test_a_question_without_words_of_the_manual_gets_silence_not_a_false_answer(
    root: Path,
) -> None:
    rows = [
        {"doc": "manual.md", "question": FACTS[0][0], "answers": ["green"]},
        {"doc": "manual.md", "question": "Xyzzy qwv?", "answers": []},
    ]
    (root / "silent.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    found = probe(root, "silent", arms=("routed", "base"))
    false = {row["arm"]: row["false_answers"]["count"] for row in found.silence}
    assert false == {"routed": 0, "base": 1}
    assert found.questions[1]["answers"]["routed"]["answer"] == SILENCE
    assert is_silence(SILENCE)


def test_texts_are_joined_to_each_length(root: Path, tmp_path: Path) -> None:
    found = probe(root, "texts", 30, 5_000, arms=("base", "right"))
    counts = {(row["length"], row["arm"]): row["documents"] for row in found.rows}
    assert counts[30, "base"] == 3
    assert counts[5_000, "base"] == 1
    assert [row["n"] for row in found.rows if row["arm"] == "base"] == [3, 3]
    whole = [row for row in found.questions if row["length"] == 5_000]
    assert all(len(row["right_parts"]) == 1 for row in whole)
    pytest.importorskip("matplotlib")
    assert draw_recall(found.rows, tmp_path / "recall.svg").stat().st_size > 1_000


def test_lengths_for_files_are_refused(root: Path) -> None:
    with pytest.raises(ProbeError, match="--length does not join"):
        probe(root, "manual", 100)


def test_the_right_page_holds_an_answer_and_most_of_the_evidence() -> None:
    question = Question("How many?", ("2",), evidence="The valve has 2 rings of 10 Ω each.")
    pages = [
        "Chapter 2. Rings and the valve.",
        "The valve has 2 rings | of 10 \N{OHM SIGN} each.",
        "The valve has rings of 10 Ω each.",
    ]
    assert find_right(pages, question) == (1,)
    assert find_right(pages, question._replace(evidence="")) == ()  # two pages hold a 2
    assert find_right(pages[1:], question._replace(evidence="")) == (0,)


@pytest.mark.skipif(not MANUALS.is_dir(), reason="needs the manuals")
def test_evidence_stands_in_the_text_that_is_read_of_manuals() -> None:
    questions = read_whole(MANUALS / "questions.jsonl")
    missed = []
    for name in {str(question.document) for question in questions}:
        (document,) = take_inputs(MANUALS / name, ReadOptions()).documents
        own = [q for q in questions if q.document == name and q.references]
        assert len(own) == 25
        missed += [q.text for q in own if find_right([document.text], q) != (0,)]
    assert missed == []
