"""Which parts are asked, and when none answers: by hand, at the product's own thresholds.

Parts are `kv` (a base's own keys and values: the base is instructed to refuse), `seats` (a network
that was trained to refuse) or `ranks` (read together, and never judged by an answer).
"""

from collections.abc import Sequence
from typing import Any

import pytest

from d2l.adapters.parts import OVERVIEW, PartIndex, PartRecord, Parts
from d2l.adapters.provenance import Opening
from d2l.answer.scope import find_named, read_question
from d2l.parts.judging import Choice
from d2l.parts.kept import KeptParts, PartOptions, Turns
from d2l.parts.kv import Kv
from d2l.parts.ranks import Ranks
from d2l.parts.router import Router
from d2l.parts.seats import Seats

KINDS: dict[str, type[KeptParts]] = {"kv": Kv, "seats": Seats, "ranks": Ranks}
OPENING = Opening(ids=(1,), text="", seats=())
#: Texts that share the word of the question, so that all parts are candidates.
ALIKE = [f"The pump of house {n} is old." for n in range(12)]
QUESTION = "Which pump?"


def make_part(text: str, n_tokens: int = 9, *headings: str, source: str = "") -> PartRecord:
    sizes = {"n_tokens": n_tokens, "n_seats": n_tokens}
    return PartRecord(document="mill.md", source=source, headings=headings, text=text, **sizes)


def make_kept(kind: str, parts: Sequence[PartRecord]) -> KeptParts:
    return KINDS[kind](Parts(PartIndex(opening=OPENING, parts=tuple(parts))))


def route(kept: KeptParts, turns: Turns, options: PartOptions) -> Choice:
    question = read_question(turns)
    return kept.route(question, options, find_named(question.text, kept.records))


def choose(kind: str, texts: Sequence[str], *questions: str, **options: Any) -> Choice:
    """Parts chosen for the last of several turns, by the user and the assistant in turn."""
    roles = ("user", "assistant")
    turns = [{"role": roles[n % 2], "content": text} for n, text in enumerate(questions)]
    kept = make_kept(kind, [make_part(text) for text in texts])
    return route(kept, turns, PartOptions(**options))


def judge(
    kind: str,
    shares: Sequence[float],
    entropies: Sequence[float],
    silent: Sequence[float],
) -> Choice:
    """Judge parts 0, 1, …: each has this share of the question's words, begins its answer with this
    entropy, and refuses with this probability."""
    judging = make_kept(kind, [make_part("")]).judging
    choice = Choice(tuple(range(len(shares))), tuple(4 * s for s in shares), 0.0, 4.0, judging)
    judged = choice.judge(entropies, silent)
    assert judged.silent == silent[judged.indices[0]]
    assert judged.scores == tuple(choice.scores[n] for n in judged.indices)
    return judged


# ---- order --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kv", "seats"])
def test_of_parts_with_equal_words_the_most_certain_comes_first(kind: str) -> None:
    assert judge(kind, [0.5] * 3, [2.0, 0.5, 1.0], [0.0] * 3).indices == (1, 2, 0)
    assert judge(kind, [0.5] * 3, [1.0] * 3, [0.0] * 3).indices == (0, 1, 2)


@pytest.mark.parametrize(("kind", "nats"), [("kv", 10), ("seats", 12)])
def test_all_words_of_a_question_weigh_as_much_as_so_many_nats(kind: str, nats: float) -> None:
    """In between a word's share counts: half of the words is half of the nats."""
    for share in (1.0, 0.5):
        for change, first in ((-0.1, 0), (0.1, 1)):
            judged = judge(kind, [share, 0.0], [share * nats + change, 0.0], [0.0, 0.0])
            assert judged.indices[0] == first


