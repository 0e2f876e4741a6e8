"""Tables of recall come from what was measured of a network, and claim nothing else."""

import json
from pathlib import Path

import pytest

from d2l.hypernets.registry import DEFAULT
from tests.tools import generated_docs

SCORES = {"contained": 0.25, "nll": 1.5, "stderr": {"contained": 0.04}}


def write_record(folder: Path, network: str, *arms: str) -> None:
    """A record of one length, in which the arms were asked."""
    about = {"set": "qa_dev_squad", "length": 64, "n": 100, "seats": 58.0}
    rows = [about | SCORES | {"arm": arm} for arm in arms]
    folder.joinpath(f"{network}.json").write_text(json.dumps({"rows": rows, "harm": None}))


def test_the_front_page_names_the_network_whose_record_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generated_docs, "RECALL", tmp_path)
    write_record(tmp_path, DEFAULT, "adapter", "base")
    assert generated_docs.write_rows() == (
        f"| documents, tokens | base alone | document in the prompt | adapter (`{DEFAULT}`) |\n"
        "| --- | --- | --- | --- |\n"
        "| SQuAD, 64 | .25 ± .04 | not run | .25 ± .04 |\n"
    )
    (tmp_path / f"{DEFAULT}.json").rename(tmp_path / f"{generated_docs.SMALL}.json")
    assert f"adapter (`{generated_docs.SMALL}`)" in generated_docs.write_rows()


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
