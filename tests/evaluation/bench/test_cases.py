import json
import random
from pathlib import Path

import pytest

from d2l.errors import ProbeError
from d2l.evaluation.bench.cases import (
    DEPTHS,
    NEEDLE_BINS,
    draw_needle,
    draw_needles,
    draw_phonebooks,
    draw_texts,
)
from d2l.evaluation.metrics import published_f1

GOLDENS = Path(__file__).parents[4] / "shared" / "goldens" / "extras"
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."


class Words:
    """A tokenizer whose tokens are words."""

    def encode(self, text: str) -> list[int]:
        return list(range(len(text.split())))

    def token_starts(self, text: str) -> list[int]:
        raise NotImplementedError


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
    (case, *_) = draw_needles(Words(), fewest=32, most=128, depths=1, count=1, seed=1)
    assert case.asked.questions[0].text == row["prompt"]


def test_needle_sets_have_the_published_lengths_and_all_depths() -> None:
    assert NEEDLE_BINS[:5] == ((32, 128), (128, 256), (256, 512), (512, 1_024), (1_024, 2_048))
    assert (len(NEEDLE_BINS), NEEDLE_BINS[-1]) == (35, (122_880, 131_072))
    cases = draw_needles(Words(), fewest=32, most=2_048, depths=3, count=2, seed=1)
    cells = [(case.cell["from"], case.cell["depth"]) for case in cases]
    wanted = [(low, depth) for low in (32, 128, 256, 512, 1_024) for depth in (1, 5, 8)]
    assert cells == [cell for cell in wanted for _ in range(2)]
    for case in cases:
        assert case.cell["from"] <= case.asked.n_tokens < case.cell["to"]
    again = draw_needles(Words(), fewest=1_024, most=2_048, depths=3, count=2, seed=1)
    assert again == cases[-6:]  # whatever else is drawn
    assert again != draw_needles(Words(), fewest=1_024, most=2_048, depths=3, count=2, seed=2)
    with pytest.raises(ProbeError, match="no needle set"):
        draw_needles(Words(), fewest=4_000, most=4_200, depths=1, count=1, seed=1)


# ---- texts and phone books ----------------------------------------------------------------------


def test_texts_are_binned_by_their_own_length_and_asked_a_few_questions_each(
    tmp_path: Path,
) -> None:
    path = tmp_path / "set.jsonl"
    rows = [
        {"doc": f"{n} " * n, "question": f"Which is {turn}?", "answers": [str(n)]}
        for n in (100, 110, 127, 128, 300)
        for turn in range(7)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    cases = draw_texts(Words(), path, lengths=(), limit=8)
    drawn = [(case.cell["to"], case.asked.n_tokens, len(case.asked.questions)) for case in cases]
    assert drawn == [(128, 100, 5), (128, 127, 3), (256, 128, 5), (512, 300, 5)]
    joined = draw_texts(Words(), path, lengths=(400,), limit=8)
    assert [case.asked.n_tokens for case in joined] == [128, 337, 400]  # the last is filled up


def test_a_phone_book_has_each_name_once_and_asks_for_some() -> None:
    (small, large) = draw_phonebooks(Words(), entries=(8, 2_000), limit=20, seed=1)
    assert (len(small.asked.questions), len(large.asked.questions)) == (8, 20)
    lines = large.asked.document.text.split("\n")
    numbers = dict(line.split(": ") for line in lines)
    assert (len(lines), len(numbers)) == (2_000, 2_000)
    for question in large.asked.questions:
        (name,) = [name for name in numbers if f" {name}?" in question.text]
        assert question.references == (numbers[name],)


@pytest.mark.skipif(not GOLDENS.exists(), reason="needs the goldens of the original")
def test_f1_is_that_of_the_original() -> None:
    known = json.loads((GOLDENS / "metrics.json").read_text("utf-8"))
    f1 = list(map(published_f1, known["predictions"], known["answers"]))
    assert f1 == pytest.approx(known["qa"]["per_sample"]["qa_f1_score"])