@pytest.mark.parametrize(("chance", "nats"), [(0.9, 2.302585), (0.5, 0.693147), (1.0, 13.815511)])
def test_a_trained_refusal_weighs_as_the_logarithm_of_its_opposite(
    chance: float, nats: float
) -> None:
    """ln(1 - p): of a tenth it is -2.3, and at most -13.8 (ln 1e-6)."""
    for change, first in ((-0.01, 1), (0.01, 0)):
        judged = judge("seats", [0.5, 0.5], [0.0, nats + change], [chance, 0.0])
        assert judged.indices[0] == first


def test_an_instructed_refusal_puts_a_part_behind_all_others_and_else_weighs_nothing() -> None:
    worst = [0.0, 12.0]  # nats: no vocabulary has more
    for chance, first in ((0.49, 0), (0.51, 1)):
        assert judge("kv", [1.0, 0.0], worst, [chance, 0.0]).indices[0] == first
    assert judge("kv", [0.5, 0.5], [0.0, 0.01], [0.49, 0.0]).indices[0] == 0
    assert judge("seats", [1.0, 0.0], worst, [0.51, 0.0]).indices[0] == 0


# ---- refusal ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "most"), [("kv", 0.5), ("seats", 0.18)])
def test_a_part_answers_if_its_refusal_is_less_likely_than_this(kind: str, most: float) -> None:
    for chance, is_answered in ((0.0, True), (most - 0.001, True), (most + 0.001, False)):
        judged = judge(kind, [1.0], [1.0], [chance])
        assert judged.is_answered is is_answered
        named = Choice((0,), (1.0,), 0.0, 1.0, judged.judging, named=True, silent=chance)
        assert named.is_answered  # the user named the page


def test_before_a_part_is_read_a_trained_network_needs_some_of_the_questions_words() -> None:
    """Of a question's weight, 5 % or more; an instructed base reads a part in any case."""
    for share, is_answered in ((0.049, False), (0.051, True)):
        for kind in ("kv", "seats", "ranks"):
            judging = make_kept(kind, [make_part("")]).judging
            choice = Choice((0,), (share,), 0.0, 1.0, judging)
            assert choice.is_answered is (is_answered or kind == "kv")
            assert choice.coverage == share


def test_half_of_a_questions_words_in_a_part_are_enough_though_rare_ones_weigh_more() -> None:
    texts = ALIKE * 4  # a word of all parts weighs next to nothing
    half = choose("seats", texts, "pump zugzwangxylophone?")
    third = choose("seats", texts, "pump zugzwang xylophone?")
    assert half.coverage < 0.05 > third.coverage
    assert (half.is_answered, third.is_answered) == (True, False)
    assert not choose("seats", texts, "zugzwang xylophone?").is_answered


# ---- the parts that the answer is read off ------------------------------------------------------


def test_a_full_answer_is_read_off_the_two_best_parts_in_their_order() -> None:
    shares, entropies = [0.1, 0.2, 0.9], [1.0, 3.0, 1.0]
    full = judge("kv", shares, entropies, [0.0] * 3)
    assert (full.indices, full.best, full.must_answer) == ((2, 0, 1), (0, 2), True)
    trained = judge("seats", shares, entropies, [0.0] * 3)
    assert (trained.best, trained.must_answer) == ((2,), False)


def test_a_part_that_refuses_is_not_read_for_a_full_answer() -> None:
    for chance, best in ((0.49, (0, 1)), (0.51, (1,))):
        judged = judge("kv", [0.9, 0.1], [1.0, 1.0], [chance, 0.0])
        assert judged.best == best
        assert judged.must_answer
    assert choose("kv", ALIKE, QUESTION).best == (0,)  # not judged yet


# ---- candidates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "usual"), [("kv", 8), ("seats", 4), ("ranks", 8)])
def test_so_many_parts_are_asked_or_as_many_as_the_user_wants(kind: str, usual: int) -> None:
    assert choose(kind, ALIKE, QUESTION).indices == tuple(range(usual))
    assert len(choose(kind, ALIKE, QUESTION, count=3).indices) == 3
    assert len(choose(kind, ALIKE, QUESTION, count=11).indices) == 11
    assert len(choose(kind, ALIKE[:2], QUESTION).indices) == 2


