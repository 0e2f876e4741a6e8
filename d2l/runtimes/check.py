"""Adapter folder → report: what is wrong with it, and which runtimes load it, with which line.

Works for PEFT adapters of any tool. Prints nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from safetensors import SafetensorError
from safetensors.torch import load_file

from d2l.adapters.info import WEIGHTS, AdapterInfo, read_info
from d2l.bases.families import ATTENTION, FAMILIES, MLP
from d2l.bases.models import find_base
from d2l.errors import AdapterError, BaseModelError, OptionError
from d2l.runtimes import catalog as runtimes
from d2l.runtimes.catalog import REFUSES, RUNTIMES
from d2l.runtimes.facts import BaseFacts, Facts
from d2l.runtimes.faults import Fault, find_faults

_QUESTION = {"role": "user", "content": "A question?"}


@dataclass(frozen=True)
class CheckOptions:
    """What to check against; `runtimes` empty means all of them."""

    runtimes: tuple[str, ...] = ()
    max_lora_rank: int | None = None
    base: str | None = None
    offline: bool = False


@dataclass(frozen=True)
class Finding:
    """A rule that an adapter breaks: effect, what was found, what to do, and where the rule is."""

    effect: str
    message: str
    fix: str
    source: str


@dataclass(frozen=True)
class Verdict:
    """What one runtime makes of the adapter."""

    runtime: str
    version: str
    accepts: bool
    load: str
    checked: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Report:
    """Everything that was found; `note` says what could not be looked at."""

    facts: Facts
    faults: tuple[Fault, ...]
    verdicts: tuple[Verdict, ...]
    note: str | None = None

    @property
    def passes(self) -> bool:
        """Whether all runtimes that were asked accept the adapter and nothing fatal is wrong."""
        return all(verdict.accepts for verdict in self.verdicts)


def check(adapter: Path, options: CheckOptions) -> Report:
    """Check an adapter folder; raises AdapterError where it cannot be read at all."""
    asked = _pick_runtimes(options.runtimes)
    _refuse_idle_rank(options, asked)
    info = read_info(adapter)
    base, note = _find_base(info, options)
    facts = Facts(info, base, options.max_lora_rank)
    try:
        tensors = load_file(adapter / WEIGHTS)
    except SafetensorError as error:
        raise AdapterError(
            f"{adapter / WEIGHTS}: {error}", hint="save the adapter again"
        ) from error
    faults = tuple(find_faults(facts, tensors, _render(facts)))
    broken = any(fault.fatal for fault in faults)
    verdicts = tuple(_judge(name, facts, broken=broken) for name in asked)
    return Report(facts, faults, verdicts, note)


def _judge(name: str, facts: Facts, *, broken: bool) -> Verdict:
    """One runtime's rules; a broken adapter is accepted by none."""
    runtime = RUNTIMES[name]
    findings = []
    for entry in runtime.entries:
        message = entry.rule(facts)
        if message is not None:
            fix = runtimes.describe_fix(entry, facts)
            findings.append(Finding(entry.effect, message, fix, entry.source))
    accepts = not broken and all(finding.effect != REFUSES for finding in findings)
    line = runtimes.load_line(runtime, facts)
    return Verdict(name, runtime.version, accepts, line, runtime.checked, tuple(findings))


def _pick_runtimes(names: Sequence[str]) -> list[str]:
    odd = [name for name in names if name not in RUNTIMES]
    if odd:
        raise AdapterError(f"unknown runtime {odd[0]!r}", hint=f"choose from {', '.join(RUNTIMES)}")
    return list(names) or list(RUNTIMES)


def _refuse_idle_rank(options: CheckOptions, asked: Sequence[str]) -> None:
    """Refuse a rank where no server that is asked about is started with one."""
    ranked = [name for name, runtime in RUNTIMES.items() if "--max-lora-rank" in runtime.load]
    if options.max_lora_rank is not None and not set(ranked) & set(asked):
        raise OptionError(
            f"--max-lora-rank means nothing to {', '.join(asked)}",
            hint=f"leave it out, or ask about {' or '.join(ranked)}",
        )


def _find_base(info: AdapterInfo, options: CheckOptions) -> tuple[BaseFacts | None, str | None]:
    """The base's config, or why it is not at hand."""
    name = str(info.config.get("base_model_name_or_path") or "")
    try:
        if not name and options.base is None:
            raise BaseModelError("the adapter does not name its base")
        files = find_base(name, override=options.base, offline=options.offline, config_only=True)
        config = files.config
    except BaseModelError as error:
        if options.base is not None:  # then it was to be there
            raise
        return None, f"shapes and layers were not compared with the base: {error.message}"
    kind = str(config.model_type)
    family = FAMILIES.get(kind)
    shapes = {m: family.module_shape(config, m) for m in (*ATTENTION, *MLP)} if family else {}
    note = None if family else f"shapes were not compared with the base, of unknown type {kind}"
    tied = bool(getattr(config, "tie_word_embeddings", False))
    return BaseFacts(kind, int(config.num_hidden_layers), tied, shapes), note


def _render(facts: Facts) -> str | None:
    """The prompt that the adapter's own chat template makes of a question; "" where it fails."""
    if facts.template is None:
        return None
    # A template is a program of whoever made the adapter: it is run as transformers runs it, boxed.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    try:
        source = Path(facts.template).read_text("utf-8")
        template = environment.from_string(source)
        return template.render(messages=[_QUESTION], add_generation_prompt=True)
    except (jinja2.TemplateError, UnicodeError, TypeError, ValueError):
        return ""
