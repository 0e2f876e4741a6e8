"""Which items are asked."""

from d2l.evaluation.sampling import pick_evenly


def test_what_is_picked_lies_evenly() -> None:
    assert pick_evenly(range(10), 1) == [5]
    assert pick_evenly(range(10), 2) == [2, 7]
    assert pick_evenly(range(100), 4) == [12, 37, 62, 87]
    assert pick_evenly("abc", 9) == ["a", "b", "c"]
    assert pick_evenly("abc", 0) == []
