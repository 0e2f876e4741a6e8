from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from d2l.errors import CheckpointError
from d2l.hypernets.formats.native import (
    compact_tensors,
    compact_text,
    dequantize_rows,
    expand_tensors,
    quantize_rows,
    read_weights,
)
from tests.tiny_seats import make_network


def test_rows_are_off_by_half_a_step_at_most() -> None:
    weight = torch.randn(7, 50, generator=torch.Generator().manual_seed(1))
    weight[3] *= 1000  # a large row must not cost the others their precision
    steps, scale = quantize_rows(weight)
    off = (dequantize_rows(steps, scale) - weight).abs().amax(dim=1)
    # the little more is for rounding in fp32
    assert bool((off <= weight.abs().amax(dim=1) / 127 / 2 * 1.001).all())
    assert steps.dtype == torch.int8
    assert int(steps.min()) >= -127


def test_matrices_of_several_layers_have_a_scale_for_each_row_of_each() -> None:
    weights = torch.randn(3, 5, 20, generator=torch.Generator().manual_seed(2))
    steps, scale = quantize_rows(weights)
    assert scale.shape == (3, 5)
    for layer in range(3):
        for got, wanted in zip((steps, scale), quantize_rows(weights[layer]), strict=True):
            assert torch.equal(got[layer], wanted)
    read = expand_tensors({"w": steps, "w.row_scale": scale}, source="here")["w"]
    assert float((read - weights).abs().max()) <= float(weights.abs().max()) / 254 * 1.001


def test_text_networks_of_either_form_are_read() -> None:
    """Offsets in 8 bits, and in bf16 as older files have them."""
    offsets = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(3))
    tensors = {
        "task_encoder.mlp.0.weight": torch.randn(3, 5),
        "heads.v_proj.weight": torch.randn(8, 2),
        "AB_offset.A.v_proj": offsets,
    }
    compact = compact_text(tensors)
    assert compact["AB_offset.A.v_proj"].dtype == torch.int8
    assert torch.equal(compact["task_encoder.mlp.0.weight"], tensors["task_encoder.mlp.0.weight"])
    older = {n: t for n, t in compact.items() if not n.startswith("AB_offset")}
    older["AB_offset.A.v_proj"] = offsets.bfloat16()
    for stored in (compact, older):
        read = expand_tensors(stored, source="here")
        assert read.keys() == tensors.keys()
        torch.testing.assert_close(read["AB_offset.A.v_proj"], offsets, atol=0.02, rtol=0)


def test_a_row_of_zeros_stays_zero() -> None:
    steps, scale = quantize_rows(torch.zeros(2, 3))
    assert torch.equal(dequantize_rows(steps, scale), torch.zeros(2, 3))


def test_only_matrices_are_rounded() -> None:
    original = make_network().state_dict()
    stored = compact_tensors(original)
    read = expand_tensors(stored, source="here")
    assert read.keys() == original.keys()
    rounded = {name for name in read if not torch.equal(read[name], original[name])}
    assert rounded == {name for name, tensor in stored.items() if tensor.dtype == torch.int8}
    assert "group_query.weight" in rounded
    assert not rounded & {"encoder.0.relative_bias", "seat_table", "group_query.bias"}


def test_plain_files_are_read_as_they_are_in_fp32(tmp_path: Path) -> None:
    save_file({"x.weight": torch.ones(2, 2, dtype=torch.bfloat16)}, tmp_path / "plain")
    assert torch.equal(read_weights(tmp_path / "plain")["x.weight"], torch.ones(2, 2))


STEPS, SCALE = torch.ones(2, 3, dtype=torch.int8), torch.ones(2)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w": STEPS}, "w is 8-bit, but w.row_scale is missing"),
        ({"w.row_scale": SCALE}, "w.row_scale belongs to no tensor"),
        ({"w": STEPS, "w.row_scale": torch.ones(3)}, r"shape \(3,\), expected one value"),
        ({"w": STEPS.float(), "w.row_scale": SCALE}, "w holds torch.float32"),
        ({"w": STEPS.long()}, "w holds torch.int64"),
    ],
)
def test_files_without_sense_are_refused(tensors: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=f"^here: .*{message}"):
        expand_tensors(tensors, source="here")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="absent: no such file"):
        read_weights(tmp_path / "absent")
