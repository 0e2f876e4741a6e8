"""Runtime of `d2l check`: how it loads an adapter, and what it refuses or leaves out.

Every rule names its source with the version. The rules are in `rules`, those of each runtime in
`catalog`, and the runs of engines in `runs`.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from d2l.adapters.peft_config import VLLM_RANKS
from d2l.runtimes import rules
from d2l.runtimes.adapter_facts import Facts

#: Effects of a breach: the runtime does not load the adapter; it loads it and leaves something out;
#: or it reads the PEFT folder wrongly or not at all, and what d2l exports of it rightly.
REFUSES, IGNORES, EXPORTS = "refuses", "ignores", "needs the export"
EXPORT = "d2l export {path} --to gguf: the numbers are folded into the weights"
UNIFORM = "d2l export {path} --to uniform: one rank and one scale for all modules"
#: Beginning of a line that serves {name}-merged.
MERGED = "d2l export {path} --to merged -o {name}-merged && "
MERGE = "d2l export {path} --to merged, and serve the merged model without LoRA"
RENAME = "rename the keys: base_model.model.…"
PLAIN = "train it as plain LoRA, or merge it into its base with PEFT"


@dataclass(frozen=True)
class RuntimeRule:
    """Rule of a runtime: effect of a breach, fix, and source."""

    rule: rules.Rule
    effect: str
    fix: str
    source: str


@dataclass(frozen=True)
class Runtime:
    """Runtime: what it takes, the version whose text was read, and its rules.

    `load` and `template` are parts of a shell line (for PEFT, of Python: `quote` quotes a name
    there). `rescaled` replaces the line if the weights behind the base's name, which `load` would
    load, do not fit the adapter. `unrun`: parts of the line that were never executed here, and
    their source; empty if all were.
    """

    takes: str
    version: str
    load: str
    template: str
    unrun: str
    entries: tuple[RuntimeRule, ...]
    quote: Callable[[str], str] = shlex.quote
    rescaled: str = ""


def load_line(runtime: Runtime, facts: Facts) -> str:
    """Write the line that loads an adapter, with the smallest sufficient or the given rank; if the
    weights behind the base's name do not fit it, the line with weights that do."""
    given = facts.max_lora_rank or rules.pick_rank(facts.rank, VLLM_RANKS) or VLLM_RANKS[-1]
    line = runtime.load + (runtime.template if facts.template else "")
    if facts.rescaled is not None and runtime.rescaled:
        line = runtime.rescaled
    words = {what: runtime.quote(word) for what, word in _words(facts).items()}
    return line.format(**words, max_rank=given, rank=facts.max_lora_rank or facts.rank)


def describe_fix(entry: RuntimeRule, facts: Facts) -> str:
    """Describe how to mend a breach. For ranks: the smallest sufficient vLLM rank, and the largest
    that the running server accepts."""
    served = facts.max_lora_rank or VLLM_RANKS[-1]
    lower = [rank for rank in VLLM_RANKS if rank < facts.rank and rank <= served]
    needed = rules.pick_rank(facts.rank, VLLM_RANKS)
    return entry.fix.format(
        **{what: shlex.quote(word) for what, word in _words(facts).items()},
        lower=max(lower, default=1),
        needed=f"--max-lora-rank {needed}" if needed else "a runtime without a limit",
    )


def _words(facts: Facts) -> dict[str, str]:
    return {
        "base": facts.base_name,
        "gguf": (facts.base and facts.base.gguf) or "BASE.gguf",
        "name": facts.name,
        "path": str(facts.info.folder),
        "template": facts.template or "",
    }
