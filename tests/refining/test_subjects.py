"""What moves: at the start it is the adapter as it is, and gradients reach its own numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from d2l.adapters.weights import LoraFactors, LoraWeights, Memory
from d2l.bases.chat import make_chat
from d2l.bases.models import find_base, load_causal
from d2l.bases.tokenizers import load_tokenizer
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import Seats
from d2l.refining.decoder import MemoryDecoder
from d2l.refining.subjects import MovableLora, MovableSeats
from d2l.training.learners.document_data import Asked
from d2l.training.learners.seats.loss import SeatedDecoder, pack_exercises
from d2l.training.learners.seats.solve import Solver
from tests import tiny, tiny_seats

pytestmark = pytest.mark.usefixtures("one_thread")
ASKED = [Asked("pump", "harbor"), Asked("valve copper", "21:40", complete=False)]


def make_memory(n_seats: int = 6, seed: int = 3) -> Memory:
    torch.manual_seed(seed)
    return Memory(torch.randn(2, n_seats, 16), torch.randn(2, n_seats, 16))


def make_seated(config: SeatsConfig | None = None) -> MovableSeats:
    causal: Any = tiny_seats.make_causal(tiny.vocab_size())
    config = config or tiny_seats.make_config()
    statistics = tiny_seats.make_statistics(config)
    seats = Seats(config, tiny_seats.make_network(config), statistics, causal.model)
    tokenizer: Any = Words()
    return MovableSeats(make_memory(), seats, causal, tokenizer)


def read_memory(subject: MovableSeats) -> Memory:
    memory = subject.assemble().memory
    assert memory is not None
    return memory


class Words:
    """A tokenizer of characters."""

    def encode(self, text: str) -> list[int]:
        return [10 + ord(letter) % 40 for letter in text]


def test_seats_begin_as_the_memory_that_they_are() -> None:
    now, memory = read_memory(make_seated()), make_memory()
    assert torch.equal(now.keys, memory.keys)
    assert torch.equal(now.values, memory.values)


def test_values_move_and_keys_stay() -> None:
    subject, memory = make_seated(), make_memory()
    exercises = [subject.ask(asked) for asked in ASKED]
    rows = sum(len(exercise.answer) for exercise in exercises)
    logits = subject.logits(exercises)
    assert logits.shape == (rows, tiny.vocab_size())
    logits.square().mean().backward()
    torch.optim.SGD(subject.parameters, lr=1.0).step()
    now = read_memory(subject)
    assert torch.equal(now.keys, memory.keys)
    assert not torch.equal(now.values, memory.values)


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
def test_lora_begins_as_the_adapter_that_it_is(family: str, tmp_path: Path) -> None:
    folder = tiny.write_base(tmp_path / f"{family}-tiny", family)
    base = find_base(str(folder or tmp_path / f"{family}-tiny"), offline=True)
    causal = load_causal(base, device="cpu", dtype=torch.float32)
    module = causal.model.layers[1].mlp.down_proj
    torch.manual_seed(5)
    a, b = torch.randn(4, module.in_features) * 0.2, torch.randn(module.out_features, 4) * 0.2
    weights = LoraWeights("tiny", 0.5, {"model.layers.1.mlp.down_proj": LoraFactors(a, b)})
    subject = MovableLora(weights, causal, make_chat(load_tokenizer(base.folder)))
    exercise = subject.ask(Asked("pump", "harbor"))
    found = subject.logits([exercise])
    with torch.no_grad():
        module.weight += 0.5 * b @ a
        ids = torch.tensor([[*exercise.prompt, *exercise.answer[:-1]]])
        expected = causal(ids).logits[0, -len(exercise.answer) :]
        module.weight -= 0.5 * b @ a
    assert torch.allclose(found, expected, atol=1e-4)
    found.square().mean().backward()
    assert all(bool((p.grad != 0).any()) for p in subject.parameters if p.grad is not None)
    assert len(subject.parameters) == 2
    same = subject.assemble().weights.factors["model.layers.1.mlp.down_proj"]
    assert torch.equal(same.a, a)


@pytest.mark.parametrize(
    "config",
    [
        tiny_seats.make_config(),
        tiny_seats.make_shared_config(),
        tiny_seats.make_narrow_config(),
        tiny_seats.make_yielding_config(),
        tiny_seats.make_addressed_config(),
    ],
    ids=["seats", "and shared LoRA", "in some layers", "values that give way", "addressed"],
)
def test_one_memory_is_read_as_in_training(config: SeatsConfig) -> None:
    """`SeatedDecoder`, whose numbers are those of the exported adapter, has all in one sequence."""
    causal = tiny_seats.make_causal()
    statistics = tiny_seats.make_statistics(config)
    seats = Seats(config, tiny_seats.make_network(config), statistics, causal.model)
    learned = seats.network.shared
    torch.manual_seed(4)
    keys, values = torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    subject = make_seated()
    exercises = [subject.ask(asked) for asked in (*ASKED, Asked("a", "b"))]
    packed = pack_exercises([exercises], config.opening(7), pad=config.end_token)
    decoder = SeatedDecoder(causal, statistics, config)
    expected = decoder.logits(packed, keys[None], values[None], learned)
    decoder_of_one = MemoryDecoder(causal, statistics, config, learned)
    found = decoder_of_one.logits(exercises, decoder_of_one.read_opening(keys, values))
    assert (learned is not None) == bool(config.shared_rank or config.address_neurons)
    assert torch.allclose(found, expected, atol=1e-4)


def test_gradients_are_those_of_training_with_a_constant_a(monkeypatch: pytest.MonkeyPatch) -> None:
    causal = tiny_seats.make_causal(tiny.vocab_size())
    config = tiny_seats.make_config()
    statistics = tiny_seats.make_statistics(config)
    subject = make_seated()
    exercises = [subject.ask(asked) for asked in ASKED]
    torch.manual_seed(4)
    keys, values = (torch.randn(2, 7, 16).requires_grad_() for _ in range(2))
    decoder = MemoryDecoder(causal, statistics, config)
    logits = decoder.logits(exercises, decoder.read_opening(keys, values))
    found = torch.autograd.grad(logits.square().mean(), (keys, values))
    monkeypatch.setattr(Solver, "solve", torch.no_grad()(Solver.solve))
    packed = pack_exercises([exercises], config.opening(7), pad=config.end_token)
    other = SeatedDecoder(causal, statistics, config).logits(packed, keys[None], values[None])
    expected = torch.autograd.grad(other.square().mean(), (keys, values))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_an_opening_is_read_once_for_a_memory_that_is_judged() -> None:
    subject = make_seated()
    exercises = [subject.ask(asked) for asked in ASKED]
    read: list[object] = []
    decoder = subject.decoder
    reading = decoder.read_opening
    decoder.read_opening = lambda *given: read.append(given) or reading(*given)  # type: ignore[func-returns-value,method-assign]
    with torch.no_grad():
        first = subject.logits(exercises)
        assert torch.equal(subject.logits(exercises), first)
        assert len(read) == 1
        subject.parameters[0] += 0.1
        moved = subject.logits(exercises)
        assert not torch.equal(moved, first)
    assert len(read) == 2
    learning = subject.logits(exercises)
    torch.testing.assert_close(learning, moved)  # seated again, and the same memory
    learning.sum().backward()
    with torch.no_grad():
        subject.parameters[0] += 0.1
    subject.logits(exercises).sum().backward()
    assert len(read) == 2  # steps read nothing


def test_steps_before_any_verdict_read_the_opening_once() -> None:
    subject = make_seated()
    exercises = [subject.ask(asked) for asked in ASKED]
    subject.logits(exercises).sum().backward()
    assert subject._read is not None
    assert not subject._read.values.requires_grad
    assert subject.parameters[0].grad is not None
    assert bool((subject.parameters[0].grad != 0).any())


@pytest.mark.parametrize(
    "config",
    [tiny_seats.make_config(), tiny_seats.make_yielding_config()],
    ids=["seats", "values that give way"],
)
def test_seated_again_a_memory_is_what_reading_its_opening_gives(config: SeatsConfig) -> None:
    """Exactly in the lowest layer with seats, whose states no memory moves; in the others nearly,
    where it is near the memory that was read."""
    causal = tiny_seats.make_causal(tiny.vocab_size())
    decoder = MemoryDecoder(causal, tiny_seats.make_statistics(config), config)
    torch.manual_seed(4)
    keys, values = torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    near = values + 0.02 * torch.randn(2, 7, 16)
    read = decoder.read_opening(keys, values)
    again, expected = decoder.seat_again(read, near), decoder.read_opening(keys, near)
    lowest = config.memory_layers[0]
    torch.testing.assert_close(again.layers[lowest].seen, expected.layers[lowest].seen)
    torch.testing.assert_close(again.layers[lowest].lacking, expected.layers[lowest].lacking)
    exercises = [make_seated().ask(asked) for asked in ASKED]
    far, found, wanted = (decoder.logits(exercises, one) for one in (read, again, expected))
    assert (found - wanted).norm() < 0.6 * (far - wanted).norm()  # random weights: layers alike


def test_short_exercises_cost_no_more_beside_a_long_one() -> None:
    causal = tiny_seats.make_causal(tiny.vocab_size())
    subject = make_seated()
    exercises = [subject.ask(asked) for asked in (*ASKED, Asked("a " * 30, "b"))]
    seen: list[int] = []
    causal.model.embed_tokens.register_forward_pre_hook(
        lambda _module, given: seen.append(given[0].numel())
    )
    config = tiny_seats.make_config()
    decoder = MemoryDecoder(causal, tiny_seats.make_statistics(config), config)
    opening = decoder.read_opening(torch.randn(2, 7, 16), torch.randn(2, 7, 16))
    decoder.logits(exercises, opening)
    own = [len(one.prompt) + len(one.answer) - 1 for one in exercises]
    assert seen == [len(config.opening(7)), sum(own)]
