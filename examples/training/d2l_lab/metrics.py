"""Scores of answers of tasks, and means of a row of a report."""

from collections.abc import Mapping, Sequence

from d2l.evaluation.metrics import Row, show_mean, take_mean


def match_literally(answer: str, references: Sequence[str]) -> bool:
    """True if the answer equals any reference, but for white space and one full stop at the end.

    Case and punctuation count: to write in capitals or in brackets may be the whole task.
    """
    said = _trim(answer)
    return any(said == _trim(reference) for reference in references)


def _trim(text: str) -> str:
    return " ".join(text.split()).removesuffix(".")


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """Compute F1 of the longest common subsequence of stemmed words (Lin, ROUGE, 2004), by the
    package rouge-score; the best over the references."""
    from rouge_score.rouge_scorer import RougeScorer  # starts slowly, and few scores need it

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return max(float(scorer.score(one, answer)["rougeL"].fmeasure) for one in references)


def take_means(samples: Mapping[str, Sequence[float]]) -> Row:
    """Take the mean of every sample by its key, and all standard errors as "stderr"."""
    means = {key: take_mean(values) for key, values in samples.items()}
    return {
        **{key: mean for key, (mean, _) in means.items()},
        "stderr": {key: error for key, (_, error) in means.items()},
    }


def show_score(row: Row, key: str, form: str = ".3f") -> str:
    """Spell a mean of a row of `take_means`."""
    return show_mean(row[key], row["stderr"][key], form)
