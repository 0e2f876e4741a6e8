"""Words of eight languages: each list names all of them, and its gaps are known."""

import re

import pytest

from d2l.words import LANGUAGES, join, read_words

EVERYWHERE = {"refuses", "source", "says", "said", "detail", "apology", "contents", "yes", "no"}
ENGLISH_ALONE = {"expletive", "asks_number", "number", "states", "for_whom"}
#: Lists that a language lacks, besides those that only English has.
GAPS = {
    "de": set(),
    "fr": set(),
    "es": {"filler", "notice", "legal"},
    "pt": {"filler", "notice", "legal", "possessive"},
    "it": {"filler", "notice", "legal"},
    "nl": {"notice", "legal"},
    "zh": read_words().keys() - EVERYWHERE - ENGLISH_ALONE - {"notice"},
}


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_lists_that_a_language_lacks_are_known(code: str) -> None:
    lacked = {name for name, lists in read_words().items() if not lists[code]}
    assert lacked == (GAPS[code] | ENGLISH_ALONE if code != "en" else set())


@pytest.mark.parametrize("name", read_words())
def test_a_list_is_a_pattern_that_matches_no_empty_text(name: str) -> None:
    assert set(read_words()[name]) == set(LANGUAGES)
    assert re.search(rf"(?:{join(name)})", "") is None
    assert "<" not in join(name)
