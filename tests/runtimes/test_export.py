"""Adapters exported from the tiny bases: every target, read back without d2l, and what is refused.

tests/engines runs the exports in real engines.
"""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import gguf
import pytest
import torch
import transformers
from safetensors.torch import load_file

from d2l.errors import AdapterError, BaseModelError
from d2l.runtimes import export
from d2l.runtimes.export import EXPORTERS
from d2l.runtimes.export_options import ExportOptions
from d2l.runtimes.readme import ExportFacts, load_line
from tests import tiny
from tests.bases.gguf_samples import write_gguf
from tests.compiled import (
    KINDS,
    Compile,
    Compiled,
    make_dense,
    read_files,
    write_prompt,
)
from tests.slow import slow_after
from tests.task_adapters import PREFIX, make_factors, write_task

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the module's own, for what is made of GGUF files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2L_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@cache
def write_gguf_base(folder: Path) -> Path:
    """The tiny Llama as a GGUF file, from which alone Ollama's models are made."""
    return write_gguf(folder.with_name(f"{folder.name}.gguf"))


def run(done: Compiled, to: str, out: Path, **changes: Any) -> export.ExportResult:
    base = write_gguf_base(done.root) if to == "ollama" else done.base
    values = {"base": str(base), "offline": True} | changes
    return export.run(done.adapter, out, ExportOptions(to, **values))


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., Path]:
    """Make a task adapter (q_proj and v_proj) of a family; `config` and `tensors` change it."""

    def write(family: str = "llama", **changes: Any) -> Path:
        folder = tmp_path / "task"
        shutil.rmtree(folder, ignore_errors=True)
        return write_task(folder, make_factors(family), base=tiny.base_name(family), **changes)

    return write


@pytest.fixture
def base(tmp_path: Path) -> Callable[[str], str]:
    return lambda family="llama": str(tiny.write_base(tmp_path / f"{family}-base", family))


