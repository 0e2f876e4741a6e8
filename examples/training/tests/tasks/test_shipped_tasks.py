"""A network of documents reads descriptions of tasks, too: one is all that `t2l make` needs."""

import json
from pathlib import Path

import pytest

from examples.training.tests.toy import Lab
from tests.conftest import SMALL

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread", "qwen_files"),
    pytest.mark.filterwarnings("ignore"),  # what transformers and PEFT renamed
]
TASK = "Translate the sentence into French."
#: Four tasks, their descriptions and examples written for these tests.
OWN = Path(__file__).parents[1] / "data" / "own.jsonl"


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_answers_are_likelier_than_with_the_description_in_the_prompt(lab: Lab) -> None:
    """And likelier than by the base alone."""
    done = lab("eval", OWN, "--checkpoint", SMALL, "--limit", "1", "--json")
    assert done.code == 0, done.err
    means = {row["arm"]: row["nll"] for row in json.loads(done.out)["means"]}
    assert means["adapter"] < means["prompt"]
    assert means["adapter"] < means["base"] - 1  # nats a token
