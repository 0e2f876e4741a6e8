"""SGLang's own code on the same adapters: it adds the right deltas where `d2l check` finds nothing,
and of everything that `d2l export --to uniform` writes.

The code comes from an installed sglang, with stand-ins for what serves a model: that is not asked
about adapters, and needs a GPU.
"""

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from d2l.adapters.module_names import parse
from d2l.adapters.peft_folder import read_adapter
from d2l.errors import AdapterError
from d2l.runtimes import export
from d2l.runtimes.adapter_facts import BaseFacts
from d2l.runtimes.export_options import ExportOptions
from d2l.runtimes.runtime import IGNORES, PLAIN
from tests.adapter_cases import CASES, run
from tests.compiled import KINDS, Compile

pytestmark = pytest.mark.usefixtures("one_thread")
LORA = "sglang.srt.lora"
OWN = {f"{LORA}.{name}" for name in ("lora_config", "lora", "lora_manager", "mem_pool", "utils")}
OWN |= {f"{LORA}.torch_ops.lora_ops", "sglang.srt.layers.utils.common"}
PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


#: Cases with modules outside of what is read here, also once they are exported.
BEYOND = {"a module that no server adapts", "a tied head"}


class Stand:
    """Stands for whatever SGLang's code imports and does not use here: nothing is one of these."""


class Finder:
    """Finds SGLang's own modules of the list, and stand-ins for its others."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find_spec(self, name: str, *_: Any) -> Any:
        if name in OWN:
            file = self.root.joinpath(*name.split(".")[1:]).with_suffix(".py")
            return importlib.util.spec_from_file_location(name, file)
        own = name.partition(".")[0] == "sglang"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if own else None  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda _: Stand  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


@pytest.fixture(scope="module")
def sglang() -> Iterator[SimpleNamespace]:
    """SGLang's modules by their last names."""
    spec = importlib.util.find_spec("sglang")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("sglang is not installed, so its own code says nothing: pip install sglang")
    one = dict.fromkeys(("tp_size", "attn_tp_size", "moe_ep_size", "moe_tp_size"), 1)
    parallel = SimpleNamespace(**one, tp_rank=0, moe_ep_rank=0, moe_tp_rank=0)
    with pytest.MonkeyPatch.context() as patch:
        root = Path(next(iter(spec.submodule_search_locations)))
        patch.setattr(sys, "meta_path", [Finder(root), *sys.meta_path])
        read = importlib.import_module
        read("sglang.srt.layers.utils").get_layer_id = read(  # type: ignore[attr-defined]
            "sglang.srt.layers.utils.common"
        ).get_layer_id
        unset = SimpleNamespace(get=lambda: False)
        for module, name, value in (
            ("environ", "envs", SimpleNamespace(SGLANG_EXPERIMENTAL_LORA_OPTI=unset)),
            ("runtime_context", "get_parallel", lambda: parallel),
            ("utils", "is_pin_memory_available", lambda: False),
            ("lora.eviction_policy", "get_eviction_policy", lambda _: None),
            ("lora.layers", "unwrap_lora_layer", lambda module: module),
        ):
            setattr(read(f"sglang.srt.{module}"), name, value)
        yield SimpleNamespace(**{name.rpartition(".")[2]: read(name) for name in sorted(OWN)})
    for name in [name for name in sys.modules if name.partition(".")[0] == "sglang"]:
        del sys.modules[name]


