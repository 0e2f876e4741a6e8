"""Scores of answers against references, and means of scores with their standard errors."""

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
#: A row of a report, as `--json` prints it.
Row = dict[str, Any]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_PARTING = str.maketrans(dict.fromkeys(string.punctuation, " "))
_PLAIN = {
    **dict.fromkeys(range(0x2010, 0x2016), "-"),
    **dict.fromkeys((0x2018, 0x2019, 0x201A, 0x2B9), "'"),
    **dict.fromkeys((0x201C, 0x201D, 0x201E, 0x2BA, 0xAB, 0xBB), '"'),
    0x2212: "-",
}


def normalize_answer(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces: SQuAD's rule (evaluate-v1.1.py)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def write_plainly(text: str) -> str:
    """NFKC with the dashes and quotation marks of ASCII: Ohm sign and Omega are the same."""
    return unicodedata.normalize("NFKC", text).translate(_PLAIN)


def contains_answer(answer: str, references: Sequence[str]) -> bool:
    """Whether any reference stands in the answer as whole words, both normalized.

    "5" does not stand in "15", nor "art" in "party".
    """
    padded = f" {normalize_answer(answer)} "
    return any(f" {normalize_answer(reference)} " in padded for reference in references)


def match_exactly(answer: str, references: Sequence[str]) -> bool:
    """Whether the answer equals any reference, both normalized: SQuAD v1.1's exact match."""
    normal = normalize_answer(answer)
    return any(normal == normalize_answer(reference) for reference in references)


def token_f1(answer: str, references: Sequence[str]) -> float:
    """SQuAD v1.1's F1 (evaluate-v1.1.py, f1_score): harmonic mean of precision and recall of the
    answer's words against a reference's, both normalized; the best over the references."""
    return max((_word_f1(answer, reference) for reference in references), default=0.0)


def published_f1(answer: str, references: Sequence[str]) -> float:
    """`token_f1` as Doc-to-LoRA's evaluation counts it: punctuation parts words ("3.5" is two)."""

    def part(text: str) -> str:
        return write_plainly(text).translate(_PARTING)

    return token_f1(part(answer), [part(reference) for reference in references])


def _word_f1(answer: str, reference: str) -> float:
    said, wanted = normalize_answer(answer).split(), normalize_answer(reference).split()
    n_common = (Counter(said) & Counter(wanted)).total()
    return 2 * n_common / (len(said) + len(wanted)) if n_common else 0.0


def match_literally(answer: str, references: Sequence[str]) -> bool:
    """Whether the answer equals any reference, but for white space and one full stop at the end.

    Case and punctuation count: to write in capitals or in brackets may be the whole task.
    """
    said = _trim(answer)
    return any(said == _trim(reference) for reference in references)


def _trim(text: str) -> str:
    return " ".join(text.split()).removesuffix(".")


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """F1 of the longest common subsequence of words (Lin, ROUGE, 2004), stemmed, by the package
    rouge-score; the best over the references."""
    from rouge_score.rouge_scorer import RougeScorer  # starts slowly, and few scores need it

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return max(float(scorer.score(one, answer)["rougeL"].fmeasure) for one in references)


def take_mean(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard error (sample deviation over the root of n); None for a single value."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return mean, math.sqrt(variance / n)


def take_means(samples: Mapping[str, Sequence[float]]) -> Row:
    """The mean of every sample by its key, and all standard errors as "stderr"."""
    means = {key: take_mean(values) for key, values in samples.items()}
    return {
        **{key: mean for key, (mean, _) in means.items()},
        "stderr": {key: error for key, (_, error) in means.items()},
    }


def show_mean(mean: float, error: float | None, form: str = ".2f") -> str:
    """A mean for people, with its standard error where there is one: "1.15 ± 0.86"."""
    return f"{mean:{form}}" + ("" if error is None else f" ± {error:{form.removeprefix('+')}}")


def show_score(row: Row, key: str, form: str = ".3f") -> str:
    """One of the means that `take_means` put into a row."""
    return show_mean(row[key], row["stderr"][key], form)


def pick_evenly(items: Sequence[T], n: int) -> list[T]:
    """`n` of the items (all if there are fewer), each from the middle of its n-th part."""
    count = min(n, len(items))
    return [items[(2 * k + 1) * len(items) // (2 * count)] for k in range(count)]
