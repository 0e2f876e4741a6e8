"""What passages say with a seat for every token, and how it is learned."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from d2l.adapters.weights import Memory
from d2l.hypernets.seats.config import SeatsConfig
from d2l.refining.references import References
from d2l.refining.subjects import MovableSeats
from d2l.refining.teacher import read_passage
from d2l.training.learners.document_data import Asked, Exercise
from d2l.training.learners.seats.loss import measure_loss
from tests import tiny, tiny_seats
from tests.refining.test_subjects import ASKED, make_memory, make_seated

pytestmark = pytest.mark.usefixtures("one_thread")


def make_teacher(config: SeatsConfig | None = None) -> tuple[MovableSeats, References]:
    subject = make_seated(config)
    return subject, References(subject.decoder.head)


def answer_with(memory: Memory, exercise: Exercise) -> Tensor:
    """Log-probabilities of the whole model, the memory put into the opening by hooks alone."""
    causal: Any = tiny_seats.make_causal(tiny.vocab_size())
    config = tiny_seats.make_config()

    def impose(module: nn.Module, wanted: Tensor) -> None:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            return torch.cat([output[:, :1], wanted[None], output[:, 1 + len(wanted) :]], dim=1)

        module.register_forward_hook(hook)

    for at, layer in enumerate(config.memory_layers):
        attention = causal.model.layers[layer].self_attn
        impose(attention.k_proj, memory.keys[at])
        impose(attention.v_proj, memory.values[at])
    ids = (*config.opening(memory.n_seats), *exercise.prompt, *exercise.answer[:-1])
    with torch.no_grad():
        logits: Tensor = causal(torch.tensor([ids])).logits[0, -len(exercise.answer) :]
    return functional.log_softmax(logits, dim=-1)


@pytest.mark.parametrize(
    "config",
    [tiny_seats.make_config(), tiny_seats.make_yielding_config()],
    ids=["seats", "values that would give way"],
)
def test_it_says_what_the_base_says_with_the_memory_in_it_and_nothing_else(
    config: SeatsConfig,
) -> None:
    (subject, references), memory = make_teacher(config), make_memory(7, seed=1)
    exercises = [subject.ask(asked) for asked in ASKED]
    read_passage(memory, subject, references, exercises)
    for exercise, found in zip(exercises, references.refer(exercises), strict=True):
        assert found.reference is not None
        torch.testing.assert_close(
            found.reference, answer_with(memory, exercise), atol=1e-4, rtol=1e-4
        )


def test_every_question_is_answered_by_the_passage_that_was_read_with_it() -> None:
    subject, references = make_teacher()
    asked = (Asked(text, "yes") for text in ("pump", "valve", "lamp"))
    first, second, unread = map(subject.ask, asked)
    read_passage(make_memory(7, seed=1), subject, references, [first])
    read_passage(make_memory(9, seed=2), subject, references, [second, first])
    found = references.refer([second, unread, first])
    assert [one.prompt for one in found] == [second.prompt, unread.prompt, first.prompt]
    assert found[1] is not unread
    assert found[1] == unread
    for one, memory in ((found[2], make_memory(7, seed=1)), (found[0], make_memory(9, seed=2))):
        assert one.reference is not None
        torch.testing.assert_close(one.reference, answer_with(memory, one), atol=1e-4, rtol=1e-4)


def test_more_questions_than_stand_behind_an_opening_at_once() -> None:
    (subject, references), memory = make_teacher(), make_memory(7, seed=3)
    exercises = [subject.ask(Asked(f"pump {number}", "yes")) for number in range(19)]
    read_passage(memory, subject, references, exercises)
    last = references.refer(exercises)[-1]
    assert last.reference is not None
    torch.testing.assert_close(last.reference, answer_with(memory, last), atol=1e-4, rtol=1e-4)


def test_what_was_not_read_is_learned_by_its_answer() -> None:
    subject, references = make_teacher()
    exercise = subject.ask(ASKED[0])
    assert references.refer([exercise]) == [exercise]
    assert exercise.reference is None


def test_what_is_taught_is_learned_as_it_is_said_whatever_its_answer() -> None:
    """At what the teacher says the loss is zero, though the answer's own likelihood is not one."""
    subject, references = make_teacher()
    exercises = [subject.ask(ASKED[0])]
    read_passage(make_memory(7, seed=1), subject, references, exercises)
    (taught,) = references.refer(exercises)
    assert taught.reference is not None
    same = measure_loss(taught.reference, [taught], general_weight=5.0)
    assert float(same.total) == pytest.approx(0.0, abs=1e-6)
    other = torch.zeros_like(taught.reference)
    away = float(measure_loss(other, [taught], general_weight=5.0).total)
    assert away > 0.1  # its own weight is one, whatever general prompts have
    assert float(measure_loss(other, [taught], enough=0.1).total) == pytest.approx(away - 0.1)
