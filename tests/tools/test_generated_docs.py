"""Tables of recall come from what was measured of a network, and claim nothing else."""

import json
from pathlib import Path

import pytest

from tests.tools import generated_docs

SCORES = {"contained": 0.25, "nll": 1.5, "stderr": {"contained": 0.04}}


def write_record(folder: Path, network: str, *arms: str) -> None:
    """A record of one length, in which the arms were asked."""
    about = {"set": "qa_dev_squad", "length": 64, "n": 100, "seats": 58.0}
    rows = [about | SCORES | {"arm": arm} for arm in arms]
    folder.joinpath(f"{network}.json").write_text(json.dumps({"rows": rows, "harm": None}))


def test_a_card_has_the_arms_that_were_asked_and_no_table_of_what_was_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generated_docs, "RECALL", tmp_path)
    assert generated_docs.write_recall("some") == ""
    write_record(tmp_path, "some", "adapter")
    assert generated_docs.write_recall("some") == (
        "| set, tokens | seats | n | adapter |\n"
        "| --- | --- | --- | --- |\n"
        "| squad, 64 | 58 | 100 | .25 ± .04 / 1.50 |\n"
    )
