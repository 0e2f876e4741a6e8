from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2l.errors import CheckpointError
from d2l.hypernets.formats.int8 import (
    compact_folder,
    compact_text,
    dequantize_rows,
    expand_tensors,
    quantize_rows,
    read_weights,
)
from tests.tiny_seats import make_network, write_checkpoint
from tests.tools.seat_goldens import BUILTIN, COMPACT, STORED_LAYERS


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


def test_only_matrices_are_rounded(tmp_path: Path) -> None:
    compact_folder(write_checkpoint(tmp_path / "plain"), tmp_path / "compact")
    stored = load_file(tmp_path / "compact" / "model.safetensors")
    read = read_weights(tmp_path / "compact" / "model.safetensors")
    original = make_network().state_dict()
    assert read.keys() == original.keys()
    rounded = {name for name in read if not torch.equal(read[name], original[name])}
    assert rounded == {name for name, tensor in stored.items() if tensor.dtype == torch.int8}
    assert "group_query.weight" in rounded
    assert not rounded & {"encoder.0.relative_bias", "seat_table", "group_query.bias"}


def test_plain_files_are_read_as_they_are_in_fp32(tmp_path: Path) -> None:
    save_file({"x.weight": torch.ones(2, 2, dtype=torch.bfloat16)}, tmp_path / "plain")
    assert torch.equal(read_weights(tmp_path / "plain")["x.weight"], torch.ones(2, 2))


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    plain = write_checkpoint(tmp_path / "plain")
    compact_folder(plain, tmp_path / "one")
    compact_folder(plain, tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["config.json", "model.safetensors", "statistics.safetensors"]
    for name in names:
        one, two = tmp_path / "one" / name, tmp_path / "two" / name
        assert one.read_bytes() == two.read_bytes()


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
def test_files_that_make_no_sense_are_refused(
    tensors: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(CheckpointError, match=f"^here: .*{message}"):
        expand_tensors(tensors, source="here")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="absent: cannot be read"):
        read_weights(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="not a checkpoint folder"):
        compact_folder(tmp_path, tmp_path / "out")


def test_the_goldens_compact_network_is_that_of_the_original(
    shared_seats: Path, tmp_path: Path
) -> None:
    compact_folder(shared_seats, tmp_path)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (COMPACT / name).read_bytes(), name
    whole, stored = (load_file(at / "statistics.safetensors") for at in (tmp_path, COMPACT))
    for name, tensor in stored.items():
        assert torch.equal(whole[name][[layer - 3 for layer in STORED_LAYERS]], tensor), name


def test_the_shipped_network_is_small_enough_for_a_package() -> None:
    size_bytes = sum(path.stat().st_size for path in BUILTIN.iterdir())
    assert size_bytes < 24_000_000
