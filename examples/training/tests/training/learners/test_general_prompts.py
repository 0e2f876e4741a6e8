"""What a memory must leave alone: prompts, and the base's own answers to them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from d2l.bases.tokenizers import BaseTokenizer
from d2l.datasets.prompts import read_prompts
from d2l_lab.training.learners.document_data import Exercise
from d2l_lab.training.learners.general_prompts import (
    add_references,
    general_path,
    keep_general,
    make_general,
    sample_prompts,
)
from tests import tiny

CONFIG = tiny.make_seats_config()


@pytest.fixture
def causal() -> Any:
    return tiny.make_causal("llama")


def test_sampled_prompts_are_finished_differ_and_follow_from_the_seed(
    causal: Any, tokenizer: BaseTokenizer
) -> None:
    # Its end token never comes by itself, so that of every sample is a common token here.
    ids = torch.tensor([CONFIG.read_opening])
    end = int(causal(ids).logits[0, -1].argmax())
    config = replace(CONFIG, end_token=end)
    state = torch.get_rng_state()
    found = [
        sample_prompts(causal, 5, tokenizer=tokenizer, config=config, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert torch.equal(torch.get_rng_state(), state)  # the caller's own draws go on as before
    assert found[0] == found[1] != found[2]
    assert len(set(found[0])) == 5
    assert all(text == text.strip() != "" for text in found[0])
    assert not sample_prompts(causal, 0, tokenizer=tokenizer, config=config, seed=1)


def test_exercises_are_made_once_and_read_again(
    causal: Any, tokenizer: BaseTokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "cache" / "general.safetensors"
    made = make_general(causal, read_prompts()[:3], tokenizer=tokenizer, config=CONFIG)
    assert keep_general(path, lambda: made) == made

    def refuse() -> list[Any]:
        raise AssertionError("made twice")

    assert keep_general(path, refuse) == made
    path.write_bytes(b"cut")
    assert keep_general(path, lambda: made) == made  # a damaged file is as good as none
    assert keep_general(path, refuse) == made
    (tmp_path / "file").write_text("no folder")
    assert keep_general(tmp_path / "file" / "general.safetensors", lambda: made) == made


def test_kept_answers_are_those_of_one_base_and_these_prompts() -> None:
    given = {"base": "aa", "precision": "float32", "config": CONFIG}
    paths = [
        general_path(["Hello"], **given),
        general_path(["Hello", "you"], **given),
        general_path(["Hello"], **given | {"base": "bb"}),
        general_path(["Hello"], **given | {"precision": "bfloat16"}),
        general_path(["Hello"], **given | {"config": replace(CONFIG, before_answer=(9,))}),
    ]
    assert len(set(paths)) == len(paths)
    assert general_path(["Hello"], **given) == paths[0]


def test_references_are_what_the_base_says_of_each_exercise_alone(causal: Any) -> None:
    """Whatever else is asked in the same pass, and without touching other exercises."""
    short = Exercise((5, 9), (7, 3), general=True)
    long = Exercise((5, 9, 11, 4, 6), (8, 2, 7), general=True)
    other = Exercise((4, 4), (1,))
    groups = add_references(causal, [[short, other], [], [long]], config=CONFIG)
    assert [len(group) for group in groups] == [2, 0, 1]
    assert groups[0][1] == other
    for asked, found in ((short, groups[0][0]), (long, groups[2][0])):
        ids = torch.tensor([[*CONFIG.opening_head, *asked.prompt, *asked.answer]])
        rows = causal(ids).logits[0, -len(asked.answer) - 1 : -1].log_softmax(dim=-1)
        assert found.reference is not None
        assert not found.reference.requires_grad
        torch.testing.assert_close(found.reference, rows.detach(), atol=1e-5, rtol=1e-5)
    assert add_references(causal, [[other]], config=CONFIG) == [[other]]
