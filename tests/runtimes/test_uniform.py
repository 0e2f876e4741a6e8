"""`d2l export --to uniform`: one rank, one scale, whole groups; PEFT adds what it added before.

tests/test_sglang.py has SGLang's own code read it.
"""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file

from d2l.adapters.info import read_info
from d2l.adapters.peft_folder import read_adapter
from d2l.runtimes import export
from d2l.runtimes.check import CheckOptions, check
from d2l.runtimes.export_options import ExportOptions
from tests import tiny
from tests.compiled import KINDS, PEFT_DEPRECATION, Compile, family_of, write_prompt
from tests.task_adapters import make_factors, write_task

pytestmark = pytest.mark.usefixtures("one_thread")
Q, K, V, GATE, UP, DOWN = (f"{name}_proj" for name in ("q", "k", "v", "gate", "up", "down"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings(PEFT_DEPRECATION)
def test_peft_answers_the_same_with_it(kind: str, compiled: Compile, tmp_path: Path) -> None:
    done, out = compiled(kind), tmp_path / "out"
    export.run(done.adapter, out, ExportOptions("uniform", str(done.base), offline=True))
    ids = torch.tensor([tiny.encode(write_prompt("Where is the pump?"))])
    logits = []
    for folder in (done.adapter, out):
        model: Any = peft.PeftModel.from_pretrained(tiny.make_causal(family_of(kind)), folder)
        with torch.no_grad():
            logits.append(model.eval()(ids).logits)
    assert (logits[0] - logits[1]).abs().max() < 1e-5
    config = read_info(out).config
    assert not {"rank_pattern", "alpha_pattern"} & config.keys()
    stored = load_file(out / "adapter_model.safetensors")
    ranks = {tensor.shape["B" in name[-8:]] for name, tensor in stored.items()}
    assert ranks == {config["r"]} == {config["lora_alpha"]}
    report = check(out, CheckOptions(base=str(done.base), offline=True))
    assert not report.faults  # modules without any value are no fault
    assert not [verdict for verdict in report.verdicts if not verdict.accepts]
    assert not report.runtimes["sglang"].findings


@pytest.mark.parametrize(
    ("modules", "filled"),
    [
        ((Q, V, GATE, DOWN), ()),
        ((Q,), (V,)),
        ((K,), (Q, V)),
        ((V,), (Q,)),
        ((UP,), (GATE,)),
        ((K, UP), (GATE, Q, V)),
    ],
)
def test_what_engines_join_is_filled_up_in_its_layers(
    modules: tuple[str, ...], filled: tuple[str, ...], bases: Path, tmp_path: Path
) -> None:
    factors = make_factors("llama", modules, layers=range(1, 3))
    adapter = write_task(tmp_path / "a", factors, base=tiny.base_name("llama"))
    base = str(bases / "llama-tiny")
    export.run(adapter, tmp_path / "out", ExportOptions("uniform", base, offline=True))
    weights = read_adapter(tmp_path / "out")
    zeros = {
        name: (0 * a, 0 * b)
        for name, (a, b) in make_factors("llama", filled, layers=range(1, 3)).items()
    }
    assert weights.factors.keys() == factors.keys() | zeros.keys()
    for name, (a, b) in (factors | zeros).items():
        assert torch.equal(weights.factors[name].a, a)
        assert torch.equal(weights.factors[name].b, 2 * b)  # alpha is 2 r


@pytest.mark.parametrize(
    ("changes", "dtype"), [({}, torch.bfloat16), ({"use_rslora": True}, torch.float32)]
)
def test_its_own_precision_is_kept_where_it_holds_the_scale(
    changes: dict[str, Any], dtype: torch.dtype, bases: Path, tmp_path: Path
) -> None:
    factors = {
        name: (a.bfloat16(), b.bfloat16()) for name, (a, b) in make_factors("llama", rank=8).items()
    }
    adapter = write_task(tmp_path / "a", factors, base=tiny.base_name("llama"), config=changes)
    base = str(bases / "llama-tiny")
    for force in (False, True):
        options = ExportOptions("uniform", base, offline=True, force=force)
        export.run(adapter, tmp_path / "out", options)
    stored = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    before, after = read_adapter(adapter), read_adapter(tmp_path / "out")
    for name, old in before.factors.items():
        new = after.factors[name]
        torch.testing.assert_close(after.scale * new.b @ new.a, before.scale * old.b @ old.a)
    assert json.loads((tmp_path / "out" / "d2l.json").read_text())["export"]["to"] == "uniform"
