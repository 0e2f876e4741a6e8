"""The base's answers to general prompts: computed once, kept for the base, and referred to."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from d2l.refining.references import References, ask_general, choose_prompts
from d2l.refining.subjects import MovableSeats
from tests import tiny, tiny_seats
from tests.refining.test_subjects import make_seated

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "general"


def make_causal() -> tuple[Any, list[int]]:
    """A base, and how many lines each of its passes had."""
    causal: Any = tiny_seats.make_causal(tiny.vocab_size())
    passes: list[int] = []
    causal.model.register_forward_pre_hook(lambda _module, *_: passes.append(1), with_kwargs=True)
    return causal, passes


def ask(causal: Any, subject: MovableSeats, base: str = "a") -> tuple[Any, References]:
    references = References(causal.lm_head)
    steps, held = ask_general(causal, subject, references, base=base)
    return (*steps, *held), references


def test_general_prompts_are_answered_by_the_base_behind_its_own_opening() -> None:
    causal, _ = make_causal()
    subject = make_seated()
    exercises, references = ask(causal, subject)
    head = tiny_seats.make_config().opening_head
    for exercise in references.refer(exercises[:3]):
        assert exercise.general
        assert subject.bare([exercise.prompt]) == [(*head, *exercise.prompt)]
        ids = torch.tensor([[*head, *exercise.prompt, *exercise.answer[:-1]]])
        with torch.no_grad():
            logits = causal(ids).logits[0, -len(exercise.answer) :]
        assert exercise.reference is not None
        expected = functional.log_softmax(logits, -1)
        torch.testing.assert_close(exercise.reference, expected, atol=1e-4, rtol=0)


def test_what_the_base_answers_is_kept_for_the_base(cache: Path) -> None:
    causal, passes = make_causal()
    subject = make_seated()
    first, references = ask(causal, subject)
    assert passes
    passes.clear()
    second, found = ask(causal, subject)
    assert second == first
    assert not passes
    for one, other in zip(references.refer(first), found.refer(second), strict=True):
        assert one.reference is not None
        assert other.reference is not None
        assert torch.equal(one.reference, other.reference)
    ask(causal, subject, base="b")
    assert passes
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_file_is_made_again(cache: Path) -> None:
    causal, passes = make_causal()
    first, _ = ask(causal, make_seated())
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    passes.clear()
    assert ask(causal, make_seated())[0] == first
    assert passes
    assert path.read_bytes() == whole


def test_where_nothing_can_be_kept_references_are_there_all_the_same(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("")
    causal, _ = make_causal()
    exercises, references = ask(causal, make_seated())
    assert all(one in references for one in exercises)


def test_prompts_to_judge_by_are_not_drilled() -> None:
    steps, held = choose_prompts()
    assert (len(steps), len(held)) == (48, 12)
    assert not set(steps) & set(held)
