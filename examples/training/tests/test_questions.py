import json
from functools import partial
from pathlib import Path

import pytest

from d2l.documents.chunks import Piece
from d2l.errors import ProbeError, RecipeError
from d2l_lab.questions import Question, read_documents, read_questions, share_out
from examples.training.tests.toy import ROWS, write_data

GOOD = {"question": "Where is the pump?", "answers": ["the harbor", "harbor"]}
HINT = "a row is a JSON object with question and answers, a list of texts ([]: no answer)"


def test_how_to_questions_have_facts_and_a_model_answer(tmp_path: Path) -> None:
    row = {"doc": "a.md", "kind": "list", "question": "Which?", "facts": [["pump"], ["oil", "fat"]]}
    none = {"doc": "a.md", "kind": "none", "question": "Why?", "facts": [], "reference": "No."}
    path = tmp_path / "howto.jsonl"
    rows = [row, row | {"reference": "Pump and oil.", "wrong": ["lamp"]}, none, GOOD | {"doc": "b"}]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    facts = (("pump",), ("oil", "fat"))
    assert read_questions(path, howtos=True) == [
        Question("Which?", ("pump; oil",), "a.md", kind="list", facts=facts),
        Question("Which?", ("Pump and oil.",), "a.md", kind="list", facts=facts, wrong=("lamp",)),
        Question("Why?", (), "a.md", kind="none"),
        Question("Where is the pump?", ("the harbor", "harbor"), "b"),
    ]
    with pytest.raises(ProbeError, match="'answers' is missing"):
        read_questions(path)
    for wrong, reason in [
        ({"kind": "riddle"}, "kind 'riddle' has 2 facts"),
        ({"kind": "none"}, "kind 'none' has 2 facts"),
        ({"facts": []}, "kind 'list' has 0 facts"),
        ({"facts": ["pump"]}, "a fact is not a list"),
        ({"facts": [["pump"], [" "]]}, "expected text, got ' '"),
        ({"facts": 3}, "not iterable"),
        ({"wrong": "lamp"}, "wrong is not a list"),
        ({"doc": None}, "expected text"),
    ]:
        path.write_text(json.dumps(row | wrong), "utf-8")
        with pytest.raises(ProbeError, match=reason) as caught:
            read_questions(path, howtos=True)
        assert "kind (howto, overview, list, why, none)" in str(caught.value.hint)


def test_sets_need_a_document_in_every_row(tmp_path: Path) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text(json.dumps(GOOD), "utf-8")
    with pytest.raises(ProbeError) as caught:
        read_questions(path)
    assert caught.value.message == f"{path}, line 1: not a row of questions ('doc' is missing)"
    assert caught.value.hint == HINT.replace("with question", "with doc, question")


def test_rows_are_grouped_by_document(tmp_path: Path) -> None:
    path = write_data(tmp_path)
    documents = read_documents(path)
    assert [document.text for document in documents] == [ROWS[0]["doc"], ROWS[2]["doc"]]
    assert documents[0].questions == (("Where is the pump?", "harbor"), ("How often?", "14 days"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"question": "Who?", "answers": ["I"]}', "'doc' is missing"),
        (b'{"doc": "text", "question": "Who?"}', "'answers' is missing"),
        (b'{"doc": "text", "answers": ["I"]}', "'question' is missing"),
        (b'{"doc": "text", "question": "Who?", "answers": []}', "answers is not a list of at"),
        (b'{"doc": "text", "question": "Who?", "answers": "I"}', "answers is not a list of at"),
        (b'{"doc": "text", "question": "Who?", "answers": null}', "answers is not a list of at"),
        (b'{"doc": "text", "question": "Who?", "answers": ["I", 7]}', "expected text, got 7"),
        (b'{"doc": "text", "question": ["Who?"], "answers": ["I"]}', "expected text, got ['Who?"),
        (b'{"doc": " "}', "expected text, got ' '"),
        (b'{"doc": NaN}', "expected text, got nan"),
        (b'{"doc": "one", "doc": "two"}', "'doc' stands there twice"),
        (b'{"doc": "half \\ud800"}', "surrogates not allowed"),
        (b"", "Expecting value"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(ROWS[0]).encode() + b"\n" + line + b"\n")
    with pytest.raises(RecipeError) as refused:
        read_documents(path)
    message = refused.value.message
    assert message.startswith(f"{path}, line 2: not a row of training data (")
    assert reason in message


def test_questions_without_an_answer_have_an_empty_list_of_answers(tmp_path: Path) -> None:
    path = tmp_path / "un.jsonl"
    rows = [
        {"question": "Why?", "doc": "A text.", "answers": []},
        GOOD | {"doc": "A text.", "evidence": "In it."},
    ]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    without, with_answer = read_questions(path)
    assert without == Question("Why?", (), "A text.")
    assert with_answer.evidence == "In it."


def test_a_question_goes_with_the_one_piece_that_holds_its_answer() -> None:
    pieces = [Piece(text, (), 0, 0) for text in ("a b", "b c")]
    ask = partial(share_out, find=lambda letter: lambda text: letter in text)
    assert ask(pieces, "abcd", trust_single=False) == [["a"], ["c"]]
    assert ask(pieces[:1], "bcd", trust_single=False) == [["b"]]
    assert ask(pieces[:1], "bcd", trust_single=True) == [["b", "c", "d"]]
