"""Second moments of the base that will serve, on a base whose norms and matrices are rescaled."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from d2l.bases.models import find_base
from d2l.hypernets.calibrate import measure, prepare
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.seats.config import read_config
from tests import tiny
from tests.command import Command


@pytest.fixture(autouse=True)
def place(working_folder: Path) -> Path:
    """A network that says which weights it was made on; two bases that compute the same."""
    base = tiny.write_base(working_folder / "one" / "llama-tiny", "llama")
    rescale(base, working_folder / "two" / "llama-tiny")
    folder = tiny.write_seats(working_folder / "seats")
    config = dataclasses.asdict(read_config(folder / "config.json"))
    config |= {"version": 1, "base_digest": "0" * 64}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (working_folder / "note.txt").write_text(tiny.DOCUMENT, "utf-8")
    return working_folder


def rescale(base: Path, target: Path) -> None:
    """The same function with other weights: norms times s, the columns that follow divided by s."""
    shutil.copytree(base, target)
    tensors = load_file(base / "model.safetensors")
    generator = torch.Generator().manual_seed(5)
    for layer in range(tiny.N_LAYERS):
        scale = 0.25 + 4 * torch.rand(tiny.HIDDEN, generator=generator)
        name = f"model.layers.{layer}"
        tensors[f"{name}.input_layernorm.weight"] *= scale
        for module in ("q_proj", "k_proj", "v_proj"):
            tensors[f"{name}.self_attn.{module}.weight"] /= scale
    save_file(tensors, target / "model.safetensors", {"format": "pt"})


def compile_on(command: Command, base: str, out: str) -> str:
    done = command(
        "compile", "note.txt", "-o", out, "--checkpoint", "seats", "--base", base,
        "--dtype", "fp32", "--force",
    )  # fmt: skip
    assert done.code == 0, done.err
    return done.err


def read_logits(with_peft: Callable[..., Any], base: str, adapter: str) -> torch.Tensor:
    """What the adapter on its base says after its own opening and some text."""
    from d2l.adapters.peft_folder import read_adapter

    record = json.loads(Path(adapter, "d2l.json").read_text("utf-8"))
    ids = [*record["prompt"]["opening"]["ids"], *tiny.encode(" pump valve filter key")]
    causal = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        logits: torch.Tensor = with_peft(causal, read_adapter(Path(adapter)))(
            torch.tensor([ids])
        ).logits
    return logits


@pytest.mark.slow
def test_after_calibration_the_same_network_fits_both(
    place: Path, command: Command, with_peft: Callable[..., Any]
) -> None:
    bases = ("one/llama-tiny", "two/llama-tiny")
    for base, out in zip(bases, ("one.lora", "two.lora"), strict=True):
        assert f"d2l calibrate --checkpoint seats --base {base}" in compile_on(command, base, out)
    before = [
        read_logits(with_peft, *pair) for pair in zip(bases, ("one.lora", "two.lora"), strict=True)
    ]
    kept = []
    for base, out in zip(bases, ("one.lora", "two.lora"), strict=True):
        words = ("calibrate", "--checkpoint", "seats", "--base", base)
        planned = json.loads(command(*words, "--dry-run", "--json").out)
        assert planned["n_tokens"] > 0
        assert not Path(planned["moments"]).exists()
        done = command(*words, *(["--json"] if kept else []))  # as text, and as JSON
        assert done.code == 0, done.err
        moments = json.loads(done.out)["moments"] if kept else done.out.strip()
        assert moments == planned["moments"]
        kept.append(Path(moments))
        assert kept[-1].is_file()
        assert "that d2l calibrate measured on them" in compile_on(command, base, out)
    one, two = (
        read_logits(with_peft, *pair) for pair in zip(bases, ("one.lora", "two.lora"), strict=True)
    )
    spread = float((one - one.mean()).abs().max())
    assert float((before[0] - before[1]).abs().max()) > 1e-2 * spread  # moments of other weights
    assert float((one - two).abs().max()) < 1e-3 * spread
    assert kept[0] != kept[1]  # kept by the weights of base and network
    assert kept[0].name.startswith(find_base("any", override=bases[0]).digest()[:16])
    assert kept[0].parent == place / "cache" / "moments"


@pytest.mark.slow
def test_a_network_that_knows_its_own_bases_sizes_keeps_its_moments_on_another(
    command: Command, with_peft: Callable[..., Any]
) -> None:
    bases = ("one/llama-tiny", "two/llama-tiny")
    compile_on(command, bases[0], "one.lora")  # with the moments of training
    config = json.loads(Path("seats/config.json").read_text("utf-8"))
    Path("seats/config.json").write_text(json.dumps(config | {"base": bases[0]}), "utf-8")
    measured = measure(prepare(CompileOptions("seats", offline=True)), "cpu")
    path = Path("seats/statistics.safetensors")
    plain_scale = measured.diagonal(dim1=1, dim2=2).sqrt().float().contiguous()
    save_file({**load_file(path), "plain_scale": plain_scale}, path)
    Path("seats/config.json").write_text(json.dumps(config), "utf-8")
    assert command("calibrate", "--checkpoint", "seats", "--base", bases[1]).code == 0
    assert "that d2l calibrate measured on them" in compile_on(command, bases[1], "two.lora")
    one, two = (
        read_logits(with_peft, *pair) for pair in zip(bases, ("one.lora", "two.lora"), strict=True)
    )
    spread = float((one - one.mean()).abs().max())
    assert float((one - two).abs().max()) < 1e-4 * spread
