"""The command `d2l check`: which runtimes load an adapter, and what is wrong with it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import d2l
from d2l.adapters.info import read_info
from d2l.commands import console
from d2l.commands.options import AdapterPath, AsJson, Base, Device, Offline
from d2l.errors import OptionError
from d2l.files.printable import one_line

if TYPE_CHECKING:
    from d2l.runtimes.check import Report


def check(
    adapter: AdapterPath,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this one; repeatable: peft, vllm, sglang, lorax, llama.cpp, ollama, "
            "mlx. Default: all."
        ),
    ] = None,
    max_lora_rank: Annotated[
        int | None, typer.Option(min=1, help="Rank that vLLM or SGLang is started with.")
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
    token: Annotated[
        str | None,
        typer.Option(envvar="D2L_SERVE_TOKEN", help="With --live: the endpoint's bearer token."),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="With --live: seconds to wait for a starting server.")
    ] = 0.0,
    base: Base = None,
    device: Device = "auto",
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Say which runtimes load an adapter, with which line, and what is wrong with it."""
    if live is not None:
        _refuse_rules(runtime, max_lora_rank)
        passes = _check_live(
            adapter, (live, model, token, wait), (base, device, offline), as_json=as_json
        )
        if not passes:
            raise typer.Exit(1)
        return
    if model is not None or wait:
        raise OptionError("--model and --wait mean nothing without --live", hint="name its URL")
    report = d2l.check(
        adapter,
        runtimes=runtime or (),
        max_lora_rank=max_lora_rank,
        base=base,
        local_files_only=offline,
    )
    if report.note:
        console.note(report.note)
    console.emit(describe(report), show(report), as_json=as_json)
    if not report.passes:
        raise typer.Exit(1)


def _refuse_rules(runtime: list[str] | None, max_lora_rank: int | None) -> None:
    if runtime or max_lora_rank is not None:
        raise OptionError(
            "--runtime and --max-lora-rank mean nothing with --live",
            hint="leave them out: the endpoint itself is asked",
        )


def _check_live(
    adapter: Path,
    where: tuple[str, str | None, str | None, float],
    asking: tuple[str | None, str, bool],
    *,
    as_json: bool,
) -> bool:
    """Ask an endpoint (URL, model, token, wait) and print; whether the adapter is in effect."""
    from d2l.commands.live import check_endpoint, describe_live, show_live
    from d2l.evaluation.live.endpoint import Endpoint
    from d2l.runtimes.facts import Facts

    url, model, token, wait = where
    name = model or Facts(read_info(adapter)).name
    report = check_endpoint(adapter, Endpoint(url, name, token, wait), asking)
    if as_json:
        console.result_json(describe_live(adapter, report))
    else:
        console.result(show_live(report))
    return report.passes


def describe(report: "Report") -> dict[str, Any]:
    """The values that `--json` prints."""
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


def show(report: "Report") -> str:
    """The lines that are printed for people."""
    facts = report.facts
    lines = [
        f"{facts.info.folder}: rank {facts.rank} on {', '.join(facts.modules) or 'no module'}, "
        f"for {facts.base_name}"
    ]
    for fault in report.faults:
        lines += [f"{'wrong' if fault.fatal else 'odd'}: {fault.message}", f"  do: {fault.fix}"]
    for verdict in report.verdicts:
        lines += str(verdict).splitlines()
    return "\n".join(map(one_line, lines))
