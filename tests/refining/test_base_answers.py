"""What the base says to general prompts is computed once, and found again where it is right."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from d2l.learners.document_data import Exercise
from d2l.refining.base_answers import BaseAnswers
from tests import tiny, tiny_seats

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS = [(5, 6, 7), (8, 9), (5, 6, 7)]
EXERCISES = [
    Exercise(prompt, answer, general=True)
    for prompt, answer in zip(PROMPTS, [(11, 12), (13, 14, 15), (16,)], strict=True)
]


def make_causal() -> tuple[Any, list[int]]:
    """A base, and how many lines each of its passes had."""
    causal: Any = tiny_seats.make_causal(tiny.vocab_size())
    passes: list[int] = []
    causal.model.register_forward_pre_hook(
        lambda _module, _args, given: passes.append(len(given["input_ids"])), with_kwargs=True
    )
    return causal, passes


def refer(says: BaseAnswers) -> list[Tensor]:
    found = says.refer(EXERCISES, PROMPTS)
    assert [one.answer for one in found] == [one.answer for one in EXERCISES]
    return [one.reference for one in found if one.reference is not None]


def test_what_is_kept_is_what_the_base_says_and_is_not_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "kept.safetensors"
    causal, passes = make_causal()
    expected = refer(BaseAnswers(causal))
    assert passes == [3]
    for _ in range(2):  # made, and found
        says = BaseAnswers(causal)
        says.know(EXERCISES, PROMPTS, path)
        for rows, wanted in zip(refer(says), expected, strict=True):
            torch.testing.assert_close(rows, wanted, atol=1e-5, rtol=0)
    assert passes == [3, 3]


@pytest.mark.parametrize("damage", ["cut", "fewer", "other precision"])
def test_what_is_kept_of_something_else_is_made_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "kept.safetensors"
    causal, passes = make_causal()
    if damage == "cut":
        BaseAnswers(causal).know(EXERCISES, PROMPTS, path)
        path.write_bytes(path.read_bytes()[:-4])
    elif damage == "other precision":
        other, _ = make_causal()
        BaseAnswers(other.double()).know(EXERCISES, PROMPTS, path)
    else:
        BaseAnswers(causal).know(EXERCISES[:2], PROMPTS[:2], path)
    passes.clear()
    says = BaseAnswers(causal)
    says.know(EXERCISES, PROMPTS, path)
    assert passes == [3]
    for rows, wanted in zip(refer(says), refer(BaseAnswers(causal)), strict=True):
        torch.testing.assert_close(rows, wanted, atol=1e-5, rtol=0)


def test_where_nothing_can_be_kept_it_is_known_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    causal, passes = make_causal()
    says = BaseAnswers(causal)
    says.know(EXERCISES, PROMPTS, tmp_path / "file" / "kept.safetensors")
    assert len(refer(says)) == 3
    assert passes == [3]
    says.know([], [], tmp_path / "none.safetensors")
    assert not (tmp_path / "none.safetensors").exists()
