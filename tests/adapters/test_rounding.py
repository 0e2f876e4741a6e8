"""Memories in four bits a number: small errors, few bytes, and the same bytes again."""

import numpy as np
import pytest
import torch

from d2l.adapters.rounding import count_bytes, describe_rounded, restore_memory, round_memory
from d2l.adapters.weights import Memory
from d2l.errors import ShapeError

LAYERS, CHANNELS = 28, 256  # of Qwen2.5-Coder-1.5B
FP32 = torch.float32


def make_memory(n_seats: int, layers: int = LAYERS, channels: int = CHANNELS) -> Memory:
    """Some channels of keys are far from zero, and some wide, as in bases."""
    make = torch.Generator().manual_seed(n_seats)
    keys = torch.randn(layers, n_seats, channels, generator=make)
    widths = torch.rand(layers, 1, channels, generator=make) ** 4 * 20 + 0.1
    centers = torch.randn(layers, 1, channels, generator=make) ** 3 * 20
    values = torch.randn(layers, n_seats, channels, generator=make)
    return Memory(keys * widths + centers, values)


@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 2, 8), (53, 21, 128), (320, 28, 256)])
def test_errors_are_at_most_half_a_step_and_of_wide_channels_an_eighth(
    shape: tuple[int, int, int],
) -> None:
    memory = make_memory(*shape)
    stored = round_memory(memory, 4)
    again = restore_memory(stored, FP32)
    for name, share in (("keys", 4), ("values", 12)):
        values = getattr(memory, name)
        step = (values.amax(1) - values.amin(1)) / 15  # (layers, channels)
        far = values.abs().amax(1) / 1000  # what fp16 loses of a lowest value
        errors = (getattr(again, name) - values).abs().amax(1)
        assert bool((errors <= step * 0.51 + far + 1e-6).all())
        n_wide = 4 * len(stored[f"{name}_fine"])
        assert abs(n_wide - step.numel() / share) < 4
        wide = step.flatten().argsort(descending=True)[: int(n_wide * 0.99)]
        fine = (step * 0.13 + far + 1e-6).flatten()[wide]
        assert bool((errors.flatten()[wide] <= fine).all())


def test_a_channel_that_never_changes_is_kept_as_far_as_fp16_tells() -> None:
    memory = Memory(torch.full((2, 5, 8), -412.7), torch.zeros(2, 5, 8))
    again = restore_memory(round_memory(memory, 4), FP32)
    torch.testing.assert_close(again.keys, memory.keys, rtol=5e-4, atol=0)
    torch.testing.assert_close(again.values, memory.values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("n_seats", [1, 240, 320, 400])
def test_the_bytes_of_a_part_are_those_counted(bits: int, n_seats: int) -> None:
    stored = round_memory(make_memory(n_seats), bits)
    n_bytes = sum(tensor.nbytes for tensor in stored.values())
    assert n_bytes == count_bytes(LAYERS * CHANNELS, n_seats, bits)
    infos = describe_rounded(bits, LAYERS, n_seats, CHANNELS)
    types = {"I8": "int8", "U8": "uint8", "F16": "float16", "F32": "float32"}
    expected = {kind: (types[info.dtype], info.shape) for kind, info in infos.items()}
    assert {kind: (str(t.dtype), t.shape) for kind, t in stored.items()} == expected
    if bits == 4 and n_seats > 240:
        assert n_bytes <= 8000 * n_seats


def test_equal_memories_give_equal_bytes_and_a_restored_memory_its_own_again() -> None:
    stored = round_memory(make_memory(53), 4)
    equal = round_memory(make_memory(53), 4)
    again = round_memory(restore_memory(stored, FP32), 4)
    for name, tensor in stored.items():
        assert np.array_equal(tensor, equal[name])
        assert tensor.flags.c_contiguous
        if not name.endswith("_scales"):
            changed = (tensor != again[name]).mean()
            assert changed < 0.01, name


@pytest.mark.parametrize("bits", [8, 4])
def test_bf16_is_fp32_rounded_once(bits: int) -> None:
    stored = round_memory(make_memory(53), bits)
    exact, rounded = restore_memory(stored, FP32), restore_memory(stored, torch.bfloat16)
    assert torch.equal(rounded.keys, exact.keys.bfloat16())
    assert torch.equal(rounded.values, exact.values.bfloat16())


def test_eight_bits_are_those_of_older_files() -> None:
    memory = make_memory(53)
    stored = round_memory(memory, 8)
    for name in ("keys", "values"):
        values = getattr(memory, name)
        scales = values.abs().amax(dim=1).clamp(min=1e-12) / 127
        assert np.array_equal(stored[f"{name}_scales"], scales)
        assert np.array_equal(stored[name], (values / scales[:, None]).round().to(torch.int8))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", ["keys", "values"])
def test_values_that_are_not_finite_are_refused(name: str, bits: int) -> None:
    stored = round_memory(make_memory(53), bits)
    stored[f"{name}_scales"] *= np.inf
    with pytest.raises(ShapeError):
        restore_memory(stored, FP32)
