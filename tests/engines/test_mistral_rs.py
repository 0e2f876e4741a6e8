"""mistral.rs on tiny bases: the lines that `d2l check` prints load there what it says they load."""

import contextlib
from pathlib import Path

import pytest

from d2l.bases.gguf import add_old_keys
from d2l.runtimes.check import CheckOptions, check
from d2l.runtimes.runtime import REFUSES
from tests import tiny
from tests.adapter_cases import CASES, run
from tests.engines.engine import compare_changes
from tests.engines.exports import need
from tests.engines.mistral_rs import read_logits, start
from tests.engines.test_families import logits_through_peft
from tests.task_adapters import EVERY_MODULE, make_factors, write_task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("one_thread"),
]
QUESTION = "Where is the pump?"
PROMPT = (
    f"<|im_start|>system\n{tiny.SYSTEM}<|im_end|>\n"
    f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the names of the tiny bases lead to them."""
    need("mistral.rs")
    folder = tmp_path_factory.mktemp("place")
    for family in tiny.FAMILIES:
        add_old_keys(tiny.write_base(folder / tiny.base_name(family), family) / "config.json")
    return folder


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_ranks_and_scales_of_modules_are_pefts_and_the_base_beside_them_is_as_alone(
    family: str, place: Path, tmp_path: Path
) -> None:

    factors = make_factors(family, EVERY_MODULE, layers=range(1, tiny.N_LAYERS))
    factors |= make_factors(family, ("gate_proj",), rank=2, layers=[0])
    patterns = {
        "rank_pattern": {"layers.0.mlp.gate_proj": 2},
        "alpha_pattern": {"gate_proj": 3, "v_proj": 1.5},
    }
    named = tiny.base_name(family)
    base = place / named
    config = {"r": 4, "lora_alpha": 5, "use_rslora": True, **patterns}
    adapter = write_task(tmp_path / "task.lora", factors, base=named, config=config)
    options = CheckOptions(("mistral.rs",), base=str(base), offline=True)
    runner = start(check(adapter, options).verdicts[0].load, place)
    expected = logits_through_peft(base, adapter, tiny.encode(PROMPT))
    adapted, beside = (read_logits(runner, name, QUESTION) for name in ("task", None))
    assert compare_changes(expected, (adapted, beside)) > 0.9999
    alone = start(f"mistralrs.Runner(mistralrs.Which.Plain({str(base)!r}))", place)
    assert read_logits(alone, None, QUESTION).tolist() == beside.tolist()
    with pytest.raises(ValueError, match="adapter alias `other` is not registered"):
        read_logits(runner, "other", QUESTION)


@pytest.mark.parametrize("name", CASES)
def test_it_refuses_what_check_says_it_refuses(name: str, place: Path, tmp_path: Path) -> None:
    report = run(CASES[name], tmp_path / "a", place / "tiny-org", "mistral.rs")
    (verdict,) = report.verdicts
    if any(fault.fatal for fault in report.faults):
        return  # accepted by none, whatever loads it
    refused = any(found.effect == REFUSES for found in verdict.findings)
    with pytest.raises(ValueError, match=r"\w") if refused else contextlib.nullcontext():
        start(verdict.load, place)