# ---- every target -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_model_answers_as_the_adapter_does(
    kind: str, compiled: Compile, tmp_path: Path
) -> None:
    done = compiled(kind)
    result = run(done, "merged", tmp_path / "merged")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    expected = make_dense(kind, done.adapter)
    ids = torch.tensor([tiny.encode(write_prompt("Where is the pump?"))])
    with torch.no_grad():
        difference = (model.eval()(ids).logits - expected(ids).logits).abs().max()
    assert difference < 1e-5  # the delta is added in float64 here and in fp32 there
    assert result.load == f"vllm serve {tmp_path / 'merged'}"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "merged")
    turns = [{"role": "user", "content": "Where is the pump?"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    words = "".join(f" {word}" for word in tiny.WORDS) if kind == "seats" else ""
    assert text == write_prompt("Where is the pump?", tiny.SYSTEM + words)


@pytest.mark.parametrize("kind", KINDS)
def test_gguf_and_mlx_hold_the_adapters_own_factors(
    kind: str, compiled: Compile, tmp_path: Path
) -> None:
    done = compiled(kind)
    stored = load_file(done.adapter / "adapter_model.safetensors")
    run(done, "mlx", tmp_path / "mlx")
    run(done, "gguf", tmp_path / "a.gguf")
    mlx = load_file(tmp_path / "mlx" / "adapters.safetensors")
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    sums = {round(float(tensor.data.sum()), 4) for tensor in reader.tensors}
    assert len(mlx) == len(stored) == len(reader.tensors)
    for name, tensor in stored.items():
        module, _, kind_of = name.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
        assert torch.equal(mlx[f"{module}.{kind_of.lower()}"], tensor.T)
        assert round(float(tensor.numpy().sum()), 4) in sums  # rows may be permuted


@pytest.mark.parametrize("kind", ["llama", "seats"])
@pytest.mark.parametrize("to", EXPORTERS)
def test_every_folder_says_how_to_load_it_and_where_it_came_from(
    to: str, kind: str, compiled: Compile, tmp_path: Path
) -> None:
    done = compiled(kind)
    result = run(done, to, tmp_path / "out")
    files = {path.name for path in (tmp_path / "out").iterdir()}
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    record = json.loads((tmp_path / "out" / "d2l.json").read_text("utf-8"))
    assert _named_files(readme) <= files | {"."}
    assert record["export"]["to"] == to
    assert record["chunks"] == json.loads((done.adapter / "d2l.json").read_text())["chunks"]
    if kind == "seats" and to != "ollama":  # its prompts are made by these, elsewhere by the base's
        assert files >= {"chat_template.jinja", "tokenizer.json", "tokenizer_config.json"}
    assert result.size_bytes == sum(p.stat().st_size for p in (tmp_path / "out").iterdir())


def _named_files(readme: str) -> set[str]:
    """What a README's lines name beside the base, as paths from its folder."""
    code = "\n".join(re.findall(r"^```\w+\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE))
    ours = re.findall(r"[\w./-]*(?:adapter\.gguf|\.jinja|Modelfile)|(?<=[ \"])\.(?=[\s\"])", code)
    assert ours, "names nothing of the folder"
    return {str(PurePath(name)) for name in ours}


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("to", EXPORTERS)
def test_load_lines_are_quoted_whatever_a_folder_is_called(to: str, single: bool) -> None:
    out = "my export; x" + (".gguf" if single else "")
    facts = ExportFacts("my adapter; x", "org/base; y", "base; y.gguf", out, seats=True)
    line = load_line(facts, to)
    names = {"my adapter; x", "org/base; y", "base; y.gguf", out}
    files = ("", "/chat_template.jinja", "/adapter.gguf", "/Modelfile")
    known = {f"{name}{file}" for name in names for file in files}
    words = shlex.split(line.replace('"$(cat ', "").replace(')"', ""))
    assert out in " ".join(words)
    assert all(word.rpartition("=")[2] in known for word in words if ";" in word or " " in word)


@pytest.mark.parametrize("out", ["deep/out", "deep/out.gguf"])
@pytest.mark.parametrize("to", EXPORTERS)
def test_load_lines_can_be_run_where_the_export_was_made(
    to: str, out: str, compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if out.endswith(".gguf") and to != "gguf":
        return
    monkeypatch.chdir(tmp_path)
    line = run(compiled("seats"), to, Path(out)).load
    ours = re.findall(r"[\w./-]*(?:deep/|\.jinja|Modelfile)[\w./-]*", line)
    assert any(name.startswith("deep/out") for name in ours)
    assert [name for name in ours if not Path(name).exists()] == []


@pytest.mark.parametrize("to", EXPORTERS)
def test_the_same_adapter_gives_the_same_bytes_and_force_replaces_them(
    to: str, compiled: Compile, tmp_path: Path
) -> None:
    done, out = compiled("seats"), tmp_path / "out"
    run(done, to, out)
    first = read_files(out)
    with pytest.raises(AdapterError, match="out exists already"):
        run(done, to, out)
    run(done, to, out, force=True)
    assert read_files(out) == first


def test_the_printed_line_has_the_path_of_the_bases_file_and_the_readme_its_name(
    compiled: Compile, tmp_path: Path
) -> None:
    source = write_gguf(tmp_path / "base.gguf")
    result = run(compiled("seats"), "gguf", tmp_path / "out", base=str(source))
    assert result.load.startswith(f"llama-server -m {source} --lora {tmp_path}/out/adapter.gguf ")
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "\nllama-server -m base.gguf --lora ./adapter.gguf " in readme
    assert str(tmp_path) not in readme


def test_ollama_gets_a_merged_model_and_the_opening(compiled: Compile, tmp_path: Path) -> None:
    run(compiled("seats"), "ollama", tmp_path / "out")
    text = (tmp_path / "out" / "Modelfile").read_text("utf-8")
    opening = f"{tiny.SYSTEM} {' '.join(tiny.WORDS)}"
    assert text.startswith("FROM ./model.gguf\nTEMPLATE ")
    assert f'SYSTEM """{opening}"""' in text


def test_ollama_wants_a_gguf_file_of_the_base(compiled: Compile, tmp_path: Path) -> None:
    done = compiled("mistral")
    with pytest.raises(AdapterError, match="is a model folder, and Ollama runs GGUF files"):
        run(done, "ollama", tmp_path / "out", base=str(done.base))


def test_a_strangers_template_is_rendered_apart(compiled: Compile, tmp_path: Path) -> None:
    adapter = shutil.copytree(compiled("seats").adapter, tmp_path / "a.lora")
    (adapter / "chat_template.jinja").write_text("{{ '%09999999999d' % 1 }}")
    base = str(write_gguf_base(compiled("seats").root))
    options = ExportOptions("ollama", base=base, offline=True)
    with pytest.raises(AdapterError) as caught:
        export.run(adapter, tmp_path / "out", options)
    assert caught.value.message == (
        f"{adapter / 'chat_template.jinja'}: the chat template cannot be used "
        "(it uses more than 1 GB of memory)"
    )
    assert not (tmp_path / "out").exists()


# ---- adapters of other tools --------------------------------------------------------------------


@pytest.mark.parametrize("family", slow_after(2, *tiny.FAMILIES))
def test_scale_and_patterns_of_other_tools_are_kept(
    family: str, task: Callable[..., Path], base: Callable[[str], str], tmp_path: Path
) -> None:
    """Rank-stabilized, and one module of another alpha: the delta is the one PEFT would add."""
    config = {"use_rslora": True, "lora_alpha": 5, "alpha_pattern": {"layers.1.*v_proj": 2.5}}
    adapter = task(family, config=config)
    options = ExportOptions("merged", base=base(family), offline=True)
    export.run(adapter, tmp_path / "merged", options)
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    before = tiny.make_causal(family).state_dict()
    for name, (a, b) in make_factors(family).items():
        alpha = 2.5 if name.startswith("model.layers.1.") and name.endswith("v_proj") else 5
        expected = before[f"{name}.weight"].double() + alpha / 2 * (b.double() @ a.double())
        assert (merged[f"{name}.weight"] - expected).abs().max() < 1e-6, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"use_dora": True}}, "has DoRA's magnitudes, which cannot be exported"),
        ({"config": {"bias": "all"}}, "has biases of the base, which cannot be exported"),
        ({"config": {"modules_to_save": ["lm_head"]}}, "has whole modules"),
        (
            {"tensors": {f"{PREFIX}model.embed_tokens.lora_embedding_A": torch.ones(2, 3)}},
            "has tensors that are no LoRA, for example .*embed_tokens.lora_embedding_A",
        ),
        ({"config": {"lora_alpha": "much"}}, "lora_alpha is 'much', expected a number"),
        (
            {"tensors": {f"{PREFIX}model.layers.0.self_attn.q_proj.lora_B.weight": None}},
            "has no partner",
        ),
    ],
)
def test_more_than_plain_lora_is_refused(
    changes: dict[str, Any],
    message: str,
    task: Callable[..., Path],
    base: Callable[..., str],
    tmp_path: Path,
) -> None:
    options = ExportOptions("gguf", base=base(), offline=True)
    with pytest.raises(AdapterError, match=message):
        export.run(task(**changes), tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", EXPORTERS)
def test_a_base_that_does_not_fit_is_refused(
    to: str, task: Callable[..., Path], base: Callable[..., str], tmp_path: Path
) -> None:
    options = ExportOptions(to, base=base("gemma2"), offline=True)
    with pytest.raises(AdapterError, match="is 32 → 32, the base has 32 → 64"):
        export.run(task("llama"), tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_values_that_are_not_finite_leave_nothing_behind(
    task: Callable[..., Path], base: Callable[..., str], tmp_path: Path
) -> None:
    name = f"{PREFIX}model.layers.2.self_attn.q_proj.lora_B.weight"
    adapter = task(tensors={name: torch.full((32, 4), torch.nan)})
    bases = dict.fromkeys(EXPORTERS, base()) | {"ollama": str(write_gguf_base(tmp_path / "llama"))}
    for to, found in bases.items():
        with pytest.raises(AdapterError, match="not finite"):
            export.run(adapter, tmp_path / "out", ExportOptions(to, base=found, offline=True))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"task", "llama-base", "llama.gguf"}


def test_a_quantized_base_is_not_merged_into(
    task: Callable[..., Path], base: Callable[..., str], tmp_path: Path
) -> None:
    config = Path(base()) / "config.json"
    values = json.loads(config.read_text()) | {
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}
    }
    config.write_text(json.dumps(values))
    options = ExportOptions("merged", base=str(config.parent), offline=True)
    with pytest.raises(BaseModelError, match=r"is quantized \(bitsandbytes\)"):
        export.run(task(), tmp_path / "out", options)
    eighths = ExportOptions("gguf", base=str(config.parent), offline=True)
    assert export.run(task(), tmp_path / "a.gguf", eighths).size_bytes > 0


def test_force_replaces_exports_only(compiled: Compile, tmp_path: Path) -> None:
    done = compiled("llama")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "model.gguf").write_bytes(b"GGUF of another tool")
    shutil.copytree(done.adapter, tmp_path / "a.lora")
    for to, name in (("mlx", "mine"), ("gguf", "model.gguf"), ("mlx", "a.lora")):
        with pytest.raises(AdapterError, match=f"{name} exists and was not written by d2l"):
            run(done, to, tmp_path / name, force=True)
    run(done, "gguf", tmp_path / "own.gguf")
    run(done, "gguf", tmp_path / "own.gguf", force=True)
