"""Text in pieces: nothing that is said is taken back, and nothing of a stop text is said."""

from hypothesis import given, settings
from hypothesis import strategies as st

from d2l.answer.writing import Pieces


def say(text: str, stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    """The pieces of a text whose tokens are its UTF-8 bytes."""
    raw = text.encode()
    cutter = Pieces(lambda ids: bytes(ids).decode("utf-8", "replace"), stop)
    pieces = [cutter.take(list(raw[: n + 1])) for n in range(len(raw))]
    return [*pieces, cutter.take(list(raw), last=True)], cutter.stopped


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=30).filter(lambda text: "\ufffd" not in text))
def test_pieces_make_the_whole(text: str) -> None:
    pieces, _ = say(text)
    assert "".join(pieces) == text.strip()
    assert not any("\ufffd" in piece for piece in pieces)


@settings(deadline=None, max_examples=60)
@given(st.text("abc", max_size=20), st.lists(st.text("abc", min_size=1, max_size=3), max_size=3))
def test_what_is_said_ends_before_the_first_stop_text(text: str, stops: list[str]) -> None:
    pieces, stopped = say(text, tuple(stops))
    places = [text.index(stop) for stop in stops if stop in text]
    # Token by token, so the stop text that is complete first counts.
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    assert stopped == bool(places)
    if not places:
        assert "".join(pieces) == text
        return
    first = text[: min(ends)]
    cut = min(first.index(stop) for stop in stops if stop in first)
    assert "".join(pieces) == text[:cut]
