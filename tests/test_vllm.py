"""vLLM's own code on the same adapters: it refuses what `d2l check` says it refuses."""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from d2l.runtimes.check import CheckOptions, check
from d2l.runtimes.runtime import REFUSES, VLLM_RANKS
from tests.adapter_cases import CASES, write


def load_peft_helper() -> Any:
    """vLLM's PEFTHelper, from an installed vllm, with stand-ins for its logger and config: they are
    not asked about adapters, and importing the real ones needs a GPU build of torch."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("vllm is not installed, so its own PEFTHelper says nothing: pip install vllm")
    path = Path(next(iter(spec.submodule_search_locations))) / "lora" / "peft_helper.py"
    logger = types.ModuleType("vllm.logger")
    logger.init_logger = lambda _: types.SimpleNamespace(info_once=print)  # type: ignore[attr-defined]
    config = types.ModuleType("vllm.config")
    config.LoRAConfig = object  # type: ignore[attr-defined]
    config_lora = types.ModuleType("vllm.config.lora")
    config_lora.LoRAConfig = object  # type: ignore[attr-defined]
    package = types.ModuleType("vllm")
    with pytest.MonkeyPatch.context() as patch:
        for module in (package, logger, config, config_lora):
            patch.setitem(sys.modules, module.__name__, module)
        source = importlib.util.spec_from_file_location("peft_helper_of_vllm", path)
        assert source is not None
        assert source.loader is not None
        helper = importlib.util.module_from_spec(source)
        patch.setitem(sys.modules, "peft_helper_of_vllm", helper)
        source.loader.exec_module(helper)
    return helper.PEFTHelper


#: Cases that vLLM decides by keys or modules, after its PEFTHelper.
LATER = {
    ".default. in the keys",
    "a module that no server adapts",
    "a tensor that is no LoRA",
    "no rank",
}


@pytest.mark.parametrize("name", [name for name in CASES if name not in LATER])
def test_vllms_own_helper_decides_the_same(name: str, bases: Path, tmp_path: Path) -> None:
    helper = load_peft_helper()
    case = CASES[name]
    adapter = write(case, tmp_path / "a")
    rank = case.max_lora_rank or VLLM_RANKS[-1]
    try:
        helper.from_local_dir(str(adapter), 512).validate_legal(
            types.SimpleNamespace(max_lora_rank=rank, bias_enabled=False)
        )
        refused = None
    except (ValueError, TypeError) as error:
        refused = str(error)
    report = check(
        adapter,
        CheckOptions(("vllm",), case.max_lora_rank, str(bases / f"{case.family}-tiny"), True),
    )
    (verdict,) = report.verdicts
    found = [f for f in verdict.findings if f.effect == REFUSES]
    if name == "a server's rank that vLLM has not":
        assert rank not in VLLM_RANKS  # its command line decides that
        return
    assert bool(found) == (refused is not None), (refused, found)
