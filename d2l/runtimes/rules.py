"""Rules of runtimes for adapters, as small functions: facts in, a message or None out.

`catalog` says which runtime has which rule, its source, and the effect of a breach.
"""

from collections.abc import Callable

from d2l.adapters.module_names import PREFIX, parse
from d2l.adapters.peft_config import PLAIN_STARTS
from d2l.runtimes.adapter_facts import Facts

Rule = Callable[[Facts], str | None]
#: Endings of tensors for embeddings, and for a base that was changed before training.
EMBEDDING = (".lora_embedding_A", ".lora_embedding_B", ".base_layer.weight")
#: Partners of a module that SGLang expects in the same layer (sglang 0.5.23, srt/lora/lora.py:
#: LoRAAdapter.normalize_qkv_proj and normalize_gate_up_proj).
PARTNERS = {
    "q_proj": ("v_proj",),
    "k_proj": ("q_proj", "v_proj"),
    "v_proj": ("q_proj",),
    "up_proj": ("gate_proj",),
}
LINEAR = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")


def has(field: str, what: str) -> Rule:
    """Make a rule against a config field that is set."""

    def rule(facts: Facts) -> str | None:
        return f"{field}: {what}" if facts.config.get(field) else None

    return rule


def has_bias(facts: Facts) -> str | None:
    """Find trained biases of the base."""
    bias = facts.config.get("bias", "none")
    return None if bias == "none" else f"bias: {bias!r}, biases of the base were trained along"


def has_special_start(facts: Facts) -> str | None:
    """Find a start of training that changes the base's weights."""
    start = facts.config.get("init_lora_weights", True)
    if not isinstance(start, str) or start.lower() in PLAIN_STARTS:
        return None
    return f"init_lora_weights: {start!r} changes the base's weights when PEFT loads it"


def saves_modules(*allowed: str) -> Rule:
    """Make a rule against whole modules beside the LoRA, but for those allowed."""

    def rule(facts: Facts) -> str | None:
        named = facts.config.get("modules_to_save") or ()
        if not isinstance(named, list | tuple):  # PEFT takes a name alone, too
            named = [named]
        odd = [m for m in named if m not in allowed]
        return f"modules_to_save: {', '.join(map(str, odd))}" if odd else None

    return rule


def mixes_ranks(facts: Facts) -> str | None:
    """Find modules of different ranks."""
    ranks = sorted(set(facts.ranks.values()))
    if len(ranks) < 2:
        return None
    return f"modules are of ranks {' and '.join(map(str, ranks))}, one is expected"


def targets_beyond(*known: str) -> Rule:
    """Make a rule against modules that a runtime cannot adapt."""

    def rule(facts: Facts) -> str | None:
        odd = [module for module in facts.modules if module not in known]
        return f"target modules: {', '.join(odd)} cannot be adapted there" if odd else None

    return rule


def is_above(allowed: tuple[int, ...]) -> Rule:
    """Make a rule on the rank that a server reserves: one of `allowed`, at least the rank."""

    def rule(facts: Facts) -> str | None:
        given = facts.max_lora_rank
        if given is not None and given not in allowed:
            return f"--max-lora-rank is {given}, allowed are {', '.join(map(str, allowed))}"
        most = given or allowed[-1]
        if facts.rank > most:
            return f"rank is {facts.rank}, above " + (
                f"--max-lora-rank {most}" if given else f"{most}, the most that can be served"
            )
        return None

    return rule


def is_above_given(facts: Facts) -> str | None:
    """Find a rank above the server's."""
    given = facts.max_lora_rank
    if given is None or facts.rank <= given:
        return None
    return f"rank is {facts.rank}, above --max-lora-rank {given}"


def is_scaled(facts: Facts) -> str | None:
    """Find a scale other than 1, for runtimes that read the tensors alone."""
    config = facts.config
    alphas, ranks = (config.get(f"{what}_pattern") or {} for what in ("alpha", "rank"))
    plain = config.get("lora_alpha") == config.get("r") and not config.get("use_rslora")
    return None if plain and alphas == ranks else "the scale is not 1, and it is not read"


def lacks_prefix(facts: Facts) -> str | None:
    """Find keys that do not begin as PEFT writes them."""
    odd = [name for name in facts.info.tensors if not name.startswith(PREFIX)]
    return f"key {min(odd)} does not begin with {PREFIX}" if odd else None


def lacks_partners(facts: Facts) -> str | None:
    """Find a module that is adapted without a partner that an engine joins it with."""
    for module in facts.pairs:
        short = parse(module).short
        for partner in PARTNERS.get(short, ()):
            if module.removesuffix(short) + partner not in facts.pairs:
                return f"{module} is adapted without {partner}"
    return None


def adapts_tied_head(facts: Facts) -> str | None:
    """Find LoRA on a head that has no weights of its own."""
    tied = facts.base is not None and facts.base.tied and "lm_head" in facts.modules
    return "lm_head shares the embedding's weights in this base" if tied else None


def adapts_embeddings(facts: Facts) -> str | None:
    """Find LoRA on embeddings, whose factors have names of their own."""
    odd = [name for name in facts.info.tensors if ".lora_embedding_" in name]
    return f"key {min(odd)}: the embedding is adapted" if odd else None


def has_other_tensors(*endings: str) -> Rule:
    """Make a rule against tensors that are neither A nor B, nor have one of these endings."""

    def rule(facts: Facts) -> str | None:
        known = (".lora_A.weight", ".lora_B.weight", *endings)
        odd = [name for name in facts.info.tensors if not name.endswith(known)]
        return f"key {min(odd)} is no LoRA weight" if odd else None

    return rule


def pick_rank(rank: int, allowed: tuple[int, ...]) -> int | None:
    """Pick the lowest allowed rank that is sufficient; None without any."""
    return next((own for own in allowed if own >= rank), None)
