"""Scores of answers against references, and means of scores with their standard errors."""

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")
#: A row of a report, as printed by `--json`.
Row = dict[str, Any]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_PLAIN = {
    **dict.fromkeys(range(0x2010, 0x2016), "-"),
    **dict.fromkeys((0x2018, 0x2019, 0x201A, 0x2B9), "'"),
    **dict.fromkeys((0x201C, 0x201D, 0x201E, 0x2BA, 0xAB, 0xBB), '"'),
    0x2212: "-",
}


def normalize_answer(text: str) -> str:
    """Remove case, punctuation, articles and double spaces: SQuAD's rule (evaluate-v1.1.py)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def write_plainly(text: str) -> str:
    """Write a text in NFKC, with the dashes and quotation marks of ASCII; Ohm sign is Omega."""
    return unicodedata.normalize("NFKC", text).translate(_PLAIN)


def contains_answer(answer: str, references: Sequence[str]) -> bool:
    """True if the answer contains any reference as whole words, both normalized.

    "5" does not stand in "15", nor "art" in "party".
    """
    padded = f" {normalize_answer(answer)} "
    return any(f" {normalize_answer(reference)} " in padded for reference in references)


def match_exactly(answer: str, references: Sequence[str]) -> bool:
    """True if the answer equals any reference, both normalized: SQuAD v1.1's exact match."""
    normal = normalize_answer(answer)
    return any(normal == normalize_answer(reference) for reference in references)


def token_f1(answer: str, references: Sequence[str]) -> float:
    """Compute SQuAD v1.1's F1 (evaluate-v1.1.py, f1_score), the best over the references.

    It is the harmonic mean of two shares of common words: of the answer's, of the reference's.
    """
    return max((_word_f1(answer, reference) for reference in references), default=0.0)


def _word_f1(answer: str, reference: str) -> float:
    said, wanted = normalize_answer(answer).split(), normalize_answer(reference).split()
    n_common = (Counter(said) & Counter(wanted)).total()
    return 2 * n_common / (len(said) + len(wanted)) if n_common else 0.0


def take_mean(values: Sequence[float]) -> tuple[float, float | None]:
    """Take mean and standard error (sample deviation over the root of n), None of one value."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return mean, math.sqrt(variance / n)


def show_mean(mean: float, error: float | None, form: str = ".2f") -> str:
    """Spell a mean for people, with its standard error if there is one: "1.15 ± 0.86"."""
    return f"{mean:{form}}" + ("" if error is None else f" ± {error:{form.removeprefix('+')}}")


def pick_evenly(items: Sequence[T], n: int) -> list[T]:
    """Pick `n` items (all if there are fewer), each from the middle of its n-th part."""
    count = min(n, len(items))
    return [items[(2 * k + 1) * len(items) // (2 * count)] for k in range(count)]
