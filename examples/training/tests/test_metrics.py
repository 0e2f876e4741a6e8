import pytest

from d2l_lab.metrics import match_literally, rouge_l


def test_literal_matches_see_case_and_punctuation() -> None:
    assert match_literally(" A  pump. ", ["no", "A pump"])
    assert not match_literally("a pump", ["A pump"])
    assert not match_literally("[a pump]", ["a pump"])
    assert not match_literally("a pump..", ["a pump"])


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence() -> None:
    # "the pump stands" of 5 said and 4 wanted words: 2 · 3 / (5 + 4).
    assert rouge_l("the old pump stands alone", ["the pump stands here"]) == pytest.approx(6 / 9)
    assert rouge_l("pumps", ["nothing", "pump"]) == 1  # stemmed
    assert rouge_l("", ["pump"]) == 0
