"""NF4's round trip: by its definition, and as bitsandbytes computes it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from d2l.bases import nf4

GOLDEN = Path(__file__).parents[3] / "shared" / "goldens" / "extras" / "nf4.safetensors"


def test_a_block_of_code_values_comes_back_and_others_go_to_the_nearest() -> None:
    code = torch.tensor(nf4._CODE) * 0.5  # one block of a maximum that bf16 holds
    weight = code.repeat(4).view(4, 16)
    assert torch.equal(nf4.round_trip(weight), weight.bfloat16())
    middle = (code[:-1] + code[1:]) / 2
    for side, wanted in ((-1e-2, code[:-1]), (1e-2, code[1:])):
        near = torch.cat([middle + side * (code[1:] - code[:-1]), torch.tensor([0.5] * 49)])
        assert torch.equal(nf4.round_trip(near)[:15], wanted.bfloat16())


def test_blocks_do_not_follow_rows_and_zeros_stay() -> None:
    weight = torch.zeros(3, 43)  # 129 values: two blocks and a value
    weight[1, 21] = 1.0  # the last of the first block
    assert torch.equal(nf4.round_trip(weight) != 0, weight != 0)


@pytest.mark.skipif(not GOLDEN.is_file(), reason="no golden beside the repository")
def test_bitsandbytes_gives_the_same() -> None:
    golden = load_file(GOLDEN)
    assert torch.equal(nf4._dynamic_code(), golden["dynamic_code"])
    for name in ("w0", "w1", "w2"):
        ours = nf4.round_trip(golden[f"{name}.weight"])
        difference = (ours - golden[f"{name}.dequantised"]).abs()
        assert difference.max() <= 5e-4
        assert (difference > 0).float().mean() <= 0.0013  # rounded the other way in their sums
