import itertools
import json
import random
import re
from pathlib import Path

import pytest

from d2l.bases.tokenizers import BaseTokenizer
from d2l.documents.chunks import Piece, pack_sentences, split_evenly
from tests import tiny

SIBLING = Path(__file__).parents[2].parent / "shared" / "goldens" / "extras" / "chunking.json"
PREFIX, SUFFIX = (901, 902, 903), (951, 952)

#: Recorded from the original's chunking: tokens, limit, lengths, first and last id of each chunk.
RECORDED = (
    (10, 100, [10], [[0, 9]]),
    (100, 100, [100], [[0, 99]]),
    (101, 100, [53, 53], [[0, 952], [901, 100]]),
    (9, 2, [4, 7, 7, 7, 4], [[0, 952], [901, 952], [901, 952], [901, 952], [901, 8]]),
    (17, 5, [7, 10, 10, 5], [[0, 952], [901, 952], [901, 952], [901, 16]]),
    (1025, 512, [344, 347, 344], [[0, 952], [901, 952], [901, 1024]]),
)


class Words:
    """A token is a word; ids are the words themselves in order of appearance."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        return [self.known.setdefault(word, len(self.known)) for word in text.split()]

    def token_starts(self, text: str) -> list[int]:
        return [match.start() for match in re.finditer(r"\S+", text)]


class Characters:
    """A token is a character, white space included."""

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def token_starts(self, text: str) -> list[int]:
        return list(range(len(text)))


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> BaseTokenizer:
    """The tiny tokenizer: one token a byte for most of what it was not trained on."""
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.json").write_text(tiny.tokenizer_json(), "utf-8")
    return BaseTokenizer(folder)


def pack(text: str, limit: int, minimum: int = 0) -> list[str]:
    """Texts of the pieces, a token being a word."""
    return [
        piece.text
        for piece in pack_sentences(text, tokenizer=Words(), limit=limit, minimum=minimum)
    ]


# ---- split_evenly -------------------------------------------------------------------------------


def test_seventeen_tokens_at_most_five_make_slices_of_five_five_five_two() -> None:
    chunks = split_evenly(range(17), limit=5, prefix=PREFIX, suffix=SUFFIX)
    assert chunks == [
        ((0, 1, 2, 3, 4, 951, 952), 0, 5),
        ((901, 902, 903, 5, 6, 7, 8, 9, 951, 952), 5, 10),
        ((901, 902, 903, 10, 11, 12, 13, 14, 951, 952), 10, 15),
        ((901, 902, 903, 15, 16), 15, 17),
    ]


def check_row(
    n_tokens: int, limit: int, lengths: list[int], ends: list[list[int]] | None = None
) -> None:
    chunks = split_evenly(range(n_tokens), limit=limit, prefix=PREFIX, suffix=SUFFIX)
    assert [len(ids) for ids, _, _ in chunks] == lengths
    if ends is not None:
        assert [[ids[0], ids[-1]] for ids, _, _ in chunks] == ends


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: f"{row[0]}-by-{row[1]}")
def test_chunks_are_those_of_the_original(row: tuple) -> None:
    check_row(*row)


def test_chunks_are_those_of_every_recorded_row() -> None:
    if not SIBLING.is_file():
        pytest.skip("the recorded chunkings are not beside the repository")
    recorded = json.loads(SIBLING.read_text("utf-8"))
    assert (recorded["prefix"], recorded["suffix"]) == (list(PREFIX), list(SUFFIX))
    for row in recorded["chunking"]:
        check_row(
            row["n_tokens"], row["max_chunk_len"], row["chunk_lengths"], row.get("first_and_last")
        )


def test_slices_cover_the_tokens_in_order_and_differ_only_at_the_end() -> None:
    for count in range(1, 60):
        for limit in range(1, 20):
            chunks = split_evenly(range(count), limit=limit, prefix=(), suffix=())
            assert [n for ids, _, _ in chunks for n in ids] == list(range(count))
            assert all(tuple(range(start, stop)) == ids for ids, start, stop in chunks)
            sizes = [stop - start for _, start, stop in chunks]
            assert len(chunks) == -(-count // limit)
            assert len(set(sizes[:-1])) <= 1
            assert max(sizes) == sizes[0] <= limit


@pytest.mark.parametrize("limit", [0, -1, 17, 18, 10**12])
def test_without_a_limit_or_below_it_nothing_is_cut_or_added(limit: int) -> None:
    chunks = split_evenly(range(17), limit=limit, prefix=PREFIX, suffix=SUFFIX)
    assert chunks == [(tuple(range(17)), 0, 17)]


def test_no_tokens_are_one_empty_chunk() -> None:
    assert split_evenly([], limit=5, prefix=PREFIX, suffix=SUFFIX) == [((), 0, 0)]


# ---- pack_sentences -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Open it. Close it! Is it? Yes", ["Open it.", "Close it!", "Is it?", "Yes"]),
        ("Open it.\tClose it.  Wait.", ["Open it.", "Close it.", "Wait."]),
        ("first line\nsecond line\n\nthird", ["first line", "second line", "third"]),
        ("first line\r\nsecond line\r\n", ["first line", "second line"]),
        ("Wait... Now?! Go.", ["Wait...", "Now?!", "Go."]),
        ("It holds 3.5 bar, v1.2!x and a.b?c now", ["It holds 3.5 bar, v1.2!x and a.b?c now"]),
        ('He said "Stop." Then he left', ['He said "Stop." Then he left']),  # a quote follows
        ("  . ! ?  ", [".", "!", "?"]),
        ("\n\n lone \n\n", ["lone"]),
    ],
)
def test_sentences_end_at_marks_before_white_space_and_at_line_ends(
    text: str, sentences: list[str]
) -> None:
    class Whole(Words):
        """Every sentence is one token and two joined are two, so none are packed together."""

        def encode(self, text: str) -> list[int]:
            return [0] * (1 if text in sentences else 2)

    pieces = pack_sentences(text, tokenizer=Whole(), limit=1, minimum=0)
    assert [piece.text for piece in pieces] == sentences
    assert [text[piece.start : piece.stop] for piece in pieces] == sentences


def test_sentences_are_packed_greedily_and_joined_by_one_space() -> None:
    text = "One two three.\n\nFour five six.   Seven eight nine ten. Eleven."
    assert pack(text, 6) == ["One two three. Four five six.", "Seven eight nine ten. Eleven."]
    assert pack(text, 5) == [
        "One two three.",
        "Four five six.",
        "Seven eight nine ten. Eleven.",
    ]
    assert pack(text, 11) == ["One two three. Four five six. Seven eight nine ten. Eleven."]


def test_the_joining_space_counts() -> None:
    text = "ab.\ncd."
    pieces = pack_sentences(text, tokenizer=Characters(), limit=7, minimum=0)
    assert pieces == [Piece("ab. cd.", tuple(map(ord, "ab. cd.")), 0, 7)]
    pieces = pack_sentences(text, tokenizer=Characters(), limit=6, minimum=0)
    assert [(piece.text, piece.start, piece.stop) for piece in pieces] == [
        ("ab.", 0, 3),
        ("cd.", 4, 7),
    ]


def test_longer_sentence_is_cut_every_limit_tokens_and_the_rest_is_packed_on() -> None:
    text = "a b. one two three four five six seven. c d e"
    assert pack(text, 3) == ["a b.", "one two three", "four five six", "seven.", "c d e"]
    assert pack(text, 4) == ["a b.", "one two three four", "five six seven.", "c d e"]
    assert pack(text, 5) == ["a b.", "one two three four five", "six seven. c d e"]


def test_cut_sentence_keeps_its_own_tokens() -> None:
    sentence = "abc defg hijkl"
    pieces = pack_sentences(sentence, tokenizer=Characters(), limit=4, minimum=0)
    assert [piece.token_ids for piece in pieces] == [
        tuple(map(ord, part)) for part in ("abc ", "defg", " hij", "kl")
    ]
    assert [piece.text for piece in pieces] == ["abc", "defg", "hij", "kl"]
    assert [(piece.start, piece.stop) for piece in pieces] == [(0, 4), (4, 8), (8, 12), (12, 14)]


def test_last_piece_under_the_minimum_joins_the_one_before_beyond_the_limit() -> None:
    text = "One two three. Four five. Six."
    assert pack(text, 3, 0) == ["One two three.", "Four five. Six."]
    assert pack(text, 3, 3) == ["One two three.", "Four five. Six."]
    assert pack(text, 3, 4) == ["One two three. Four five. Six."]
    assert pack("a b c d e f g", 3, 2) == ["a b c", "d e f g"]


def test_only_the_last_piece_may_be_under_the_minimum_and_join() -> None:
    assert pack("One. Two three four five. Six seven eight nine.", 4, 3) == [
        "One.",
        "Two three four five.",
        "Six seven eight nine.",
    ]
    assert pack("One.", 4, 3) == ["One."]


def test_places_are_characters_of_the_document() -> None:
    text = "\n  Héllo wörld.   It  goes\n\n日本 語. \r\n end"
    pieces = pack_sentences(text, tokenizer=Words(), limit=4, minimum=0)
    assert [(piece.text, text[piece.start : piece.stop]) for piece in pieces] == [
        ("Héllo wörld. It  goes", "Héllo wörld.   It  goes"),
        ("日本 語. end", "日本 語. \r\n end"),
    ]


@pytest.mark.parametrize("text", ["", " ", "\n\r\n\t\u3000"])
def test_nothing_but_white_space_gives_no_piece(text: str) -> None:
    assert pack(text, 5, 3) == []


def test_character_cut_through_its_bytes_shows_in_the_right_piece(
    byte_level: BaseTokenizer,
) -> None:
    ids = byte_level.encode("x\U0001f600y")
    assert len(ids) == 6  # the emoji is four bytes, each a token
    pieces = pack_sentences("x\U0001f600y", tokenizer=byte_level, limit=3, minimum=0)
    assert [piece.token_ids for piece in pieces] == [tuple(ids[:3]), tuple(ids[3:])]
    assert [(p.text, p.start, p.stop) for p in pieces] == [("x", 0, 1), ("\U0001f600y", 1, 3)]


def test_pieces_hold_the_whole_text_within_the_limit(byte_level: BaseTokenizer) -> None:
    generator = random.Random(5)
    letters = "abcé日\U0001f600 .!?\n\t1 pump valve "
    for limit, minimum in ((8, 0), (24, 4), (60, 16)):
        text = "".join(generator.choices(letters, k=3000))
        pieces = pack_sentences(text, tokenizer=byte_level, limit=limit, minimum=minimum)
        assert all(0 < len(piece.token_ids) <= limit for piece in pieces[:-1])
        assert len(pieces[-1].token_ids) <= limit + minimum
        assert "".join("".join(p.text for p in pieces).split()) == "".join(text.split())
        for left, right in itertools.pairwise(pieces):
            assert left.stop <= right.start
            assert not text[left.stop : right.start].strip()
        for piece in pieces:
            assert piece.text.split() == text[piece.start : piece.stop].split()
