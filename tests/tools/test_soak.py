"""The judge of the soak: stale answers, and failures without a cause, are faults."""

import itertools

import pytest

from tests.tools import soak_ledger
from tests.tools.soak_ledger import Ledger, Reply, judge

QUIET = {"old": {(0, 0): "14 kg"}, "new": {(0, 0): "77 kg"}}


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that counts calls from 0 on."""
    clock = itertools.count()
    monkeypatch.setattr(soak_ledger.time, "monotonic", lambda: float(next(clock)))


def test_an_answer_is_right_if_its_adapter_was_there_between_question_and_answer() -> None:
    ledger = Ledger()
    ledger.set("a", ["old"])  # at 0
    with ledger.changing("a", "new"):  # from 1 to 2
        pass
    spans = {"before": (0.2, 0.8), "over": (0.2, 1.5), "within": (1.2, 1.5), "after": (2.5, 3.0)}
    verdicts = {
        name: [
            judge(Reply(*reply), (0, 0), ledger.between("a", *span), QUIET).split(":")[0]
            for reply in ((200, "14 kg"), (200, "77 kg"), (500, "adapter_error"), (500, "failed"))
        ]
        for name, span in spans.items()
    }
    sure, crash = "right (one possible)", "NO CAUSE (500 failed)"
    no_cause = "NO CAUSE (500 adapter_error)"
    changing = ["right", "right", "failed (500 adapter_error)", crash]
    assert verdicts == {
        "before": [sure, "WRONG", no_cause, crash],
        "over": changing,
        "within": changing,
        "after": ["WRONG", sure, no_cause, crash],
    }


def test_an_answer_that_the_time_limit_cut_is_told_apart() -> None:
    ledger = Ledger()
    ledger.set("a", ["old"])
    state, cut = ledger.between("a", 0.2, 0.8), Reply(200, "1")
    assert judge(cut, (0, 0), state, QUIET, may_be_cut=True) == "cut"
    assert judge(cut, (0, 0), state, QUIET).startswith("WRONG")
    assert judge(Reply(200, "7"), (0, 0), state, QUIET, may_be_cut=True).startswith("WRONG")


def test_what_is_not_there_or_damaged_must_not_answer() -> None:
    ledger = Ledger()
    assert judge(Reply(404, "model_not_found"), (0, 0), ledger.between("a", 0, 1), QUIET)[0] == "f"
    ledger.set("a", ["old"])  # at 0
    with ledger.changing("a", None):  # from 1 to 2
        pass
    state = ledger.between("a", 2.5, 3.0)
    assert judge(Reply(200, "14 kg"), (0, 0), state, QUIET).startswith("WRONG")
    assert judge(Reply(503, "timeout"), (0, 0), ledger.between("a", 0.1, 0.2), QUIET)[0] == "f"
