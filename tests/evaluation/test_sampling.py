"""Which items are asked, and in which batches."""

from d2l.evaluation.sampling import batched, pick_evenly


def test_what_is_picked_lies_evenly() -> None:
    assert pick_evenly(range(10), 1) == [5]
    assert pick_evenly(range(10), 2) == [2, 7]
    assert pick_evenly(range(100), 4) == [12, 37, 62, 87]
    assert pick_evenly("abc", 9) == ["a", "b", "c"]
    assert pick_evenly("abc", 0) == []


def test_batches_hold_all_items_in_order() -> None:
    assert batched("abcde", 2) == ["ab", "cd", "e"]
    assert batched(range(4), 4) == [range(4)]
    assert batched([], 3) == []
