"""Check of an adapter folder: its faults, and the runtimes that load it, each with its line.

Works for PEFT adapters of any tool. Prints nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from d2l.adapters.info import WEIGHTS, AdapterInfo, read_info
from d2l.adapters.peft_folder import load_tensors
from d2l.bases.catalog import find_used
from d2l.bases.models import find_base
from d2l.errors import AdapterError, BaseModelError, OptionError
from d2l.runtimes.adapter_facts import BaseFacts, Facts
from d2l.runtimes.catalog import RUNTIMES
from d2l.runtimes.faults import Fault, find_faults
from d2l.runtimes.runs import EngineRun, find_last
from d2l.runtimes.runtime import REFUSES, describe_fix, load_line


@dataclass(frozen=True)
class CheckOptions:
    """Options of a check; empty `runtimes` mean all."""

    runtimes: tuple[str, ...] = ()
    max_lora_rank: int | None = None
    base: str | None = None
    offline: bool = False


@dataclass(frozen=True)
class Breach:
    """Breach of a rule: effect, message, fix, and source of the rule."""

    effect: str
    message: str
    fix: str
    source: str


@dataclass(frozen=True)
class Verdict:
    """Verdict of a runtime on the adapter.

    `run`: the engine's last run beside PEFT, None if it was never run; `unrun`: source of the parts
    of the line that were never executed.
    """

    runtime: str
    version: str
    accepts: bool
    load: str
    run: EngineRun | None
    unrun: str
    findings: tuple[Breach, ...]

    def __str__(self) -> str:
        word = "accepts" if self.accepts else "does not accept it"
        run = "run" if self.run else "not run"
        lines = [f"{self.runtime} ({self.version}, {run}) {word}", f"  {self.load}"]
        if self.unrun:
            lines.append(f"    by rule: {self.unrun}")
        for fix, same in groupby(self.findings, key=lambda finding: finding.fix):
            lines += [f"  {finding.effect}: {finding.message}" for finding in same]
            lines.append(f"    do: {fix}")
        return "\n".join(lines)


@dataclass(frozen=True)
class CheckReport:
    """Report of a check; `note`: facts that could not be checked."""

    facts: Facts
    faults: tuple[Fault, ...]
    verdicts: tuple[Verdict, ...]
    note: str | None = None

    @property
    def runtimes(self) -> dict[str, Verdict]:
        """Verdicts by the names of the runtimes: "vllm", "llama.cpp", …."""
        return {verdict.runtime: verdict for verdict in self.verdicts}

    @property
    def passes(self) -> bool:
        """True if there is no fatal fault, and all chosen runtimes accept the adapter."""
        return all(verdict.accepts for verdict in self.verdicts)


def check(adapter: Path, options: CheckOptions) -> CheckReport:
    """Check an adapter folder; raises AdapterError if it cannot be read at all."""
    for name in options.runtimes:
        if name not in RUNTIMES:
            hint = f"choose from {', '.join(RUNTIMES)}"
            raise AdapterError(f"unknown runtime {name!r}", hint=hint)
    asked = list(options.runtimes or RUNTIMES)
    _refuse_idle_rank(options, asked)
    info = read_info(adapter)
    base, note = _find_base(info, options)
    facts = Facts(info, base, options.max_lora_rank)
    tensors = load_tensors(info, WEIGHTS)
    faults = tuple(find_faults(facts, tensors))
    broken = any(fault.fatal for fault in faults)
    verdicts = tuple(_judge(name, facts, broken=broken) for name in asked)
    return CheckReport(facts, faults, verdicts, note)


def _judge(name: str, facts: Facts, *, broken: bool) -> Verdict:
    """Apply a runtime's rules; no runtime accepts a broken adapter."""
    runtime = RUNTIMES[name]
    findings = []
    for entry in runtime.entries:
        message = entry.rule(facts)
        if message is not None:
            fix = describe_fix(entry, facts)
            findings.append(Breach(entry.effect, message, fix, entry.source))
    accepts = not broken and all(finding.effect != REFUSES for finding in findings)
    return Verdict(
        runtime=name,
        version=runtime.version,
        accepts=accepts,
        load=load_line(runtime, facts),
        run=find_last(name),
        unrun=runtime.unrun,
        findings=tuple(findings),
    )


def _refuse_idle_rank(options: CheckOptions, asked: Sequence[str]) -> None:
    """Refuse a rank if none of the chosen runtimes is started with one."""
    ranked = [name for name, runtime in RUNTIMES.items() if "rank}" in runtime.load]
    if options.max_lora_rank is not None and not set(ranked) & set(asked):
        raise OptionError(
            f"{', '.join(asked)}: started without --max-lora-rank",
            hint=f"leave it out, or ask about {' or '.join(ranked)}",
        )


def _find_base(info: AdapterInfo, options: CheckOptions) -> tuple[BaseFacts | None, str | None]:
    """Find the base's config; returns it, or None and the reason."""
    name = str(info.config.get("base_model_name_or_path") or "")
    try:
        if not name and options.base is None:
            raise BaseModelError("the adapter does not name its base")
        given = options.base or find_used(name, info.base_sha256)
        files = find_base(name, override=given, offline=options.offline, need="config")
        gguf = None if files.gguf is None else str(files.gguf)
        base = replace(BaseFacts.of(files.config), gguf=gguf)
    except BaseModelError as error:
        if options.base is not None:  # the user named it
            raise
        return None, f"shapes and layers were not compared with the base: {error.message}"
    unknown = f"shapes were not compared with the base, of unknown type {base.model_type}"
    return base, None if base.shapes else unknown
