import math
from dataclasses import replace

import pytest

from d2l.errors import ProbeError
from d2l.evaluation.recall.arms import Gathered, Mark, Marks
from d2l.evaluation.recall.report import (
    Cell,
    Probe,
    describe_count,
    make_rows,
    make_silence_rows,
    require_scores,
)

CELL = Cell(set="dev", length=240, documents=2, tokens=200.5, seats=25.0)
KEYS = ["contained", "em", "f1", "nll", "nll_without_end"]


def mark(contained: float, nll: float = 1.0) -> Mark:
    return Mark(contained, 0.0, contained / 2, nll, nll - 0.5)


def gather(*adapter: Mark, **prompt: Mark) -> Gathered:
    marks = {name: Marks([one] * 2, n_cut=1) for name, one in prompt.items()}
    return Gathered(Marks(list(adapter)), Marks([mark(0.0)]), marks)


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


def test_the_best_wording_is_compared_with_and_the_others_are_listed() -> None:
    rows = make_rows(CELL, gather(mark(1), a=mark(0, 1), b=mark(1, 3), c=mark(1, 2)))
    assert [row["arm"] for row in rows] == ["adapter", "prompt", "base"]
    prompt = rows[1]
    assert (prompt["wording"], prompt["nll"], prompt["cut"]) == ("c", 2.0, 1)
    assert {name: row["nll"] for name, row in prompt["wordings"].items()} == {
        "a": 1,
        "b": 3,
        "c": 2,
    }
    (alone,) = [row for row in make_rows(CELL, gather(mark(1), a=mark(0))) if "wording" in row]
    assert "wordings" not in alone


def test_rows_and_harm_are_all_that_is_printed_as_json() -> None:
    rows = tuple(make_rows(CELL, gather(mark(1))))
    assert Probe(rows, {"kl": 0.1}, ("a remark",)).to_json() == {
        "rows": list(rows),
        "harm": {"kl": 0.1},
    }
    assert Probe(rows).to_json() == {"rows": list(rows)}


def test_every_row_of_the_adapter_must_reach_the_bounds() -> None:
    good, bad = make_rows(CELL, gather(mark(1))), make_rows(CELL, gather(mark(1), mark(0)))
    require_scores(good, {"contained": 1.0, "f1": 0.5})
    with pytest.raises(ProbeError) as caught:
        require_scores([*good, *bad], {"contained": 0.6, "f1": 0.2})
    assert caught.value.message == "dev, 240 tokens: contained is 0.500, under 0.6"
    nowhere = make_rows(Cell("notes", None, 1, None, None), gather(mark(0)))
    with pytest.raises(ProbeError, match=r"^notes: em is 0\.000, under 0\.1$"):
        require_scores(nowhere, {"em": 0.1})


# ---- what the document does not answer ----------------------------------------------------------


def say(*silent: bool, contained: float = 0.0) -> Marks:
    return Marks([replace(mark(contained), silent=one) for one in silent])


def test_false_answers_and_false_silences_are_counted_by_arm() -> None:
    answered = Gathered(say(True, False, False, False), say(True, True), {"a": say(False)})
    unanswered = Gathered(say(False, True, True), say(False, False), {"a": say(True)})
    adapter, prompt, base = make_silence_rows(CELL, answered, unanswered)
    assert (adapter["false_answers"]["n"], adapter["false_answers"]["count"]) == (3, 1)
    assert adapter["false_answers"]["share"] == pytest.approx(1 / 3)
    assert adapter["false_answers"]["stderr"] == pytest.approx(math.sqrt(1 / 3 * 2 / 3 / 2))
    assert adapter["false_silences"] == {"n": 4, "count": 1, "share": 0.25, "stderr": 0.25}
    assert (prompt["arm"], prompt["wording"], prompt["false_answers"]["count"]) == (
        "prompt",
        "a",
        0,
    )
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


def test_the_wording_is_the_one_that_answers_best_or_else_is_silent_most() -> None:
    unanswered = Gathered(say(True), Marks(), {"a": say(False), "b": say(True)})
    answered = Gathered(say(False), Marks(), {"a": say(False, contained=1.0), "b": say(False)})
    assert make_silence_rows(CELL, answered, unanswered)[1]["wording"] == "a"
    assert make_silence_rows(CELL, Gathered(), unanswered)[1]["wording"] == "b"
