import pytest

from d2l.inference.prompt_styles import WORDINGS, Wording, fit_document


@pytest.mark.parametrize("name", WORDINGS)
def test_every_wording_shows_document_and_question_once_as_they_are(name: str) -> None:
    document, question = "Braces {question} stay.", "What {document}?"
    turns = WORDINGS[name].turns(document, question)
    shown = turns[-1]["content"]
    assert shown.count(document) == shown.count(question) == 1
    assert turns[-1]["role"] == "user"
    assert [turn["role"] for turn in turns[:-1]] == ["system"] * (len(turns) - 1)


def test_at_least_five_ways_are_offered_and_differ() -> None:
    shown = {str(wording.turns("D", "Q")) for wording in WORDINGS.values()}
    assert len(shown) == len(WORDINGS) >= 5


def test_without_a_system_turn_its_text_goes_first() -> None:
    wording = Wording("{document} {question}", system="Be brief.")
    assert wording.turns_without_system("D", "Q") == [
        {"role": "user", "content": "Be brief.\n\nD Q"}
    ]


@pytest.mark.parametrize(("window", "kept"), [(99, "abcdef"), (10, "abcdef"), (7, "abc"), (2, "")])
def test_a_document_is_cut_at_its_end_until_the_prompt_fits(window: int, kept: str) -> None:
    def render(document: str) -> list[int]:
        return [1, 2, *map(ord, document), 3, 4]  # a token a character

    prompt, left_out = fit_document("abcdef", range(6), render, window=window)
    assert prompt == render(kept)
    assert left_out == 6 - len(kept)
