"""`d2l check` on a table of adapters made for it: every rule and fault once, and clean ones."""

import importlib.util
import json
import shutil
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from d2l.adapters.runtimes import IGNORES, REFUSES, RUNTIMES, VLLM_RANKS
from d2l.check import CheckOptions, Report, check
from d2l.errors import AdapterError
from tests import tiny
from tests.command import Command
from tests.compiled import Compiled
from tests.task_adapters import EVERY_MODULE, PREFIX, WEIGHTS, make_factors, write_task

pytestmark = pytest.mark.usefixtures("one_thread")
Q = f"{PREFIX}model.layers.1.self_attn.q_proj"
OURS = ("llama", "gemma2", "mistral", "qwen3", "seats")


@dataclass(frozen=True)
class Case:
    """One adapter: what is changed in a clean one, and what must be found.

    `refuses` and `ignores` name the runtimes that do so and a word of what they are told; `faults`
    are words of faults, fatal ones with a "!" in front.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor | None] = field(default_factory=dict)
    modules: tuple[str, ...] = ("q_proj", "v_proj")
    family: str = "llama"
    rank: int = 4
    layers: range = range(tiny.N_LAYERS)
    max_lora_rank: int | None = None
    refuses: Mapping[str, str] = field(default_factory=dict)
    ignores: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def put(module: str, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    return {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}


DEFAULT_KEYS: dict[str, Tensor | None] = {}
BARE_KEYS: dict[str, Tensor | None] = {}
for _name, (_a, _b) in make_factors("llama").items():
    for _part, _tensor in (("A", _a), ("B", _b)):
        _key = f"{PREFIX}{_name}.lora_{_part}.weight"
        DEFAULT_KEYS |= {_key: None, _key.replace(".weight", ".default.weight"): _tensor}
        BARE_KEYS |= {_key: None, _key.removeprefix(PREFIX): _tensor}
MIXERS: dict[str, Tensor | None] = {}
for _layer in range(tiny.N_LAYERS):
    _module = f"{PREFIX}model.layers.{_layer}.mixer.in_proj"
    MIXERS |= put(_module, torch.ones(4, 32), torch.ones(8, 4))
SERVING = ("lorax", "tgi")

CASES: dict[str, Case] = {
    "clean": Case(),
    "clean, every module": Case(modules=EVERY_MODULE),
    "clean, gemma": Case(family="gemma2"),
    "clean, qwen": Case(family="qwen3", modules=EVERY_MODULE),
    "clean, mistral, fields at rest": Case(
        family="mistral", config={"use_dora": False, "bias": "none", "modules_to_save": None}
    ),
    "clean, a rank that is no power of two": Case(rank=5),
    "clean, a start that changes no base": Case(config={"init_lora_weights": "gaussian"}),
    "clean, served at its own rank": Case(rank=8, max_lora_rank=8),
    "rank above the server's": Case(
        rank=20, max_lora_rank=16, refuses={"vllm": "above --max-lora-rank 16", "sglang": "above"}
    ),
    "rank above all that can be served": Case(
        rank=513,
        refuses={"vllm": "rank is 513, above 512"},
    ),
    "a server's rank that vLLM has not": Case(
        max_lora_rank=24, refuses={"vllm": "allowed are 1, 8, 16, 32"}
    ),
    "rank-stabilized": Case(
        config={"use_rslora": True},
        ignores=dict.fromkeys(("sglang", "llama.cpp", "ollama"), "use_rslora"),
    ),
    "alpha of one module": Case(
        config={"alpha_pattern": {"q_proj": 2}},
        ignores=dict.fromkeys(("sglang", *SERVING, "llama.cpp", "ollama"), "alpha_pattern"),
    ),
    "rank of one module": Case(
        config={"rank_pattern": {"layers.1.self_attn.q_proj": 2}},
        tensors=put(Q, torch.ones(2, 32), torch.ones(32, 2)),
        refuses=dict.fromkeys(SERVING, "rank of q_proj is 2 and 4"),
        ignores=dict.fromkeys(("sglang", *SERVING, "llama.cpp", "ollama"), "rank_pattern"),
    ),
    "alpha with a fraction": Case(
        config={"lora_alpha": 45.25}, refuses={"ollama": "45.25 is no unsigned integer"}
    ),
    "negative alpha": Case(config={"lora_alpha": -8}, refuses={"ollama": "-8 is no unsigned"}),
    "DoRA": Case(
        config={"use_dora": True},
        tensors={f"{Q}.lora_magnitude_vector": torch.ones(32)},
        refuses=dict.fromkeys(("vllm", "sglang", "llama.cpp", "ollama", "mlx"), "use_dora"),
        ignores=dict.fromkeys(SERVING, "use_dora"),
    ),
    "biases of the base": Case(
        config={"bias": "lora_only"},
        refuses=dict.fromkeys(("vllm", "llama.cpp", "ollama", "mlx"), "bias: 'lora_only'"),
        ignores=dict.fromkeys(SERVING, "bias"),
    ),
    "biases on B": Case(config={"lora_bias": True}, refuses={"vllm": "lora_bias"}),
    "whole modules": Case(
        config={"modules_to_save": ["lm_head"]},
        refuses=dict.fromkeys(("vllm", "llama.cpp", "ollama", "mlx"), "modules_to_save: lm_head"),
        ignores=dict.fromkeys(SERVING, "modules_to_save"),
    ),
    "a classifier beside it": Case(
        config={"modules_to_save": ["score"]},
        refuses=dict.fromkeys(("llama.cpp", "ollama", "mlx"), "modules_to_save: score"),
        ignores=dict.fromkeys(SERVING, "modules_to_save"),
    ),
    "a start that changes the base": Case(
        config={"init_lora_weights": "pissa"}, refuses={"vllm": "init_lora_weights: 'pissa'"}
    ),
    "aLoRA": Case(config={"alora_invocation_tokens": [1, 2]}, refuses={"vllm": "aLoRA"}),
    "replicated layers": Case(
        config={"layer_replication": [[0, 2], [1, 3]]}, refuses={"vllm": "layer_replication"}
    ),
    "transposed base": Case(
        config={"fan_in_fan_out": True},
        ignores=dict.fromkeys(("vllm", "llama.cpp"), "fan_in_fan_out"),
    ),
    "some layers only": Case(
        layers=range(1, 3), refuses=dict.fromkeys(SERVING, "q_proj is adapted in 2 of 3 layers")
    ),
    "a module that no server adapts": Case(
        tensors=MIXERS,
        refuses=dict.fromkeys(("vllm", "sglang", "llama.cpp"), "in_proj cannot be adapted"),
        ignores=dict.fromkeys(SERVING, "in_proj"),
    ),
    "a tied head": Case(
        family="gemma2",
        tensors=put(f"{PREFIX}lm_head", torch.ones(4, 32), torch.ones(tiny.vocab_size(), 4)),
        refuses={"llama.cpp": "shares the embedding's weights"},
    ),
    "embeddings": Case(
        tensors={
            f"{PREFIX}model.embed_tokens.lora_embedding_A": torch.ones(4, 40),
            f"{PREFIX}model.embed_tokens.lora_embedding_B": torch.ones(32, 4),
        },
        refuses={"mlx": "the embedding is adapted"},
        ignores=dict.fromkeys(SERVING, "the embedding is adapted"),
    ),
    "a tensor that is no LoRA": Case(
        tensors={f"{PREFIX}model.layers.0.self_attn.extra": torch.ones(3)},
        refuses=dict.fromkeys(("vllm", "llama.cpp"), "extra is no LoRA weight"),
    ),
    "keys without PEFT's prefix": Case(
        tensors=BARE_KEYS,
        refuses=dict.fromkeys(("peft", *SERVING), "does not begin with base_model.model."),
    ),
    ".default. in the keys": Case(tensors=DEFAULT_KEYS, faults=('!".default."',)),
    "NaN": Case(
        tensors={f"{Q}.lora_B.weight": torch.full((32, 4), torch.nan)},
        faults=("!1 tensors have NaN or infinite values",),
    ),
    "infinite": Case(
        tensors={f"{Q}.lora_A.weight": torch.full((4, 32), torch.inf)}, faults=("!NaN or infinite",)
    ),
    "dead modules": Case(
        tensors={f"{Q}.lora_B.weight": torch.zeros(32, 4)},
        faults=("1 modules change nothing (all zero)",),
    ),
    "B transposed": Case(
        tensors={f"{Q}.lora_B.weight": torch.ones(4, 32)}, faults=("!B is stored transposed",)
    ),
    "A and B transposed": Case(
        tensors=put(Q, torch.ones(32, 4), torch.ones(4, 32)),
        faults=("!A and B is stored transposed",),
    ),
    "another rank than declared": Case(
        config={"r": 8}, faults=("!the config says rank 8, A is (4, 32)",) * 6
    ),
    "no rank": Case(config={"r": None}, faults=("!r is 0, expected a positive",)),
    "for another base": Case(
        tensors=put(Q, torch.ones(4, 48), torch.ones(48, 4)),
        faults=("!is 48 → 48, the base has 32 → 32",),
    ),
    "for a deeper base": Case(
        tensors=put(Q.replace("layers.1.", "layers.9."), torch.ones(4, 32), torch.ones(32, 4)),
        faults=("!the base has 3 layers",),
    ),
    "an outlier": Case(
        tensors=put(Q, torch.ones(4, 32) * 20, torch.ones(32, 4) * 20),
        faults=("times the median of its kind",),
    ),
    "B missing": Case(
        tensors={f"{Q}.lora_B.weight": None},
        faults=("!model.layers.1.self_attn.q_proj has no lora_B",),
    ),
    "numbers of a kind that nothing multiplies": Case(
        tensors={f"{Q}.lora_B.weight": torch.ones(32, 4, dtype=torch.int8)},
        faults=("!values are stored as I8",),
    ),
    "no LoRA": Case(
        config={"peft_type": "LOHA"}, faults=("!peft_type is 'LOHA': this is no LoRA adapter",)
    ),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny bases by family."""
    root = tmp_path_factory.mktemp("bases")
    for family in tiny.FAMILIES:
        tiny.write_base(root / family, family)
    return root