def load(sglang: Any, folder: Path, config: Any, max_rank: int | None = None) -> dict[str, Tensor]:
    """What SGLang adds to each module, (d_out, d_in), after its server has taken the adapter into
    its buffers as it does at its start; raises what SGLang raises."""
    manager = SimpleNamespace(
        attn_dp_enabled=False, lora_refs={}, num_pinned_loras=0, max_loras_per_batch=8
    )
    settings = sglang.lora_config.LoRAConfig(str(folder), base_vocab_size=config.vocab_size)
    adapter = sglang.lora.LoRAAdapter("one", settings, config, None, None)
    for path in sorted(folder.glob("*.safetensors")):  # its loader takes all of a folder's
        for name, tensor in load_file(path).items():
            adapter._process_weight(name, tensor)
    adapter._normalize_weights()
    base = torch.nn.Linear(1, 1)
    base.config = config
    manager.configs, manager.base_model, manager.lora_added_tokens_size = {"one": settings}, base, 0
    code = sglang.lora_manager.LoRAManager
    code.init_lora_shapes(manager, max_rank)
    targets = manager.target_modules
    pool = manager.memory_pool = sglang.mem_pool.LoRAMemoryPool(
        config, 1, torch.float32, manager.max_lora_rank, targets, base, "lru", 0
    )
    ref = SimpleNamespace(lora_name="one", lora_path=str(folder), pinned=False)
    code.validate_new_adapter(manager, settings, ref)
    whole = SimpleNamespace(slice_lora_a_weights=lambda w: w, slice_lora_b_weights=lambda w: w)
    modules = [{f"model.layers.{n}.{t}": whole for t in targets} for n in range(pool.num_layer)]
    pool.load_lora_weight_to_buffer("one", 0, adapter, modules, None, None)
    shapes, deltas = BaseFacts.of(config).shapes, {}
    for target in targets:
        parts = PARTS.get(target, (target,))
        ends = torch.tensor([0, *(shapes[part][1] for part in parts)]).cumsum(0)
        for layer in range(pool.num_layer):
            ops, a, b = sglang.lora_ops, pool.A_buffer[target][layer], pool.B_buffer[target][layer]
            x, scale = torch.eye(a.shape[2]), torch.tensor([adapter.scaling])
            batch = torch.tensor([0]), torch.tensor([len(x)]), torch.tensor([settings.r])
            down = ops.sgemm_lora_a_fwd(x, a, *batch, scale, len(parts))
            up = ops.sgemm_lora_b_fwd(down, b, *batch, ends)
            for part, delta in zip(parts, up.T.split(ends.diff().tolist()), strict=True):
                deltas[f"{layer}.{part}"] = delta
    return deltas


def is_right(sglang: Any, folder: Path, like: Path, config: Any, rank: int | None = None) -> bool:
    """Whether SGLang adds what the adapter `like` adds in the layers, and nothing else."""
    try:
        found = load(sglang, folder, config, rank)
    except (AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return False
    weights = read_adapter(like)
    for module, factors in weights.factors.items():
        name = parse(module)
        delta = found.pop(f"{name.layer}.{name.short}", None)
        expected = weights.scale * factors.b @ factors.a
        if name.in_decoder and (
            delta is None or (delta - expected).abs().max() > 1e-5 * expected.abs().max()
        ):
            return False
    return not any(delta.any() for delta in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_ones_are_right(kind: str, sglang: Any, compiled: Compile, tmp_path: Path) -> None:
    done = compiled(kind)
    config = transformers.AutoConfig.from_pretrained(done.base)
    export.run(done.adapter, tmp_path / "out", ExportOptions("uniform", str(done.base)))
    assert is_right(sglang, tmp_path / "out", done.adapter, config)
    assert is_right(sglang, done.adapter, done.adapter, config) == (kind != "seats")


@pytest.mark.parametrize("name", CASES)
def test_sglangs_code_decides_the_same(name: str, sglang: Any, bases: Path, tmp_path: Path) -> None:
    """What is left out beside the LoRA shows in no delta: such findings do not count."""
    case, folder, base = CASES[name], tmp_path / "a", bases / f"{CASES[name].family}-tiny"
    report = run(case, folder, bases, "sglang")
    if any(fault.fatal for fault in report.faults):
        return
    config = transformers.AutoConfig.from_pretrained(base)
    findings = report.runtimes["sglang"].findings
    told = [f.message for f in findings if (f.effect, f.fix) != (IGNORES, PLAIN)]
    assert is_right(sglang, folder, folder, config, case.max_lora_rank) == (not told), told
    with suppress(AdapterError):  # more than LoRA is not exported
        export.run(folder, tmp_path / "out", ExportOptions("uniform", str(base)))
        if case.max_lora_rank is None and name not in BEYOND:
            assert is_right(sglang, tmp_path / "out", folder, config)
