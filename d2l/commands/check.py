"""The command `d2l check`: which runtimes load an adapter, and what is wrong with it."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import d2l
from d2l.adapters.info import read_info
from d2l.answer.options import AskOptions
from d2l.commands import console
from d2l.commands.options import AdapterPath, Base, Device, Offline
from d2l.errors import OptionError
from d2l.files.printable import one_line

if TYPE_CHECKING:
    from d2l.runtimes.check import CheckReport


def check(
    adapter: AdapterPath,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this one; repeatable: peft, vllm, sglang, llama.cpp, mistral.rs, ollama, "
            "openvino, mlx; default: all."
        ),
    ] = None,
    max_lora_rank: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rank that vLLM, SGLang or mistral.rs is started with; default: the smallest that "
            "fits.",
        ),
    ] = None,
    live: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Ask an OpenAI-compatible endpoint instead: is the adapter in effect there, in "
            "its strength, with its template?",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="With --live: the adapter's name there; default: its own.")
    ] = None,
    base: Base = None,
    device: Device = "auto",
    offline: Offline = False,
) -> None:
    """Check which runtimes load an adapter.

    Prints the command line of each runtime, and the adapter's faults.
    """
    if live is not None:
        if runtime or max_lora_rank is not None:
            raise OptionError(
                "--live takes no --runtime and no --max-lora-rank",
                hint="leave them out: the endpoint itself is asked",
            )
        _check_live(adapter, live, model, AskOptions(base, device, offline=offline))
        return
    if model is not None:
        raise OptionError("--model needs --live", hint="name its URL")
    report = d2l.check(
        adapter,
        runtimes=runtime or (),
        max_lora_rank=max_lora_rank,
        base=base,
        local_files_only=offline,
    )
    if report.note:
        console.note(report.note)
    console.emit(describe(report), show(report))
    if not report.passes:
        raise typer.Exit(1)


def _check_live(adapter: Path, url: str, model: str | None, asking: AskOptions) -> None:
    """Ask an endpoint and print; exit code 1 unless the adapter is in effect there."""
    from d2l.evaluation.endpoint import Endpoint
    from d2l.evaluation.live import check_live
    from d2l.runtimes.adapter_facts import Facts

    name = model or Facts(read_info(adapter)).name
    endpoint = Endpoint(url, name, os.environ.get("D2L_SERVE_TOKEN"))
    report = check_live(adapter, endpoint, asking, console.watch)
    lines = [f"{name} at {url}: {report['message']}"]
    if report["fix"]:
        lines.append(f"  do: {report['fix']}")
    ranked = sorted(report["distances"].items(), key=lambda item: item[1])
    distances = ", ".join(f"{state} {distance:.2f}" for state, distance in ranked)
    lines.append(f"  {report['questions']} questions, by {report['by']}; distances: {distances}")
    values = {"adapter": str(adapter), "live": report, "passes": report["passes"]}
    console.emit(values, "\n".join(lines))
    if not report["passes"]:
        raise typer.Exit(1)


def describe(report: "CheckReport") -> dict[str, Any]:
    """Describe a report as `--json` prints it."""
    facts = report.facts
    return {
        "adapter": str(facts.info.folder),
        "base": facts.base_name,
        "rank": facts.rank,
        "modules": facts.modules,
        "passes": report.passes,
        "faults": [asdict(fault) for fault in report.faults],
        "runtimes": [asdict(verdict) for verdict in report.verdicts],
        "note": report.note,
    }


def show(report: "CheckReport") -> str:
    """Show a report for people."""
    facts = report.facts
    lines = [
        f"{facts.info.folder}: rank {facts.rank} on {', '.join(facts.modules) or 'no module'}, "
        f"for {facts.base_name}"
    ]
    for fault in report.faults:
        lines += [f"{'wrong' if fault.fatal else 'note'}: {fault.message}", f"  do: {fault.fix}"]
    for verdict in report.verdicts:
        lines += str(verdict).splitlines()
    fine = [v.runtime for v in report.verdicts if v.accepts and not v.findings]
    noted = [v.runtime for v in report.verdicts if v.accepts and v.findings]
    rows = [("use it in", fine), ("after a look at the notes above in", noted)]
    use = "; ".join(f"{words} {', '.join(names)}" for words, names in rows if names)
    lines.append(f"verdict: {use or 'no engine takes it as it is'}")
    return "\n".join(map(one_line, lines))
