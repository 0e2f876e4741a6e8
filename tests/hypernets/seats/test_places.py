"""Where a network that learned places puts the tokens of a chunk among its seats."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from d2l.errors import CheckpointError
from d2l.hypernets.seats.network import SeatNetwork, build_network, fill_seats
from tests.tiny_seats import make_config, make_network

CONFIG = make_config(version=1, learned_places=True)
N_TOKENS, N_SEATS = 17, 8


def draw_states() -> Tensor:
    return torch.randn(N_TOKENS, CONFIG.width, generator=torch.Generator().manual_seed(5))


def draw_chunk() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(6)
    hidden = torch.randn(2, N_TOKENS, 32, generator=generator)
    keys, values = torch.randn(2, 2, N_TOKENS, 16, generator=generator)
    return hidden, keys, values


def pour(worth: list[float], n_seats: int) -> list[float]:
    """The same as `fill_seats`: by bisection of the level to which worth is cut."""
    low, high = 0.0, 1e9
    for _ in range(200):
        level = (low + high) / 2
        if sum(min(1.0, level * one) for one in worth) < n_seats:
            low = level
        else:
            high = level
    return [min(1.0, high * one) for one in worth]


@pytest.mark.parametrize("n_seats", [1, 2, 9, 30, 39])
@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0])
def test_shares_go_by_worth_and_none_is_above_a_seat(n_seats: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(n_seats)
    worth = (spread * torch.randn(40, generator=generator, dtype=torch.float64)).exp()
    shares = fill_seats(worth, n_seats)
    assert float(shares.max()) <= 1
    assert float(shares.sum()) == pytest.approx(n_seats, rel=1e-12)
    assert shares.tolist() == pytest.approx(pour(worth.tolist(), n_seats), rel=1e-9)


def test_places_are_even_until_they_are_trained_and_where_every_token_has_a_seat() -> None:
    network = SeatNetwork(CONFIG)
    even = torch.arange(N_TOKENS, dtype=torch.float64)
    torch.testing.assert_close(network.place_tokens(draw_states(), N_SEATS), even)
    trained = make_network(CONFIG)
    assert not torch.allclose(trained.place_tokens(draw_states(), N_SEATS), even)
    for n_seats in (N_TOKENS, N_TOKENS + 3):
        assert torch.equal(trained.place_tokens(draw_states(), n_seats), even)


def test_what_is_worth_more_takes_up_more_room_and_nothing_takes_up_all() -> None:
    network = copy.deepcopy(make_network(CONFIG))
    assert network.place is not None
    x = torch.zeros(N_TOKENS, CONFIG.width)
    x[4, 0], x[9, 0] = 1.0, -1.0
    network.place.weight.zero_()[0, 0] = 100.0  # far beyond what counts
    room = network.place_tokens(x, 4).diff()  # from the middle of a token to that of the next
    assert room[0] == pytest.approx(float(room[14]))
    assert room[3] == pytest.approx(float(room[4]))
    assert room[4] > 1.5 * room[0]
    assert room[8] < 0.6 * room[0]
    assert float(room.min()) > 0
    places = network.place_tokens(x, 4)
    assert float(places[0]) > -0.5
    assert float(places[-1]) < N_TOKENS - 0.5


def test_places_are_learned_by_what_the_memory_is_worth() -> None:
    """The gradient of the places' own weights, against differences."""
    network = copy.deepcopy(make_network(CONFIG)).double().requires_grad_(True)
    given = [tensor.double() for tensor in draw_chunk()]
    assert network.place is not None

    def measure() -> Tensor:
        keys, values = network(*given, N_SEATS)
        return (keys.square() + values).mean()

    measure().backward()
    gradient = network.place.weight.grad
    assert gradient is not None
    step = 1e-6
    for column in (0, 5, 11):
        results = []
        for sign in (1, -1):
            with torch.no_grad():
                network.place.weight[0, column] += sign * step
                results.append(float(measure()))
                network.place.weight[0, column] -= sign * step
        expected = (results[0] - results[1]) / (2 * step)
        assert float(gradient[0, column]) == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_weights_and_configuration_say_the_same_of_places() -> None:
    learned = make_network(CONFIG)
    again = build_network(CONFIG, learned.state_dict(), source="here")
    for got, expected in zip(
        again(*draw_chunk(), N_SEATS), learned(*draw_chunk(), N_SEATS), strict=True
    ):
        assert torch.equal(got, expected)
    with pytest.raises(CheckpointError, match=r"^here: tensors do not fit .* place\.weight"):
        build_network(replace(CONFIG, learned_places=False), learned.state_dict(), source="here")
    with pytest.raises(CheckpointError, match=r"^here: tensors do not fit .* place\.weight"):
        build_network(CONFIG, make_network().state_dict(), source="here")
