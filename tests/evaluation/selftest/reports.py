"""A self-test's report made by hand, some of its texts as asked for."""

from typing import Any

from d2l.evaluation.selftest.passages import HalvedSentence
from d2l.evaluation.selftest.selftest import Recited, SelfReport, SelfTest

HARM = {
    "seats": 18,
    "kl": 0.48,
    "unchanged": 0.75,
    "n": 200,
    "stderr": {"kl": 0.02, "unchanged": 0.01},
}


def make_row(document: str, page: int, gain: float | None, n: int, error: float | None) -> Any:
    nll = None if gain is None else 5.0 - gain
    scores = {"n": n, "base_nll": 5.0, "adapter_nll": nll, "gain": gain, "stderr": error}
    return {"document": document, "page": page, "place": f"p. {page}", **scores}


def make_report(text: str = "words") -> SelfReport:
    """`text` stands wherever a document or a model could put its own."""
    total = {"n": 3, "base_nll": 5.0, "adapter_nll": 3.5, "gain": 1.5, "stderr": 0.25}
    pages = (
        make_row(text, 1, 2.0, 2, 0.5),
        make_row(text, 2, -1.0, 1, None),
        make_row("b.pdf", 1, None, 0, None),
    )
    worst = (
        Recited(HalvedSentence(text, 0, 2, f"given {text}", f"wanted {text}"), 5.0, 6.0, text),
    )
    test = SelfTest(total, 9, (), pages, worst)
    return SelfReport(text, "org/base", test, (text,), harm=HARM)
