import math
from dataclasses import replace

import pytest

from d2l.evaluation.recall.arms import Gathered, Mark
from d2l.evaluation.recall.report import (
    Cell,
    Probe,
    describe_count,
    make_rows,
    make_silence_rows,
)

CELL = Cell(set="dev", length=240, documents=2, tokens=200.5, seats=25.0)
KEYS = ["contained", "em", "f1", "nll", "nll_without_end"]


def mark(contained: float, nll: float = 1.0) -> Mark:
    return Mark(contained, 0.0, contained / 2, nll, nll - 0.5)


def gather(*adapter: Mark, prompt: tuple[Mark, ...] = ()) -> Gathered:
    return Gathered(list(adapter), prompt=list(prompt), base=[mark(0.0)], n_cut=1)


def test_every_mean_comes_with_its_count_and_standard_error() -> None:
    adapter, base = make_rows(CELL, gather(mark(1, 1), mark(0, 2), mark(1, 6)))
    assert {key: adapter[key] for key in ("set", "length", "arm", "n", "documents")} == {
        "set": "dev",
        "length": 240,
        "arm": "adapter",
        "n": 3,
        "documents": 2,
    }
    assert adapter["contained"] == pytest.approx(2 / 3)
    # Sample deviation over the root of n; for shares, sqrt(p (1 - p) / (n - 1)).
    assert adapter["stderr"]["contained"] == pytest.approx(math.sqrt(2 / 3 * 1 / 3 / 2))
    assert adapter["nll"] == pytest.approx(3.0)
    assert adapter["stderr"]["nll"] == pytest.approx(math.sqrt((4 + 1 + 9) / 2 / 3))
    assert list(adapter["stderr"]) == KEYS
    assert base["arm"] == "base"
    assert base["stderr"] == dict.fromkeys(KEYS)  # one question says nothing of the spread


def test_the_prompt_arm_says_how_many_documents_were_cut() -> None:
    rows = make_rows(CELL, gather(mark(1), prompt=(mark(0, 1), mark(1, 3))))
    assert [row["arm"] for row in rows] == ["adapter", "prompt", "base"]
    assert (rows[1]["nll"], rows[1]["cut"]) == (2.0, 1)
    assert "cut" not in rows[0]


def test_rows_and_harm_are_all_that_is_printed_as_json() -> None:
    rows = tuple(make_rows(CELL, gather(mark(1))))
    assert Probe(rows, {"kl": 0.1}, ("a remark",)).to_json() == {
        "rows": list(rows),
        "harm": {"kl": 0.1},
    }
    assert Probe(rows).to_json() == {"rows": list(rows)}


# ---- what the document does not answer ----------------------------------------------------------


def say(*silent: bool, contained: float = 0.0) -> list[Mark]:
    return [replace(mark(contained), silent=one) for one in silent]


def test_false_answers_and_false_silences_are_counted_by_arm() -> None:
    answered = Gathered(say(True, False, False, False), prompt=say(False), base=say(True, True))
    unanswered = Gathered(say(False, True, True), prompt=say(True), base=say(False, False))
    adapter, prompt, base = make_silence_rows(CELL, answered, unanswered)
    assert (adapter["false_answers"]["n"], adapter["false_answers"]["count"]) == (3, 1)
    assert adapter["false_answers"]["share"] == pytest.approx(1 / 3)
    assert adapter["false_answers"]["stderr"] == pytest.approx(math.sqrt(1 / 3 * 2 / 3 / 2))
    assert adapter["false_silences"] == {"n": 4, "count": 1, "share": 0.25, "stderr": 0.25}
    assert (prompt["arm"], prompt["false_answers"]["count"]) == ("prompt", 0)
    assert (base["false_answers"]["share"], base["false_silences"]["share"]) == (1.0, 1.0)
    assert describe_count(adapter["false_silences"]) == "1 of 4 (0.25 ± 0.25)"


def test_an_answer_that_holds_the_reference_is_no_false_silence() -> None:
    """Where the document itself says that something is not known."""
    answered = Gathered(say(True, contained=1.0))
    (row,) = make_silence_rows(CELL, answered, Gathered(say(True)))
    assert row["false_silences"]["count"] == 0
    (alone,) = make_silence_rows(CELL, Gathered(), Gathered(say(True)))
    assert alone["false_silences"] is None
    assert describe_count(None) == "–"
