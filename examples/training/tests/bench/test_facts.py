import pytest

from d2l_lab.bench.facts import FactMarks, mark_facts
from d2l_lab.questions import Question


def mark(
    answer: str, *facts: tuple[str, ...], kind: str = "howto", wrong: tuple[str, ...] = ()
) -> FactMarks:
    return mark_facts(answer, Question("How?", (), kind=kind, facts=facts, wrong=wrong))


def test_facts_are_the_share_that_an_answer_has_in_any_phrasing() -> None:
    facts = (("press t",), ("drop", "lay down"), ("five seconds", "5 seconds"), ("slot",))
    said = "First lay down the item, then press T. It takes 5 seconds."
    assert mark(said, *facts) == FactMarks(0.75, refused=False, wrong=False)
    assert mark("", *facts).share == 0.0
    assert mark("The manual does not say.", kind="none").share == 0.0


@pytest.mark.parametrize(
    ("phrase", "answer", "counts"),
    [
        ("select", "The selected slot", True),  # from the start of a word
        ("elect", "The selected slot", False),
        ("t", "Press t.", True),  # short words are whole
        ("t", "Press the key", False),
        ("led", "Two LEDs blink", True),  # or their plural
        ("led", "It is a ledger", False),
        ("fuse", "The fuses are small", True),
        ("5", "It takes 5 s", True),  # numbers are whole
        ("5", "It takes 15 s", False),
        ("5", "It takes 50 s", False),
        ("5", "It takes 5.2 s", False),
        ("2", "It takes 5.2 s", False),
        ("5", "At 5:30", False),
        ("5", "It takes 5V", True),
        ("2.4", "Version 2.4, which", True),
        ("up-in-the-air", "the Up In The Air slot", True),  # dashes and case
        ("up in the air", "the up\N{EN DASH}in\N{NON-BREAKING HYPHEN}the-air slot", True),
        ("don't lie", "You don\N{RIGHT SINGLE QUOTATION MARK}t lie", True),  # quotes
        ("save as", "choose \N{LEFT DOUBLE QUOTATION MARK}Save `as`**", True),
        ("red, green", "red green and blue", True),  # commas
        ("1,500", "about 1500 rows", True),
        ("1500", "about 1,500 rows", True),
        ("500", "about 1,500 rows", False),
        ("/etc/fstab", "Edit /etc/fstab: then", True),
        ("a/b", "a b", False),
        ("10 Ω", "of 10 \N{OHM SIGN} each", True),
    ],
)
def test_phrases_are_compared_by_words(phrase: str, answer: str, counts: bool) -> None:
    assert mark(answer, (phrase,)).share == float(counts)


def test_long_how_tos_and_overviews_count_half() -> None:
    words = "screw " * 249 + "done"
    assert mark(words, ("screw",)).share == 1.0
    for kind, share in (("howto", 0.5), ("overview", 0.5), ("list", 1.0), ("why", 1.0)):
        assert mark(f"{words} now", ("screw",), kind=kind).share == share


def test_phrases_of_inventions_are_found() -> None:
    assert mark("Hold it for 10 seconds.", kind="none", wrong=("10 seconds",)).wrong
    assert not mark("Hold it for 110 seconds.", kind="none", wrong=("10 seconds",)).wrong


def test_a_refusal_with_an_invention_is_none_if_there_is_no_answer() -> None:
    said, wrong = "The manual does not say. Hold it for 10 seconds.", ("10 seconds",)
    assert mark(said, kind="none", wrong=wrong) == FactMarks(0.0, refused=False, wrong=True)
    assert mark(said, ("reset",), wrong=wrong) == FactMarks(0.0, refused=True, wrong=True)


@pytest.mark.parametrize(
    "answer",
    [
        "The document does not say.",
        "The manual's third chapter doesn't really explain the battery.",
        "This is not explicitly mentioned.",
        "It isn't covered; the fuse is.",
        "That is not given in the text.",
        "There is no clear information about it.",
        "I cannot find this.",
        "It is unable to tell.",
        "The guide says nothing about that.",
    ],
)
def test_refusals_are_found_anywhere(answer: str) -> None:
    assert mark(answer, kind="none").refused
    assert mark(f"Press t. {answer}", ("press",)).refused


@pytest.mark.parametrize(
    "answer",
    [
        "Do not open the case.",
        "The fuse does not get hot.",
        "No screws are needed.",
        "It cannot be undone.",
        "Nothing happens.",
        "",
    ],
)
def test_answers_that_deny_something_are_no_refusals(answer: str) -> None:
    assert not mark(answer, ("x",)).refused