def write(case: Case, folder: Path) -> Path:
    factors = make_factors(case.family, case.modules, rank=case.rank, layers=case.layers)
    base = tiny.base_name(case.family)
    return write_task(folder, factors, base=base, config=case.config, tensors=case.tensors)


def run(case: Case, folder: Path, bases: Path, *runtimes: str) -> Report:
    options = CheckOptions(runtimes, case.max_lora_rank, str(bases / case.family), offline=True)
    return check(write(case, folder), options)


@pytest.mark.parametrize("name", CASES)
def test_what_breaks_a_rule_is_found_and_nothing_else(
    name: str, bases: Path, tmp_path: Path
) -> None:
    case = CASES[name]
    report = run(case, tmp_path / "a", bases)
    faults = [f"{'!' if fault.fatal else ''}{fault.message}" for fault in report.faults]
    assert len(faults) == len(case.faults), faults
    for got, expected in zip(faults, case.faults, strict=True):
        assert got.startswith("!") == expected.startswith("!")
        assert expected.removeprefix("!") in got
    fatal = any(fault.fatal for fault in report.faults)
    for verdict in report.verdicts:
        for effect, expected in ((REFUSES, case.refuses), (IGNORES, case.ignores)):
            found = [f.message for f in verdict.findings if f.effect == effect]
            if fatal and verdict.runtime not in expected:
                continue  # rules may break, too, where nothing fits
            assert bool(found) == (verdict.runtime in expected), (verdict.runtime, effect, found)
            assert any(expected.get(verdict.runtime, "") in message for message in found) or not (
                found
            )
        assert verdict.accepts == (not fatal and verdict.runtime not in case.refuses)
    assert report.passes == (not fatal and not case.refuses)


