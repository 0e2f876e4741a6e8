"""Silence is told from an answer: by what models really say, and by answers that look alike."""

import pytest

from d2l.datasets.silence import SILENCE, is_silence

SILENT = (
    SILENCE,
    "the document does not say",
    "The document doesn\u2019t say who he was.",
    "The passage does not mention the name of the keeper.",
    "The text provided does not specify the weight of the Orvane 40.",
    "The given passage doesn't explicitly state when it was built.",
    "It does not say.",
    "It doesn't mention that.",
    "This article does not provide any details on the price.",
    "The context does not contain information about the harbor master.",
    "The handbook does not give the answer to this question.",
    "Not mentioned.",
    "Not specified in the document.",
    "not mentioned",
    "The name of the keeper's daughter is not mentioned in the text.",
    "The color isn't specified.",
    "The exact date is not provided in the given passage.",
    "The price is not explicitly stated in the document.",
    "Her name was not given in this article.",
    "There is no information about the keeper's daughter.",
    "There is no mention of a daughter in the text.",
    "No information available.",
    "No specific details are given about it.",
    "No answer.",
    "I don't know.",
    "I do not know the answer to that.",
    "I don\u2019t have enough information to answer.",
    "I'm not sure.",
    "I am unable to answer this question.",
    "I cannot answer that from the document.",
    "I'm sorry, but I don't have access to that information.",
    "Sorry, I can't find it.",
    "I'm sorry. The document does not say.",
    "As an AI language model, I don't have personal opinions.",
    "It cannot be determined from the text.",
    "The answer cannot be found in the passage.",
    "Unknown.",
    "N/A",
    "**The document does not say.**",
    '"The document does not say."',
    "",
    " \n",
    ".",
)
ANSWERS = (
    "21 kg",
    "the parrot",
    "The document says 7 years.",
    "7 years",
    "It does not rust.",
    "The pump does not contain oil.",
    "The tower does not have a lift.",
    "He did not know the king.",
    "She said that she did not know.",
    "The author of the poem is not known by name to most readers.",
    "The battery is not included.",
    "It is not available in France.",
    "the Tomb of the Unknown Soldier",
    "an unknown sailor",
    "No more than 3 bar.",
    "No.",
    "no",
    "None of them",
    "Nothing",
    "Information desk",
    "I. M. Pei",
    "I Know What You Did Last Summer",
    "In 1931. The document does not say why.",
    "The keeper is called Brown, but his age is not known to the villagers.",
    "Mentioned",
    "Not Without My Daughter",
    "not before 1931",
)


@pytest.mark.parametrize("answer", SILENT)
def test_the_sentence_of_training_and_refusals_are_silence(answer: str) -> None:
    assert is_silence(answer)


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_are_none_though_they_have_words_of_refusals(answer: str) -> None:
    assert not is_silence(answer)


def test_a_bare_apology_says_nothing() -> None:
    assert is_silence("Sorry.")
    assert is_silence("I'm sorry, but")
