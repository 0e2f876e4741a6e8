"""Seats of documents compiled together: who gets how many, and who will be forgotten."""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from d2l.documents.chunks import Chunk
from d2l.errors import OptionError
from d2l.hypernets.networks import find_checkpoint
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.seats.compiling import FORMAT, SeatsNetwork
from d2l.hypernets.seats.config import SeatsConfig, read_config
from d2l.hypernets.seats.sharing import (
    SeatShare,
    find_forgotten,
    level_seats,
    name_forgotten,
    share_seats,
    split_seats,
    split_stable,
)

CONFIG: SeatsConfig = read_config(find_checkpoint("smollm2-135m").path / "config.json")
NETWORK = SeatsNetwork(find_checkpoint("smollm2-135m"), CONFIG, FORMAT)


def share(*lengths: Sequence[int], **changes: object) -> list[list[int]]:
    return share_seats(lengths, CONFIG, CompileOptions(**changes))  # type: ignore[arg-type]


def make_chunks(**documents: tuple[int, int]) -> list[Chunk]:
    """One chunk a document, of (tokens, seats)."""
    opening = CONFIG.read_opening
    return [
        Chunk(n, (*opening, *range(n_tokens)), "", name, n_seats, (0, 1))
        for n, (name, (n_tokens, n_seats)) in enumerate(documents.items())
    ]


def warn(**documents: tuple[int, int]) -> list[str]:
    """Warnings about documents of (tokens, seats)."""
    tokens = Counter({name: n_tokens for name, (n_tokens, _) in documents.items()})
    return NETWORK._warn(make_chunks(**documents), tokens)


# ---- who gets how many --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "shares"),
    [
        ([[200], [40], [20]], [[120], [40], [20]]),  # while they fit: as alone
        ([[240], [240, 240]], [[80], [80, 80]]),  # what the network still remembers, by length
        # All seats are used, though the sum of the lengths alone would be given fewer.
        ([[60]] * 5, [[48]] * 5),
    ],
)
def test_seats_are_shared_by_length(lengths: list[list[int]], shares: list[list[int]]) -> None:
    assert share(*lengths) == shares
    assert [sum(one) for one in share([240] * 4, [240] * 4, [240] * 9)] == [80, 80, 80]


def test_a_long_document_does_not_take_the_seats_of_a_short_one() -> None:
    alone = share([240])[0][0]
    (page,), invoice = share([240], [240] * 8)
    assert page == alone == 120
    assert sum(invoice) == CONFIG.max_seats - alone
    assert invoice == [15] * 8  # its own chunks share by length


def test_a_manual_with_parts_gives_its_seats_to_its_first_pages() -> None:
    options = CompileOptions()
    (manual,) = share_seats([[150] * 20], CONFIG, options, keeps_parts=True)
    assert manual == [150, 90, *[0] * 18]
    manual, page = share_seats([[150] * 20, [200]], CONFIG, options, keeps_parts=True)
    assert (manual, page) == ([120, *[0] * 19], [120])
    # What the network remembers at fewer seats than tokens keeps them all along.
    assert share_seats([[200, 200]], CONFIG, options, keeps_parts=True) == [[100, 100]]


def test_max_rank_bounds_all_of_them_together() -> None:
    assert [sum(one) for one in share([200], [200], max_rank=50)] == [25, 25]
    with pytest.raises(OptionError, match="the shortest opening has 18"):
        share([200], [200], max_rank=5)


def test_averaged_documents_all_have_the_same_seats() -> None:
    assert share([200], [40], merge="average") == [[120], [120]]


@pytest.mark.parametrize(
    ("wanted", "n_seats", "granted"),
    [
        ((3, 4), 10, [3, 4]),
        ((100, 3, 100), 63, [30, 3, 30]),
        ((5, 100, 7), 20, [5, 8, 7]),
        ((9, 9, 9), 20, [6, 7, 7]),
        ((9, 9, 9), 2, [0, 1, 1]),
        ((), 5, []),
    ],
)
def test_who_wants_little_gets_it_and_the_rest_is_shared(
    wanted: tuple[int, ...], n_seats: int, granted: list[int]
) -> None:
    assert level_seats(wanted, n_seats) == granted


@pytest.mark.parametrize("chunking", ["usual", "stable"])
def test_short_documents_keep_their_seats_however_texts_are_cut(chunking: str) -> None:
    page, invoice = share([240], [100, 240, 77] * 8, chunking=chunking)
    assert (page, sum(invoice)) == ([120], CONFIG.max_seats - 120)


def test_stable_chunks_have_seats_by_their_own_length_alone() -> None:
    sizes = [100, 77, 58, 91, 63, 80]
    before = split_stable(sizes, 240)
    after = split_stable([100, 78, *sizes[2:]], 240)
    assert sum(one != other for one, other in zip(before, after, strict=True)) <= 2


@pytest.mark.parametrize("split", [split_seats, split_stable])
def test_splits_add_up_whatever_the_sizes(split: Callable[[Sequence[int], int], list[int]]) -> None:
    for sizes in ([1], [5, 5, 5], [1, 2, 2, 31], [240] * 7):
        for n_seats in range(60):
            found = split(sizes, n_seats)
            assert sum(found) == n_seats
            assert min(found) >= 0


# ---- who will be forgotten ----------------------------------------------------------------------


def test_those_beyond_what_the_network_remembers_are_named_with_a_remedy() -> None:
    (said,) = warn(page=(240, 120), invoice=(800, 60), book=(9_000, 60))
    assert said == (
        "little will be remembered of invoice (800 tokens in 60 seats), book (9,000 tokens in 60 "
        "seats): this network remembers about 4 tokens a seat, and all share 240 seats (give each "
        "an adapter of its own (d2l batch), and compile only the pages that matter of the long "
        "ones)"
    )


def test_remedies_are_those_that_help() -> None:
    (short,) = warn(page=(240, 120), invoice=(800, 60))
    assert short.endswith("(give each an adapter of its own (d2l batch))")
    (long,) = warn(page=(240, 120), book=(9_000, 60))
    assert long.endswith("(compile only the pages that matter of the long ones)")


def test_nothing_is_said_of_documents_that_are_remembered() -> None:
    assert warn(a=(240, 80), b=(480, 160)) == []
    assert warn(a=(944, 236), b=(5, 1)) == []  # rounded by a seat


def test_a_document_without_a_seat_is_forgotten() -> None:
    (said,) = warn(a=(900, 240), b=(3, 0))
    assert "b (3 tokens in 0 seats)" in said
    assert "a (900" not in said


def test_a_single_document_is_told_of_its_length_or_of_its_few_seats() -> None:
    (said,) = warn(a=(1_000, 240))
    assert said.startswith("the document has 1,000 tokens and this network holds about 960")
    (said,) = warn(a=(240, 20))
    assert said.startswith("a has 240 tokens for 20 seats, and this network remembers about 4")


def test_of_many_five_are_named() -> None:
    shares = [SeatShare(f"{n}.txt", 500, 2) for n in range(7)]
    assert find_forgotten(shares, CONFIG) == shares
    said = name_forgotten(shares, CONFIG, alone="x")
    assert "4.txt (500 tokens in 2 seats) and 2 more: " in said
    assert "5.txt" not in said
