"""Scores of answers against references: text in, truth values out."""

import re
import string
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces: SQuAD's rule (evaluate-v1.1.py)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def contains_answer(answer: str, references: Sequence[str]) -> bool:
    """Whether any reference stands in the answer as whole words, both normalised.

    "5" does not stand in "15", nor "art" in "party".
    """
    padded = f" {normalize_answer(answer)} "
    return any(f" {normalize_answer(reference)} " in padded for reference in references)