def test_the_best_part_by_words_comes_first_and_the_margin_is_its_lead() -> None:
    texts = ["The pump is blue.", "The lantern is lit at dusk.", "A lantern of copper."]
    router = Router(texts)
    question = "When is the lantern lit?"
    scores = router.score(question)
    choice = choose("kv", texts, question)
    assert choice.indices[:2] == (1, 2)
    assert choice.scores == tuple(float(scores[n]) for n in choice.indices)
    assert choice.margin == pytest.approx((scores[1] - scores[2]) / scores[1])
    assert 0 < choice.margin < 1
    assert choice.most == router.best(question)
    named = choose("kv", texts, question, page="#2")
    assert (named.indices, named.named) == ((2,), True)


def test_turns_before_count_half_for_a_question_that_goes_on() -> None:
    texts = ["The filter is rinsed every 14 days.", "The pump stands in the harbor.", "Nothing."]
    router = Router(texts)
    before = ("How often is the filter rinsed?", "Every 14 days.")
    told = router.score("\n".join(before))
    choice = choose("kv", texts, *before, "And how often the pump?")
    own = router.score("And how often the pump?")
    assert told[0] > own[0]
    for n, score in zip(choice.indices, choice.scores, strict=True):
        assert score == pytest.approx(own[n] + 0.5 * told[n])
    (first, *_), (most, *_) = choice.indices, choice.scores
    assert first == (0 if 0.5 * told[0] > own[1] else 1)
    assert choice.most == pytest.approx(min(router.best("And how often the pump?"), most))
    alone = choose("kv", texts, *before, "Where does the old pump stand?")
    assert alone.scores[0] == pytest.approx(router.score("Where does the old pump stand?")[1])


# ---- questions about the whole, or a chapter ----------------------------------------------------


def choose_chapter(kind: str, *sizes: int) -> Choice:
    valves = [make_part(f"Valve {n}.", size, "The mill", "Valves") for n, size in enumerate(sizes)]
    overview = make_part("Title: The mill\nValves", 50, source=OVERVIEW)
    parts = [make_part("The pump.", 9, "The mill", "Pump"), *valves, overview]
    turns = [{"role": "user", "content": "Summarize the chapter on valves."}]
    return route(make_kept(kind, parts), turns, PartOptions())


def test_a_chapter_is_read_together_up_to_2000_tokens() -> None:
    whole = choose_chapter("kv", 500, 500, 500, 500)
    assert (whole.indices, whole.best) == ((1, 2, 3, 4), (1, 2, 3, 4))
    assert (whole.together, whole.named, whole.must_answer) == (True, True, True)
    assert choose_chapter("kv", 500, 500, 500, 501).indices == (1, 2, 3)
    assert choose_chapter("kv", 1999, 2).indices == (1,)
    assert not choose_chapter("kv", 2001).together  # too long: the best parts are judged


def test_a_question_about_the_document_asks_its_overview() -> None:
    parts = [make_part(text) for text in ALIKE]
    overview = make_part("Title: The mill\nPumps", 50, source=OVERVIEW)
    kept = make_kept("kv", [*parts, overview])
    about = [{"role": "user", "content": "What is this document about?"}]
    choice = route(kept, about, PartOptions())
    assert (choice.indices, choice.together, choice.must_answer) == ((12,), True, True)
    by_hand = route(kept, about, PartOptions(count=12))
    assert 12 not in by_hand.indices
    assert not by_hand.together


def test_room_for_parts_is_that_of_the_longest_or_of_several_up_to_2000_tokens() -> None:
    parts = [make_part("", size) for size in (700, 900, 300)]
    assert make_kept("seats", parts).count_before(()) == 1 + 900
    assert make_kept("kv", parts).count_before(()) == 1 + 1900
    assert make_kept("kv", [*parts, *parts]).count_before(()) == 1 + 2000
    assert make_kept("kv", parts).count_before(range(1800)) == 101
