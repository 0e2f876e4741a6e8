"""Groups of a size."""

from d2l.bases.batches import batched


def test_batches_hold_all_items_in_order() -> None:
    assert batched("abcde", 2) == ["ab", "cd", "e"]
    assert batched(range(4), 4) == [range(4)]
    assert batched([], 3) == []
