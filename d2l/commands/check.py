"""The command `d2l check`: which runtimes load an adapter, and what is wrong with it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console
from d2l.commands.options import AdapterPath, AsJson, Base, Offline

if TYPE_CHECKING:
    from d2l.runtimes.check import Report


def check(
    adapter: AdapterPath,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this one; repeatable: peft, vllm, sglang, lorax, tgi, llama.cpp, ollama, "
            "mlx. Default: all."
        ),
    ] = None,
    max_lora_rank: Annotated[
        int | None, typer.Option(min=1, help="Rank that vLLM or SGLang is started with.")
    ] = None,
    base: Base = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Say which runtimes load an adapter, with which line, and what is wrong with it."""
    from d2l.runtimes import check as pipeline

    options = pipeline.CheckOptions(tuple(runtime or ()), max_lora_rank, base, offline)
    report = pipeline.check(adapter, options)
    if report.note:
        console.note(report.note)
    if as_json:
        console.result_json(describe(report))
    else:
        console.result(show(report))
    if not report.passes:
        raise typer.Exit(1)


def describe(report: "Report") -> dict[str, Any]:
    """The values that `--json` prints."""
    facts = report.facts
    return {
        "adapter": str(facts.info.folder),
        "base": facts.base_name,
        "rank": facts.rank,
        "modules": facts.modules,
        "passes": report.passes,
        "faults": [
            {"message": fault.message, "fix": fault.fix, "fatal": fault.fatal}
            for fault in report.faults
        ],
        "runtimes": [
            {
                "runtime": verdict.runtime,
                "version": verdict.version,
                "accepts": verdict.accepts,
                "load": verdict.load,
                "checked": verdict.checked,
                "findings": [
                    {"effect": f.effect, "message": f.message, "fix": f.fix, "source": f.source}
                    for f in verdict.findings
                ],
            }
            for verdict in report.verdicts
        ],
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
        word = "accepts" if verdict.accepts else "does not accept it"
        lines += [f"{verdict.runtime} ({verdict.version}) {word}", f"  {verdict.load}"]
        for finding in verdict.findings:
            lines += [f"  {finding.effect}: {finding.message}", f"    do: {finding.fix}"]
    return "\n".join(lines)
