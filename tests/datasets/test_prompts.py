"""The shipped prompts: enough of them, and none of one list nearly in the other."""

import re

from d2l.datasets.prompts import read_harm_prompts, read_prompts


def list_words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))


def test_no_prompt_is_nearly_one_that_is_trained_on() -> None:
    """Nearly: half of the words that either has are in both."""
    trained = [list_words(prompt) for prompt in read_prompts()]
    assert len(trained) > 100
    for prompt in read_harm_prompts():
        words = list_words(prompt)
        assert max(len(words & other) / len(words | other) for other in trained) < 0.5, prompt
