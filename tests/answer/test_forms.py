"""Forms of an answer: yes or no, a fact that two answers agree on, sentences that no part says."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from d2l.adapters.parts import PartRecord
from d2l.answer.cite import Finish
from d2l.answer.events import Ending, Event, TextPiece
from d2l.answer.facts import agree, choose_fact, is_fact
from d2l.answer.forms import Forms
from d2l.answer.options import AskOptions
from d2l.answer.said import GAP, Said, leave_out
from d2l.answer.yes_no import decide, find_yes_no, turns_round
from d2l.datasets.silence import NOT_FOUND, SILENCE
from d2l.parts.kept import Context

PUMP = """The pump is cleaned every 40 hours. Set PUMP_MODE to `slow` before you open valve B2.
The red lamp shows an error. A local setting always overrides the site setting.
Never clean the filter with soap, since soap dissolves it."""
SITE = "The site has two pumps. The older pump was made in 1987 by Marsh and Son."


def make_part(text: str, *headings: str) -> PartRecord:
    return PartRecord(document="pump.md", source="", headings=headings, text=text, n_tokens=9)


PARTS = (make_part(PUMP, "Pump"), make_part(SITE, "Site"))


# ---- the form that a question wants -------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("Who made the pump?", True),
        ("Up to which pressure may the pump run?", True),
        ("How many pumps are there?", True),
        ("Does a local setting override the site setting?", True),
        ("Wann wurde die Pumpe gebaut?", True),
        ("Combien de pompes ?", True),
        ("How do I clean the pump?", False),
        ("Why is the lamp red?", False),
        ("Which valves must be open?", False),  # several
        ("What is the difference between both pumps?", False),
        ("What is the lamp for?", False),
        ("What is Marsh?", False),
        ("What happens if the lamp is red?", False),
        ("Warum ist die Lampe rot?", False),
        ("Clean the pump", False),
    ],
)
def test_few_words_answer_a_question_for_a_fact(question: str, wanted: bool) -> None:
    assert is_fact(question) is wanted


# ---- two answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("two", "Two pumps", True),
        ("8", "Eight", True),
        ("Marsh and Son", "It was made by Marsh and Son.", True),
        ("M2", "The screws are M2x5.", False),
        ("40 hours", "14 hours", False),
        ("slow", "fast", False),
    ],
)
def test_two_answers_agree_if_one_has_the_words_of_the_other(
    one: str, other: str, same: bool
) -> None:
    assert agree(one, other) is agree(other, one) is same


@pytest.mark.parametrize(
    ("question", "first", "second", "chosen"),
    [
        ("Who made the older pump?", "Marsh", "Marsh and Son", ("Marsh and Son", True)),
        ("Who made the older pump?", SILENCE, "Marsh and Son", ("Marsh and Son", True)),
        ("Who made the older pump?", SILENCE, "Miller", None),  # no part says so
        ("Who made the older pump?", SILENCE, "The older pump.", None),  # says nothing new
        ("Who made the older pump?", "Marsh", "The text does not say.", ("Marsh", True)),
        ("When was the older pump made?", "1978", SILENCE, ("1978", False)),
        ("When was the older pump made?", "1978", "1987", ("1987", False)),
        ("When was the older pump made?", "1987", "1978", ("1987", False)),
        ("How many pumps has the site?", "pumps of Marsh", "Marsh", ("pumps of Marsh", False)),
        ("Who?", SILENCE, SILENCE, None),
    ],
)
def test_of_two_answers_that_holds_which_a_part_says(
    question: str, first: str, second: str, chosen: tuple[str, bool] | None
) -> None:
    fact = choose_fact(question, first, second, PARTS, short=False)
    got = fact and ((second if fact.is_second else first), fact.is_sure)
    assert got == chosen


def test_short_answers_are_the_first_of_two_that_agree() -> None:
    for short, is_second in ((True, False), (False, True)):
        fact = choose_fact("Who made it?", "Marsh", "Marsh and Son", PARTS, short=short)
        assert fact is not None
        assert fact.is_second is is_second


# ---- yes and no ---------------------------------------------------------------------------------


def test_the_odds_of_two_words_decide_in_the_language_of_the_question() -> None:
    assert find_yes_no("Is it red?") == ("Yes", "No")
    assert find_yes_no("Ist sie rot?") == ("Ja", "Nein")
    assert find_yes_no("Is it red or green?") is None
    assert find_yes_no("Which is red?") is None


@pytest.mark.parametrize(
    ("question", "odds", "word"),
    [
        ("Does a local setting override the site setting?", 2.1, "Yes."),
        ("Does a local setting override the site setting?", 1.9, ""),
        ("Does the site setting override a local setting?", 5.0, ""),  # the other way round
        ("Does the site setting override a local setting?", -0.8, "No."),
        ("Does the site setting override a local setting?", -0.6, ""),
        ("Can the filter be cleaned with soap?", -2.0, "No."),
        ("Does a zebra override the moon?", 5.0, None),  # no part has the words
    ],
)
def test_yes_and_no_stand_before_the_sentence_that_decides(
    question: str, odds: float, word: str | None
) -> None:
    words = find_yes_no(question)
    assert words is not None
    decision = decide(question, words, odds, PARTS)
    if word is None:
        assert decision is None
    else:
        assert decision is not None
        assert decision.word == word
        assert ("soap dissolves it" if "soap" in question else "always overrides") in decision[1]


def test_a_sentence_turns_a_question_round() -> None:
    sentence = "Dropping two items takes twice as long as dropping an item."
    assert not turns_round(sentence, "Do two items take as long as an item?")
    assert turns_round("A pump of steel drives a mill.", "Does a mill drive a steel pump?")


# ---- full answers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "is_said"),
    [
        ("The pump is cleaned every 40 hours.", True),
        ("Every 14 hours the pump is cleaned.", False),  # another number
        ("Set `PUMP_MODE` to slow.", True),
        ("Set `PUMP_SPEED` to slow.", False),  # another name
        ("Press 'Enter' when the valve is open.", False),  # a key that no part has
        ("This makes it easier to manage your inventory.", False),
        ("Open valve B2.", True),
        ("Open valve B3.", False),
        ("Clean the green mill.", True),  # the question's own words
    ],
)
def test_a_sentence_is_said_if_the_parts_have_its_names_numbers_and_words(
    sentence: str, is_said: bool
) -> None:
    assert Said("How do I clean the green mill?", PARTS).has(sentence) is is_said


def test_a_question_in_another_language_is_not_held_to_the_words_of_the_parts() -> None:
    said = Said("Wie oft wird die Pumpe gereinigt?", PARTS)
    assert said.has("Die Pumpe wird alle vierzig Stunden gereinigt.")


def stream(text: str, n_piece: int = 3, reason: Finish = "stop") -> Iterator[Event]:
    """A text in pieces of a few characters, without white space at its end."""
    pieces = [TextPiece(text[n : n + n_piece]) for n in range(0, len(text), n_piece)]
    return iter([*pieces, Ending(reason, len(pieces))])


def join(events: Iterator[Event]) -> str:
    *pieces, ending = events
    assert isinstance(ending, Ending)
    return "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Do it. Dance. Rest.", f"Do it. {GAP} Rest."),
        ("Dance. Dance.\nRest.", f"{GAP}\nRest."),
        ("Do it. Dance.", f"Do it. {GAP}"),
        ("Dance. Dance.", ""),
        ("So:\n1. Do it.\n2. Dance. It is fun.\n3. Rest.", f"So:\n1. Do it.\n{GAP}\n2. Rest."),
        ("So:\n\n- Do it.\n- Dance.", f"So:\n\n- Do it.\n{GAP}"),
        ("So:\n1. Dance.", ""),  # a line with a colon says nothing
        ("1. Dance.\n1. Do it.\n2. Rest.", f"{GAP}\n1. Do it.\n2. Rest."),
        ("It has e.g. 3.5 mm. Rest.", "It has e.g. 3.5 mm. Rest."),
        ("休息。Dance。休息。", f"休息。{GAP}休息。"),
        ("Do it. So:\nDance.\nRest.", f"Do it. So:\n{GAP}\nRest."),
        ("1. Do it.\n2. So:\n   Dance.\n3. Rest.", f"1. Do it.\n{GAP}\n2. Rest."),
        ("1. Do it.\n   - Dance.\n2. Rest.", f"1. Do it.\n   {GAP}\n2. Rest."),
    ],
)
def test_sentences_that_are_not_said_are_left_out_with_a_mark(text: str, left: str) -> None:
    assert join(leave_out(stream(text), lambda sentence: "Dance" not in sentence)) == left


LOAD = "pump load \\\n  --valve B2"
MANUAL = f"Set the speed.\n\n    pump --speed 40\n    {LOAD}\n    print(f'{{pump}}')\n    }}\n"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        # All lines stand there, in the language that the block names.
        (f"Set the speed:\n```sh\npump --speed 40\n{LOAD}\n```\nSet the speed.", None),
        # Continued lines may be joined, and quotation marks be others.
        ('```\npump load --valve B2\n\nprint(f"{pump}")\n}\n```', None),
        # One line is invented, and the comment before it goes with it.
        (
            "```sh\n# Set the speed\npump --speed 40\n\n# Set the pump\npump --dance\n```",
            "```sh\n# Set the speed\npump --speed 40\n```",
        ),
        # A number is another; a command goes with all lines that continue it.
        ("```\npump --speed 4\n}\n```\nSet the speed.", f"{GAP}\nSet the speed."),
        (
            "```\npump load \\\n  --valve B3\nprint(f'{pump}')\n```",
            "```\nprint(f'{pump}')\n```",
        ),
        # All is invented: the line before it stays, but an item that says nothing else goes.
        (
            "Set the speed.\n\nRun:\n\n```\nmill\n```\n\nSet the speed.",
            f"Set the speed.\n\nRun:\n\n{GAP}\n\nSet the speed.",
        ),
        (
            "1. Run:\n   ```\n   mill\n   ```\n"
            "2. Run:\n```\npump --speed 40\n```\n3. Set the speed.",
            f"{GAP}\n1. Run:\n```\npump --speed 40\n```\n2. Set the speed.",
        ),
        # An item goes with its blocks, and the numbers behind it do not jump.
        (
            "1. Set the speed.\n2. Dance:\n\n   ```\n   mill\n   ```\n   Set the speed.\n"
            "3. Dance.\n```\npump --speed 40\n```\n"
            "4. Set the speed: ```sh\n   pump --speed 40\n   ```\n5. Set the speed.",
            f"1. Set the speed.\n{GAP}\n"
            "2. Set the speed: ```sh\n   pump --speed 40\n   ```\n3. Set the speed.",
        ),
        ("1. ```\n   pump --speed 40\n   ```\n2. Set the speed.", None),
        # The answer ends without a closing fence.
        ("1. Run:\n   ```\n   pump --speed 40", "1. Run:\n   ```\n   pump --speed 40\n   ```"),
        # Code in a line is no block.
        (
            "Set ```pump``` speed.\nDance.\nSet the speed.",
            f"Set ```pump``` speed.\n{GAP}\nSet the speed.",
        ),
    ],
)
@pytest.mark.parametrize("n_piece", [1, 7, 1000])
def test_lines_of_code_that_no_part_has_are_left_out(
    text: str, left: str | None, n_piece: int
) -> None:
    said = Said("How?", (make_part(MANUAL),))
    assert join(leave_out(stream(text, n_piece), said.has)) == (left or text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Set the speed.\n```\npump --speed 40\npump lo", True),
        ("Set the speed.\n```\npump --speed 40\n``", True),
        ("Set the speed.\n```\npump --speed 40\n```", True),
        ("Set the speed.\n```\npump --sp", False),
        ("Set the speed.\n```\n", False),
        ("Set the speed.\n```s", False),
    ],
)
def test_a_block_that_the_limit_of_tokens_cuts_is_closed_without_its_last_line(
    text: str, left: bool
) -> None:
    said = Said("How?", (make_part(MANUAL),))
    block = "```\npump --speed 40\n```" if left else GAP
    events = leave_out(stream(text, reason="length"), said.has)
    assert join(events) == f"Set the speed.\n{block}"


def test_an_answer_is_the_same_in_pieces_of_any_length() -> None:
    draw = random.Random(4)
    ends = ("\n", "\n\n", "\n   ", " ", "")
    lines = "Do it.|Dance.|Run:|1.|2. Do it.|3. Dance:|-|休息。|`x` is e.g. 3|```x``` ok"
    code = '```|```sh|````|run x|Dance x|# note|# Dance|run \\|}|"Yes."'
    texts = f"{lines}|{code}".split("|")
    for _ in range(2000):
        text = "".join(draw.choice(texts) + draw.choice(ends) for _ in range(draw.randint(1, 12)))
        whole, *others = (
            join(leave_out(stream(text.rstrip(), n_piece), lambda asked: "Dance" not in asked))
            for n_piece in (1000, 1, 3)
        )
        assert others == [whole, whole], text


def test_log_probabilities_stay_with_their_text() -> None:
    events: list[Event] = [TextPiece("Do it.", ({"token": "a"},)), TextPiece(" Rest", ({},))]
    done = list(leave_out(iter([*events, Ending("stop", 2)]), lambda _: True))
    kept = [piece.logprobs for piece in done if isinstance(piece, TextPiece)]
    assert sum(map(len, kept)) == 2


# ---- which form is written ----------------------------------------------------------------------

FIRST, SECOND, FULL = "first", "second", "full"


def write(
    question: str,
    texts: dict[str, str],
    odds: float = 0.0,
    *,
    is_answered: bool = True,
    **options: Any,
) -> tuple[str, bool | None]:
    """Write an answer whose beginnings go on with these texts."""
    few = (Context(FIRST, []), Context(SECOND, []))
    forms = Forms(
        question,
        PARTS,
        AskOptions(**options),
        lambda context: stream(texts[context.cache]),
        lambda _, words: [odds if word == "Yes" else 0.0 for word in words],
    )
    *pieces, ending = forms.write(
        Context(FULL, [], few=few, is_instructed=True), is_answered=is_answered
    )
    assert isinstance(ending, Ending)
    return "".join(p.text for p in pieces if isinstance(p, TextPiece)), ending.is_sure


WHO, HOW, WHETHER = "Who made it?", "How is it cleaned?", "Does a local setting override the site?"
TEXTS = {FIRST: "Marsh", SECOND: "Marsh and Son", FULL: "Marsh and Son made it in 1987."}


@pytest.mark.parametrize(
    ("question", "options", "answer"),
    [
        (WHO, {}, ("Marsh and Son", True)),
        (WHO, {"short": True}, ("Marsh", True)),
        (WHO, {"long": True}, ("Marsh and Son made it in 1987.", None)),
        (HOW, {}, ("Marsh and Son made it in 1987.", None)),
        (HOW, {"short": True}, ("Marsh", True)),
    ],
)
def test_the_question_or_the_options_choose_the_form(
    question: str, options: dict[str, bool], answer: tuple[str, bool | None]
) -> None:
    assert write(question, TEXTS, **options) == answer


@pytest.mark.parametrize("full", ["The text does not say.", "Dance like a zebra.", ""])
def test_a_full_answer_that_says_nothing_gives_way_to_few_words(full: str) -> None:
    assert write(HOW, {**TEXTS, FULL: full})[0] == "Marsh and Son"
    silent = {FIRST: SILENCE, SECOND: SILENCE, FULL: full}
    assert write(HOW, silent)[0] == write(WHO, silent)[0] == NOT_FOUND


def test_only_yes_or_no_is_answered_off_parts_that_were_judged_silent() -> None:
    assert write(WHO, TEXTS, is_answered=False)[0] == NOT_FOUND
    answer, is_sure = write(WHETHER, TEXTS, odds=3.0, is_answered=False)
    assert answer == "Yes. A local setting always overrides the site setting."
    assert is_sure
    assert write(WHETHER, TEXTS, odds=3.0, short=True)[0] == "Yes."
    assert write(WHETHER, TEXTS, odds=0.0, short=True)[0] == "Marsh"
    assert write(WHETHER, TEXTS, odds=3.0, long=True)[0] == TEXTS[FULL]
    assert write("Is the zebra an ocelot?", TEXTS, odds=3.0, is_answered=False)[0] == NOT_FOUND