def test_the_table_is_large_and_breaks_every_rule(bases: Path, tmp_path: Path) -> None:
    assert len(CASES) >= 25
    broken = {
        (verdict.runtime, finding.source, finding.effect)
        for index, case in enumerate(CASES.values())
        for verdict in run(case, tmp_path / str(index), bases).verdicts
        for finding in verdict.findings
    }
    asked = {
        (name, entry.source, entry.effect)
        for name, one in RUNTIMES.items()
        for entry in one.entries
    }
    assert asked == broken


@pytest.mark.parametrize("kind", OURS)
def test_adapters_of_d2l_are_clean(kind: str, compiled: Callable[[str], Compiled]) -> None:
    done = compiled(kind)
    report = check(done.adapter, CheckOptions(base=str(done.base), offline=True))
    assert report.faults == ()
    refusing = {v.runtime for v in report.verdicts if not v.accepts}
    assert refusing == (set(SERVING) if kind == "seats" else set())  # seats leave layers out


def test_the_serve_line_is_complete(bases: Path, tmp_path: Path) -> None:
    adapter = write(Case(rank=20), tmp_path / "manual.lora")
    (adapter / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    options = CheckOptions(("vllm",), base=str(bases / "llama"), offline=True)
    (verdict,) = check(adapter, options).verdicts
    assert verdict.load == (
        f"vllm serve tiny-org/llama-tiny --enable-lora --max-lora-rank 32 --lora-modules "
        f"manual={adapter} --chat-template {adapter}/chat_template.jinja"
    )
    lower = CheckOptions(("vllm",), 16, str(bases / "llama"), offline=True)
    (verdict,) = check(adapter, lower).verdicts
    assert verdict.findings[0].fix == (
        "serve with --max-lora-rank 32, or make the adapter with --max-rank 16"
    )


# ---- the prompt of a seats adapter --------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (tiny.CHAT_TEMPLATE, "does not begin with the opening"),
        ("{% if %}", "does not begin with the opening"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "does not begin with the opening"),
        (None, "the chat template that puts the opening first is missing"),
    ],
)
def test_a_template_that_loses_the_opening_is_a_fault(
    template: str | None, message: str, compiled: Callable[[str], Compiled], tmp_path: Path
) -> None:
    done = compiled("seats")
    adapter = shutil.copytree(done.adapter, tmp_path / "a.lora")
    path = adapter / "chat_template.jinja"
    path.unlink() if template is None else path.write_text(template)
    report = check(adapter, CheckOptions(base=str(done.base), offline=True))
    assert [message in fault.message for fault in report.faults] == [True]
    assert not any(verdict.accepts for verdict in report.verdicts)


