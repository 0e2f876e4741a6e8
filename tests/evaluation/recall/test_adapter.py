import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.errors import DocumentError, ProbeError
from d2l.evaluation.recall.adapter import probe_adapter
from d2l.evaluation.recall.arms import ProbeOptions
from d2l.evaluation.recall.report import Probe
from d2l.inference.adapted_model import AskOptions
from tests import tiny
from tests.compiled import Compiled, compile_tiny

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTIONS = [
    {"question": "How often is the filter rinsed?", "answers": ["14 days"]},
    {"question": "Where is the pump?", "answers": ["the harbor"]},
    {"question": "Who has the key?", "answers": ["the owner", "Keeper"]},
    {"question": "What does it cost?", "answers": ["9 dollars"]},  # nowhere in the document
    {"question": "When is it lit?", "answers": ["21:40"], "doc": "Another lantern."},
    {"question": "Which lantern?", "answers": ["in the meadow"], "doc": tiny.DOCUMENT},
]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """An adapter whose document still lies where it was."""
    root = tmp_path_factory.mktemp("probe")
    path = root / "handbook.txt"
    path.write_text(tiny.DOCUMENT, "utf-8")
    return compile_tiny(root, "seats", read_document(Source(str(path), path)))


def write_questions(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def probe(done: Compiled, questions: Path, document: str | None = None, **changes: Any) -> Probe:
    return probe_adapter(
        done.adapter,
        questions,
        document=document,
        asking=AskOptions(base=str(done.base), device="cpu", max_new_tokens=4, offline=True),
        options=ProbeOptions(**({"harm": False} | changes)),
    )


def test_all_arms_are_asked_what_the_document_answers(done: Compiled, tmp_path: Path) -> None:
    found = probe(done, write_questions(tmp_path, QUESTIONS))
    assert [row["arm"] for row in found.rows] == ["adapter", "prompt", "base"]
    n_tokens = len(tiny.encode(tiny.DOCUMENT))
    for row in found.rows:
        assert row["n"] == 4
        assert row["set"] == str(done.root / "handbook.txt")
        assert row["length"] == row["tokens"] == n_tokens
        assert row["documents"] == 1
        assert row["seats"] == done.plan.rank
    assert found.remarks == ()
    assert {row["question"]: row["left_out"] for row in found.questions if row["left_out"]} == {
        "What does it cost?": "its answer is not in the document",
        "When is it lit?": "it is about another document",
    }
    asked = [row for row in found.questions if row["left_out"] is None]
    assert [row["wanted"] for row in asked] == [QUESTIONS[n]["answers"] for n in (0, 1, 2, 5)]
    for row in asked:
        assert list(row["answers"]) == ["adapter", "prompt", "base"]
        assert row["said"] == row["answers"]["adapter"]["answer"]
        assert row["right"] == bool(row["answers"]["adapter"]["contained"])


def test_the_limit_bounds_the_questions(done: Compiled, tmp_path: Path) -> None:
    found = probe(done, write_questions(tmp_path, QUESTIONS), limit=2, batch=1)
    assert [row["n"] for row in found.rows] == [2, 2, 2]


def test_without_the_document_the_prompt_is_left_out_and_said_so(
    compiled: Callable[[str], Compiled], tmp_path: Path
) -> None:
    questions = write_questions(tmp_path, QUESTIONS)
    other = compiled("llama")  # compiled from no file
    found = probe(other, questions)
    assert [(row["arm"], row["n"], row["length"]) for row in found.rows] == [
        ("adapter", 6, None),
        ("base", 6, None),
    ]
    (remark,) = found.remarks
    assert "there is no document to put into the prompt" in remark
    assert "--document FILE" in remark
    given = tmp_path / "copy.txt"
    given.write_text(tiny.DOCUMENT, "utf-8")
    rows = probe(other, questions, str(given)).rows
    assert [(row["arm"], row["n"]) for row in rows] == [("adapter", 4), ("prompt", 4), ("base", 4)]
    with pytest.raises(DocumentError, match="gone"):
        probe(other, questions, str(tmp_path / "gone.txt"))


def test_questions_that_the_document_does_not_answer_are_refused(
    done: Compiled, tmp_path: Path
) -> None:
    path = write_questions(tmp_path, QUESTIONS[3:5])
    with pytest.raises(ProbeError) as caught:
        probe(done, path)
    expected = f"{path}: none of its 2 questions has its answer in the document"
    assert caught.value.message == expected


def test_harm_is_measured_unless_left_out(
    done: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_questions(tmp_path, QUESTIONS[:1])
    assert probe(done, path).harm is None
    # Two of the shipped prompts instead of all: the time, not the measure, is the point here.
    monkeypatch.setattr(
        "d2l.evaluation.harm.read_harm_prompts", lambda: ["Why?", "Count to three."]
    )
    harm = probe(done, path, harm=True).harm
    assert harm is not None
    assert (harm["seats"], harm["n"]) == (done.plan.rank, 2)
    assert harm["kl"] > 0


# ---- what the document does not answer ----------------------------------------------------------


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def test_only_what_the_document_does_not_say_counts_as_unanswerable(
    done: Compiled, tmp_path: Path
) -> None:
    given = write_rows(
        tmp_path / "un.jsonl",
        [
            {"question": "What does it weigh?"},
            {"question": "How often is it oiled?", "answers": ["14 days"]},  # it says that
            {"question": "How high is it?", "answers": ["30 m"], "doc": tiny.DOCUMENT},
            {"question": "Who is Ada?", "doc": "Another lantern."},
        ],
    )
    found = probe_adapter(
        done.adapter,
        None,
        document=None,
        asking=AskOptions(base=str(done.base), device="cpu", max_new_tokens=4, offline=True),
        options=ProbeOptions(harm=False, unanswerable=given),
    )
    assert found.rows == ()
    assert [row["arm"] for row in found.silence] == ["adapter", "prompt", "base"]
    for row in found.silence:
        assert row["false_answers"]["n"] == 2
        assert row["false_silences"] is None
    assert found.remarks == (
        "left out as unanswerable: 2 of 4, answered in the document or about others",
    )


def test_neighbors_of_the_adapters_document_come_from_the_questions(
    done: Compiled, tmp_path: Path
) -> None:
    rows = [
        {"question": "Which lantern?", "answers": ["in the meadow"], "doc": tiny.DOCUMENT},
        {"question": "When is it lit?", "answers": ["at noon"], "doc": "It is lit at noon."},
        {"question": "Who rows?", "answers": ["Bob"], "doc": "Bob rows."},
    ]
    titled = [row | {"title": "Lanterns" if n < 2 else "Boats"} for n, row in enumerate(rows)]
    (tmp_path / "titled").mkdir()
    found = probe(done, write_questions(tmp_path / "titled", titled), unanswerable="neighbors")
    assert [row["false_answers"]["n"] for row in found.silence] == [1, 1, 1]
    with pytest.raises(ProbeError, match="--unanswerable neighbors: none of 3 questions"):
        probe(done, write_questions(tmp_path, rows), unanswerable="neighbors")
