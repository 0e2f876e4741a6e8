import math

import pytest

from d2l.errors import ProbeError
from d2l.evaluation.recall.arms import Gathered, Mark, Marks
from d2l.evaluation.recall.report import Cell, Probe, make_rows, require_scores

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
