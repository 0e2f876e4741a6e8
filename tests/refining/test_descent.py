"""Steps along the gradient: their size, and what they leave alone."""

import pytest
import torch
from torch import nn

from d2l.refining.descent import Descent


def make(*values: float) -> tuple[nn.Parameter, Descent]:
    one = nn.Parameter(torch.tensor(values))
    return one, Descent([one], rate=0.1, momentum=0.5, warmup=1)


def test_numbers_move_by_their_part_in_the_gradient() -> None:
    one, descent = make(0.0, 0.0, 0.0, 0.0)
    one.grad = torch.tensor([2.0, -1.0, 0.0, 0.0])
    descent.step()
    assert one.detach().square().mean().sqrt().item() == pytest.approx(0.1)
    assert one[0].item() == pytest.approx(-2 * one[1].item())
    assert one[2:].tolist() == [0, 0]


def test_steps_become_smaller_with_the_gradient() -> None:
    one, descent = make(1.0)
    moves = []
    for gradient in (1.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1):
        before = one.item()
        one.grad = torch.tensor([gradient])
        descent.step()
        moves.append(before - one.item())
    assert moves[0] == pytest.approx(0.1)
    assert moves[-1] == pytest.approx(0.01, rel=0.1)


def test_the_scale_of_a_loss_does_not_matter() -> None:
    ends = []
    for scale in (1.0, 1000.0):
        one, descent = make(1.0, -2.0)
        for _ in range(5):
            descent.zero_grad()
            (scale * one.square()).sum().backward()
            descent.step()
        ends.append(one.detach().clone())
    assert torch.allclose(ends[0], ends[1], atol=1e-5)
    assert bool((ends[0].abs() < torch.tensor([1.0, 2.0])).all())


@pytest.mark.parametrize("gradient", [float("nan"), float("inf"), 0.0])
def test_no_step_where_the_gradient_is_none(gradient: float) -> None:
    one, descent = make(1.0)
    one.grad = torch.tensor([gradient])
    descent.step()
    assert one.item() == 1.0
    one.grad = torch.tensor([3.0])
    descent.step()
    assert one.item() == pytest.approx(0.9)


def test_at_first_steps_are_smaller() -> None:
    one = nn.Parameter(torch.zeros(1))
    descent = Descent([one], rate=0.1, momentum=0.0, warmup=2)
    ends = []
    for _ in range(3):
        one.grad = torch.ones(1)
        descent.step()
        ends.append(one.item())
    assert ends == pytest.approx([-0.05, -0.15, -0.25])


def matrices(*values: list[list[float]]) -> tuple[nn.Parameter, Descent]:
    one = nn.Parameter(torch.zeros(len(values), 3, 2))
    one.grad = torch.tensor(values)
    return one, Descent([one], rate=0.1, momentum=0.5, warmup=1, orthogonal=True)


def test_all_directions_of_a_matrix_move_alike() -> None:
    first, second = [[3.0, 0.0], [0.0, 0.01], [0.0, 0.0]], [[0.5, 0.0], [0.0, 0.5], [0.0, 0.0]]
    one, descent = matrices(first, second)
    descent.step()
    moved = -one.detach()
    assert moved.square().mean().sqrt().item() == pytest.approx(0.1)
    sizes = torch.linalg.svdvals(moved)
    assert torch.allclose(sizes, sizes[0, 0].expand(2, 2), rtol=1e-4)
    # 4 equal singular values, 12 numbers: 4 s^2 / 12 = 0.1^2
    assert sizes[0, 0].item() == pytest.approx(0.1 * 3**0.5)
    assert torch.allclose(moved[:, [0, 1], [0, 1]], sizes)


def test_a_direction_without_a_gradient_stays() -> None:
    one, descent = matrices([[3.0, 3.0], [1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0]] * 3)
    descent.step()
    assert one[1].count_nonzero() == 0
    moved = -one[0].detach()
    assert torch.allclose(moved[:, 0], moved[:, 1])  # as the gradient, of one direction
    assert torch.allclose(moved[0], 3 * moved[1], rtol=1e-4)


def test_matrices_move_less_with_a_smaller_gradient() -> None:
    one, descent = matrices([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    descent.step()
    first = one.detach().clone()
    assert one.grad is not None
    one.grad = 0.1 * one.grad
    for _ in range(8):
        before = one.detach().clone()
        descent.step()
    last = (one.detach() - before).norm() / first.norm()
    assert last.item() == pytest.approx(0.1, rel=0.1)
