import json
import random
from pathlib import Path

import pytest

from d2l.documents.intake import ReadOptions, take_inputs
from d2l.errors import ProbeError
from d2l.hypernets.doc_to_lora.compiling import ONE_CHUNK
from d2l_lab.bench.cases import (
    DEPTHS,
    PAGE,
    draw_chunks,
    draw_manuals,
    draw_needle,
    draw_needles,
    draw_page,
    draw_sets,
)
from d2l_lab.bench.documents import find_right
from d2l_lab.questions import Question, read_questions
from examples.training.tests.bench.test_documents import Words

SHARED = Path(__file__).parents[4] / "shared"
GOLDENS, MANUALS = SHARED / "goldens" / "extras", SHARED / "data" / "manuals"
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."


# ---- needles ------------------------------------------------------------------------------------


def test_a_needle_lies_in_the_tenth_of_the_noise_that_its_depth_names() -> None:
    assert draw_needle(random.Random(71), 1, 0) == ("The special magic number is 5304.", "5304")
    for n_lines in (1, 2, 7, 10, 23, 4_000):
        for depth in range(DEPTHS):
            text, number = draw_needle(random.Random(n_lines), n_lines, depth)
            lines = text.split("\n")
            place = lines.index(f"The special magic number is {number}.")
            assert lines[:place] + lines[place + 1 :] == [NOISE] * (n_lines - 1)
            assert n_lines * depth // 10 <= place < n_lines * (depth + 1) / 10


@pytest.mark.skipif(not GOLDENS.exists(), reason="needs the goldens of the original")
def test_needles_are_those_of_the_original() -> None:
    """The original drew all of them from one seed, a number before each place."""
    chance = random.Random(71)
    for row in json.loads((GOLDENS / "niah_examples.json").read_text("utf-8")):
        drawn = draw_needle(chance, row["total_blocks"], row["depth_bin"])
        assert drawn == (row["context"], row["response"])
    (case, *_) = draw_needles(Words(), lengths=[128], count=1)
    assert case.asked.questions[0].text == row["prompt"]


def test_needles_lie_at_all_depths_of_texts_as_long_as_asked_for() -> None:
    cases = draw_needles(Words(), lengths=[128, 2_048, 128], count=2)
    assert [case.length for case in cases] == [128] * 20 + [2_048] * 20
    for case in cases:
        assert case.length is not None
        assert case.length - 20 < case.asked.n_tokens <= case.length
        (question,) = case.asked.questions
        assert question.evidence in case.asked.document.text
    assert draw_needles(Words(), lengths=[2_048], count=2) == cases[20:]  # whatever else is drawn
    assert len({case.asked.document.text for case in cases}) == 40


# ---- sets and manuals ---------------------------------------------------------------------------


def write_set(path: Path) -> Path:
    rows = [
        {"doc": f"{'word ' * 50}{name}.", "question": f"Who is {name}?", "answers": [name]}
        for name in ("Ada", "Bob", "Cleo")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_every_set_has_documents_of_every_length(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    one, other = write_set(tmp_path / "one.jsonl"), write_set(tmp_path / "b" / "two.jsonl")
    cases = draw_sets(Words(), files=[one, other], lengths=[60, 300, 60], limit=2)
    drawn = [(case.set, case.length, len(case.asked.questions)) for case in cases]
    assert drawn == [
        *[("one", 60, 1), ("one", 60, 1), ("one", 300, 2)],
        *[("two", 60, 1), ("two", 60, 1), ("two", 300, 2)],
    ]


def test_sets_are_called_by_paths_if_their_names_are_equal(tmp_path: Path) -> None:
    path = write_set(tmp_path / "people.jsonl")
    cases = draw_sets(Words(), files=[path, path], lengths=[60], limit=1)
    assert [case.set for case in cases] == [str(path)] * 2


def test_a_set_that_answers_nothing_at_a_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hopeless.jsonl"
    path.write_text('{"doc": "A text.", "question": "Who?", "answers": ["Nobody"]}\n', "utf-8")
    with pytest.raises(ProbeError) as caught:
        draw_sets(Words(), files=[path], lengths=[90], limit=1)
    assert caught.value.message == f"{path}: no passage of at most 90 tokens answers a question"


def test_manuals_lie_beside_their_questions(tmp_path: Path) -> None:
    (tmp_path / "lamp.md").write_text("# Lamp\n\nThe lamp is green.\n", "utf-8")
    path = tmp_path / "questions.jsonl"
    rows = [{"doc": "lamp.md", "question": f"{n}?", "answers": []} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (case,) = draw_manuals(Words(), files=[path], limit=2)
    assert (case.set, case.length, case.asked.document.name) == ("lamp.md", None, "lamp.md")
    assert len(case.asked.questions) == 2
    howto = {"doc": "lamp.md", "kind": "why", "question": "Why?", "facts": [["green"]]}
    others = tmp_path / "howto.jsonl"
    others.write_text(json.dumps(howto), "utf-8")
    (case,) = draw_manuals(Words(), files=[path, others], limit=1)  # one document, compiled once
    assert [question.kind for question in case.asked.questions] == ["short", "why"]
    for name in ("A text.", "../questions.jsonl", "no\0name"):
        path.write_text(json.dumps({"doc": name, "question": "?", "answers": ["x"]}), "utf-8")
        with pytest.raises(ProbeError, match="is no file in its folder"):
            draw_manuals(Words(), files=[path], limit=2)


@pytest.mark.slow
@pytest.mark.skipif(not MANUALS.is_dir(), reason="needs the manuals")
def test_evidence_stands_in_the_text_that_is_read_of_manuals() -> None:
    questions = read_questions(MANUALS / "questions.jsonl", need_document=True)
    missed = []
    for name in {str(question.document) for question in questions}:
        (document,) = take_inputs(MANUALS / name, ReadOptions()).documents
        own = [q for q in questions if q.document == name and q.references]
        assert len(own) == 25
        missed += [q.text for q in own if find_right([document.text], q) != (0,)]
    assert len(missed) <= 4  # rows of tables, which are read with the heads of their columns


def test_the_page_holds_the_answers_to_its_questions() -> None:
    (case,) = draw_page(Words())
    assert len(case.asked.questions) == 10
    page = " ".join(PAGE.split())
    assert all(question.references[0] in page for question in case.asked.questions)


def test_the_page_in_noise_holds_its_sentences_and_more_than_any_network_saw_in_a_chunk() -> None:
    cases = draw_chunks(Words(), [512, 8183])
    assert [case.compiling["chunk_tokens"] for case in cases] == [512, 8183]
    (asked,) = {case.asked for case in cases}
    assert ONE_CHUNK[1] < asked.n_tokens <= 2_500
    assert all(question.references[0] in asked.document.text for question in asked.questions)
    assert asked.document.text.split("Mira Oduya")[0].count(NOISE) > 20


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
