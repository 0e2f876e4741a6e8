import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.answer.torch_engine import TorchEngine
from d2l.datasets.silence import FEW_WORDS
from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.errors import DocumentError, ProbeError
from d2l.evaluation.answers import Share
from d2l.evaluation.probe import QuestionsReport, probe_questions
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


def probe(done: Compiled, questions: Path, document: str | None = None) -> QuestionsReport:
    asking = AskOptions(base=str(done.base), device="cpu", max_new_tokens=4, offline=True)
    return probe_questions(done.adapter, questions, document=document, asking=asking)


def test_all_arms_are_asked_what_the_document_answers(done: Compiled, tmp_path: Path) -> None:
    found = probe(done, write_questions(tmp_path, QUESTIONS))
    arms = [(scores.arm, scores.n) for scores in found.scores]
    assert arms == [("adapter", 4), ("prompt", 4), ("base", 4)]
    assert (found.document, found.remarks) == (str(done.root / "handbook.txt"), ())
    assert found.tokens == len(tiny.encode(tiny.DOCUMENT))
    assert {row.question: row.reason for row in found.left_out} == {
        "What does it cost?": "its answer is not in the document",
        "When is it lit?": "it is about another document",
    }
    wanted = [QUESTIONS[n]["answers"] for n in (0, 1, 2, 5)]
    assert [list(q.wanted) for q in found.questions] == wanted
    for row, question in zip(found.to_json()["questions"], found.questions, strict=True):
        own = question.answers[found.own.arm]
        assert list(row["answers"]) == ["adapter", "prompt", "base"]
        assert (row["said"], row["right"]) == (own.text, bool(own.contained))


def test_questions_without_an_answer_count_as_false_answers(done: Compiled, tmp_path: Path) -> None:
    rows = [QUESTIONS[0], {"question": "What does it weigh?", "answers": []}]
    found = probe(done, write_questions(tmp_path, rows))
    for scores in found.scores:
        assert scores.n == 1
        assert scores.false_answers == Share(1, 1, 1.0, None)  # random weights never refuse
        assert scores.false_silences == Share(1, 0, 0.0, None)
    assert found.questions[1] in found.wrong
    alone = probe(done, write_questions(tmp_path, rows[1:]))
    assert alone.own.recall is None
    with pytest.raises(ProbeError, match="no question with an answer right, less than 0"):
        alone.check_share(0)


def test_without_the_document_the_prompt_is_left_out_and_said_so(
    compiled: Callable[[str], Compiled], tmp_path: Path
) -> None:
    questions = write_questions(tmp_path, QUESTIONS)
    other = compiled("llama")  # compiled from no file
    found = probe(other, questions)
    assert [(scores.arm, scores.n) for scores in found.scores] == [("adapter", 6), ("base", 6)]
    assert found.tokens is None
    (remark,) = found.remarks
    assert "there is no document to put into the prompt" in remark
    assert "--document FILE" in remark
    given = tmp_path / "copy.txt"
    given.write_text(tiny.DOCUMENT, "utf-8")
    arms = [(scores.arm, scores.n) for scores in probe(other, questions, str(given)).scores]
    assert arms == [("adapter", 4), ("prompt", 4), ("base", 4)]
    with pytest.raises(DocumentError, match="gone"):
        probe(other, questions, str(tmp_path / "gone.txt"))


def test_questions_without_an_answer_there_are_refused(done: Compiled, tmp_path: Path) -> None:
    path = write_questions(tmp_path, QUESTIONS[3:5])
    with pytest.raises(ProbeError) as caught:
        probe(done, path)
    expected = f"{path}: none of its 2 questions has its answer in the document"
    assert caught.value.message == expected


def test_the_document_is_read_once_and_answers_are_those_of_a_prompt_of_ones_own(
    done: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = TorchEngine.read

    def watch(engine: TorchEngine, ids: Sequence[int], effect: Any) -> Any:
        reads.append(len(ids))
        return read(engine, ids, effect)

    monkeypatch.setattr(TorchEngine, "read", watch)
    found = probe(done, write_questions(tmp_path, QUESTIONS))
    assert sum(n > len(tiny.encode(tiny.DOCUMENT)) for n in reads) == 1
    asking = AskOptions(base=str(done.base), device="cpu", max_new_tokens=4, offline=True)
    asker = AdaptedModel.load(done.adapter, asking)
    for question in found.questions:
        answer, _ = asker.ask_with_document(question.question + FEW_WORDS, tiny.DOCUMENT)
        assert question.answers["prompt"].text == answer
