"""Words for an opening that no text holds: pieces that a vocabulary has left over."""

from pathlib import Path

from d2l.bases.tokenizers import BaseTokenizer
from d2l.training.seats.rare_words import choose_leftovers, count_tokens, list_leftovers
from tests import tiny

PIECES = (
    " include", " includ", " includes", " happen", " happ", " zebra", " zebr", " the", " th",
    "includ", " Includ", " surprise", " surpri", " incl", " ab",
)  # fmt: skip
COUNTS = {0: 900, 2: 90, 3: 500, 5: 2, 7: 90_000, 11: 400, 12: 40, 13: 1}


def list_words(total: int = 10_000_000) -> list[str]:
    return [PIECES[number] for number in list_leftovers(PIECES, COUNTS, total)]


def test_left_over_is_what_begins_frequent_words_and_stands_in_no_text() -> None:
    # Not " zebr", as zebras are rare; not " surpri", which some texts hold; " th" is too short.
    assert list_words() == [" includ", " happ", " incl"]


def test_rare_and_frequent_are_shares_of_the_texts() -> None:
    assert list_words(100_000_000) == []  # in so many tokens 900 are few
    # Of a fifth of the tokens 2 zebras are still too few, and 40 of " surpri" still too many.
    assert list_words(2_000_000) == [" includ", " happ", " incl"]


def test_the_rarest_come_first() -> None:
    counts = {**COUNTS, 1: 5}
    found = [PIECES[number] for number in list_leftovers(PIECES, counts, 10_000_000)]
    assert found == [" happ", " incl", " includ"]


def test_pieces_of_words_that_are_less_frequent_come_last() -> None:
    counts = {**COUNTS, 1: 5, 5: 200}  # of " zebra", which leaves " zebr"
    found = [PIECES[number] for number in list_leftovers(PIECES, counts, 10_000_000)]
    assert found == [" happ", " incl", " includ", " zebr"]


def test_tokens_are_counted_over_all_texts(tmp_path: Path) -> None:
    tokenizer = BaseTokenizer(tiny.write_base(tmp_path / "base", "llama"))
    (pump,) = tokenizer.encode(" pump")
    counts, total = count_tokens([" pump harbor", " pump"], tokenizer)
    assert (counts[pump], total) == (2, 3)


def test_words_stand_as_one_token_each_and_begin_differently() -> None:
    pieces = [" includ", " inclusi", " happ", " two parts", " opin"]

    class Joining:
        """Joins " happ opin" to one token, and cuts " two parts" into two."""

        def encode(self, text: str) -> list[int]:
            ids, rest = [], text
            known = {" happ opin": 9, " two": 7, " parts": 8, "head": 6}
            known |= {piece: number for number, piece in enumerate(pieces) if number != 3}
            while rest:
                piece = max((one for one in known if rest.startswith(one)), key=len)
                ids.append(known[piece])
                rest = rest[len(piece) :]
            return ids

    found = choose_leftovers(
        range(5),
        pieces=pieces,
        before="head",
        tokenizer=Joining(),  # type: ignore[arg-type]
    )
    assert found == [0, 2]