# ---- what cannot be looked at -------------------------------------------------------------------


def test_without_the_base_the_rest_is_checked_and_that_is_said(bases: Path, tmp_path: Path) -> None:
    adapter = write(CASES["for a deeper base"], tmp_path / "a")
    report = check(adapter, CheckOptions(("vllm",), offline=True))
    assert (report.faults, report.passes) == ((), True)
    assert report.note is not None
    assert report.note.startswith("shapes and layers were not compared with the base: ")
    config = json.loads((bases / "llama" / "config.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps(config | {"model_type": "phi3"}))
    report = check(adapter, CheckOptions(("vllm",), base=str(other), offline=True))
    assert report.note == "shapes were not compared with the base, of unknown type phi3"
    assert [fault.message for fault in report.faults if fault.fatal]  # layers are, all the same


def test_unknown_runtimes_and_damaged_folders_are_named(tmp_path: Path) -> None:
    adapter = write(Case(), tmp_path / "a")
    with pytest.raises(AdapterError, match="unknown runtime 'vlm'") as caught:
        check(adapter, CheckOptions(("vlm",), offline=True))
    assert caught.value.hint == f"choose from {', '.join(RUNTIMES)}"
    (adapter / WEIGHTS).write_bytes(b"cut")
    with pytest.raises(AdapterError, match="not a safetensors file, or cut short"):
        check(adapter, CheckOptions(offline=True))


# ---- the command --------------------------------------------------------------------------------


def test_the_command_prints_lines_and_exits_by_the_verdicts(
    command: Command, bases: Path, tmp_path: Path
) -> None:
    adapter = write(Case(rank=20), tmp_path / "manual.lora")
    words = ("check", adapter, "--base", bases / "llama", "--offline", "--runtime", "vllm")
    done = command(*words)
    line = (
        f"vllm serve tiny-org/llama-tiny --enable-lora --max-lora-rank 32 --lora-modules "
        f"manual={adapter}"
    )
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        f"{adapter}: rank 20 on q_proj, v_proj, for tiny-org/llama-tiny\n"
        f"vllm (0.33.0) accepts\n  {line}\n"
    )
    done = command(*words, "--max-lora-rank", 16)
    assert done.code == 1
    assert done.out.splitlines()[1:] == [
        "vllm (0.33.0) does not accept it",
        f"  {line.replace('32', '16')}",
        "  refuses: rank is 20, above --max-lora-rank 16",
        "    do: serve with --max-lora-rank 32, or make the adapter with --max-rank 16",
    ]
    values = json.loads(command(*words, "--json").out)
    assert (values["passes"], values["rank"], values["faults"]) == (True, 20, [])
    assert [row["runtime"] for row in values["runtimes"]] == ["vllm"]
    assert values["runtimes"][0]["load"] == line


def test_every_rule_has_a_source_and_a_way_out() -> None:
    for runtime in RUNTIMES.values():
        assert runtime.version
        for entry in runtime.entries:
            assert entry.source
            assert entry.fix
            assert entry.rule.__doc__ or entry.rule.__qualname__


# ---- vLLM's own code ----------------------------------------------------------------------------


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
        adapter, CheckOptions(("vllm",), case.max_lora_rank, str(bases / case.family), True)
    )
    (verdict,) = report.verdicts
    found = [f for f in verdict.findings if f.effect == REFUSES]
    if name == "a server's rank that vLLM has not":
        assert rank not in VLLM_RANKS  # its command line decides that
        return
    assert bool(found) == (refused is not None), (refused, found)


def test_the_values_that_are_stored_are_those_that_were_given(tmp_path: Path) -> None:
    """What the table rests on: the writer changes nothing."""
    adapter = write(Case(), tmp_path / "a")
    stored = load_file(adapter / WEIGHTS)
    for module, (a, b) in make_factors("llama").items():
        assert torch.equal(stored[f"{PREFIX}{module}.lora_A.weight"], a)
        assert torch.equal(stored[f"{PREFIX}{module}.lora_B.weight"], b)
    save_file(stored, adapter / WEIGHTS)
