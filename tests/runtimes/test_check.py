"""`d2l check` on the table of adapters made for it, on seats, on damaged ones; the command."""

import ast
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from d2l.bases.catalog import BY_ALIAS
from d2l.errors import AdapterError, OptionError
from d2l.runtimes.catalog import RUNTIMES
from d2l.runtimes.check import CheckOptions, check
from d2l.runtimes.export import prepare
from d2l.runtimes.export_options import ExportOptions
from d2l.runtimes.runtime import IGNORES, REFUSES
from tests import tiny
from tests.adapter_cases import CASES, Case, run, write
from tests.command import Command
from tests.compiled import Compiled
from tests.task_adapters import WEIGHTS

pytestmark = pytest.mark.usefixtures("one_thread")
#: How a verdict on vLLM begins.
VLLM = f"vllm ({RUNTIMES['vllm'].version}, run)"
OURS = ("llama", "gemma2", "mistral", "qwen3", "seats")


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
    assert [v.runtime for v in report.verdicts if not v.accepts] == []
    assert report.passes


def test_an_adapter_of_a_file_that_its_bases_name_does_not_lead_to(
    compiled: Callable[[str], Compiled], tmp_path: Path
) -> None:
    done, known = compiled("seats"), BY_ALIAS["qwen2.5-coder-0.5b"]
    folder = Path(shutil.copytree(done.adapter, tmp_path / "a.lora"))
    for name, key, value in (
        ("d2l.json", "base", {"name": known.name, "sha256": known.sha256}),
        ("adapter_config.json", "base_model_name_or_path", known.name),
    ):
        values = json.loads((folder / name).read_text("utf-8"))
        (folder / name).write_text(json.dumps(values | {key: value}), "utf-8")
    report = check(folder, CheckOptions(base=str(done.base), offline=True))
    (fault,) = report.faults
    assert known.file in fault.message
    assert f"--base {known.name}" in fault.message
    assert not fault.fatal
    assert report.passes
    assert f'(d2l.load_base("{folder}"), "{folder}")' in report.runtimes["peft"].load
    for name, served in (
        ("vllm", "vllm serve a-merged"),
        ("sglang", "python -m sglang.launch_server --model-path a-merged"),
        ("mlx", "mlx_lm.server --model a-merged"),
    ):
        line = f"d2l export {folder} --to merged -o a-merged && {served}"
        assert report.runtimes[name].load == line
    assert 'Which.GGUF(".", "BASE.gguf", ' in report.runtimes["mistral.rs"].load
    assert 'LLMPipeline("a" + "-merged-openvino", ' in report.runtimes["openvino"].load
    for to, warned in (("mlx", 1), ("uniform", 1), ("gguf", 0)):
        options = ExportOptions(to, base=str(done.base), offline=True)
        warnings = prepare(folder, tmp_path / to, options).warnings
        assert [known.file in warning for warning in warnings] == [True] * warned


def test_the_serve_line_is_complete(bases: Path, tmp_path: Path) -> None:
    adapter = write(Case(rank=20), tmp_path / "manual.lora")
    (adapter / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    options = CheckOptions(("vllm",), base=str(bases / "llama-tiny"), offline=True)
    (verdict,) = check(adapter, options).verdicts
    assert verdict.load == (
        f"vllm serve tiny-org/llama-tiny --enable-lora --max-lora-rank 32 --lora-modules "
        f"manual={adapter} --chat-template {adapter}/chat_template.jinja"
    )
    lower = CheckOptions(("vllm",), 16, str(bases / "llama-tiny"), offline=True)
    (verdict,) = check(adapter, lower).verdicts
    assert verdict.findings[0].fix == (
        "serve with --max-lora-rank 32, or make the adapter with --max-rank 16"
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_lines_are_quoted_whatever_a_folder_is_called(
    runtime: str, bases: Path, tmp_path: Path
) -> None:
    """Each part of a line that names a file is that name and nothing else."""
    adapter = write(Case(rank=20, config={"use_rslora": True}), tmp_path / "my adapter; x")
    (adapter / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    options = CheckOptions((runtime,), base=str(bases / "llama-tiny"), offline=True)
    (verdict,) = check(adapter, options).verdicts
    if runtime in ("peft", "mistral.rs", "openvino"):  # a line of Python, not of a shell
        texts = [n.value for n in ast.walk(ast.parse(verdict.load)) if isinstance(n, ast.Constant)]
        assert str(adapter) in texts
        return
    for line in (verdict.load, *(f.fix for f in verdict.findings if str(adapter) in f.fix)):
        plain = line.replace('"$(cat ', "").replace(')"', "")
        words = shlex.split(plain, comments=False)
        named = [word for word in words if "my adapter" in word]
        assert named
        assert all(
            word.removeprefix("my-adapter-x=") in (str(adapter), f"{adapter}/chat_template.jinja")
            for word in named
        )
        assert ";" not in plain.replace(shlex.quote(str(adapter)), "").replace(
            shlex.quote(f"{adapter}/chat_template.jinja"), ""
        )


# ---- the prompt of a seats adapter --------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (tiny.CHAT_TEMPLATE, "does not begin with the opening"),
        ("{% if %}", "the chat template cannot be used (TemplateSyntaxError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "cannot be used (SecurityError"),
        ("{{ 1 / 0 }}", "cannot be used (ZeroDivisionError: division by zero)"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "cannot be used (RecursionError"),
        (
            "{{ raise_exception('no \\x1b[2J user') }}",
            "cannot be used (TemplateError: no \\x1b[2J",
        ),
        ("{{ messages[0]['text']['x'] }}", "cannot be used (UndefinedError"),
        ("{{ '%09999999999d' % 1 }}", "cannot be used (it uses more than 1 GB of memory)"),
        ("{{ 'a' * 2000000 }}", "cannot be used (it writes more than 1,000,000 characters)"),
        pytest.param(
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "cannot be used (it takes more than 5 seconds)",
            marks=pytest.mark.slow,
        ),
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
    config = json.loads((bases / "llama-tiny" / "config.json").read_text())
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
    words = ("check", adapter, "--base", bases / "llama-tiny", "--offline", "--runtime", "vllm")
    done = command(*words)
    line = (
        f"vllm serve tiny-org/llama-tiny --enable-lora --max-lora-rank 32 --lora-modules "
        f"manual={adapter}"
    )
    by_rule = f"    by rule: {RUNTIMES['vllm'].unrun}"
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        f"{adapter}: rank 20 on q_proj, v_proj, for tiny-org/llama-tiny\n"
        f"{VLLM} accepts\n  {line}\n{by_rule}\nverdict: use it in vllm\n"
    )
    done = command(*words, "--max-lora-rank", 16)
    assert done.code == 1
    assert done.out.splitlines()[1:] == [
        f"{VLLM} does not accept it",
        f"  {line.replace('rank 32', 'rank 16')}",
        by_rule,
        "  refuses: rank is 20, above --max-lora-rank 16",
        "    do: serve with --max-lora-rank 32, or make the adapter with --max-rank 16",
        "verdict: no engine takes it as it is",
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


def test_a_rank_that_no_runtime_asked_about_takes_is_refused(tmp_path: Path) -> None:
    adapter = write(Case(), tmp_path / "a")
    with pytest.raises(OptionError) as caught:
        check(adapter, CheckOptions(("peft", "mlx"), max_lora_rank=8, offline=True))
    assert caught.value.message == "peft, mlx: started without --max-lora-rank"
    assert caught.value.hint == "leave it out, or ask about vllm or sglang or mistral.rs"
    check(adapter, CheckOptions(("peft", "vllm"), max_lora_rank=8, offline=True))
