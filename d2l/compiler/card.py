"""The texts that travel with an adapter: its model card, chat template and tokenizer files.

A plan in, text files by name out; opens nothing but the base's tokenizer.
"""

from pathlib import PurePath

from d2l import __version__
from d2l.adapters.card import LOADING, literal, quote
from d2l.adapters.info import CARD
from d2l.compiler.plan import CompilePlan


def write_texts(plan: CompilePlan, adapter: str) -> dict[str, str]:
    """All text files of the adapter folder but its JSON configuration."""
    prompt = plan.kind.texts(plan.config, plan.rank, plan.base)
    return {CARD: write_card(plan, adapter), **prompt}


def write_card(plan: CompilePlan, adapter: str) -> str:
    """The model card: what is in the adapter, how to load it, and its limits."""
    config, kind = plan.config, plan.kind
    names = [PurePath(document.name).name for document in plan.documents]
    title = quote(names[0]) if len(names) == 1 else f"{len(names)} documents"
    checkpoint = quote(plan.checkpoint.name)
    rows = [
        ("documents", ", ".join(map(quote, names))),
        ("base model", quote(config.base)),
        ("made by", f"d2l {__version__}, checkpoint {checkpoint} ({config.kind})"),
        ("tokens read", plan.describe_tokens()),
        ("rank", f"{plan.rank}, on {', '.join(config.target_modules)}"),
        ("merge", plan.method if plan.rank == plan.full_rank else f"{plan.method}, then SVD"),
    ]
    cells = [(name, value.replace("|", "\\|")) for name, value in rows]  # also inside code
    table = "\n".join(f"| {name} | {value} |" for name, value in cells)
    loading = LOADING.format(
        tokenizer=literal(adapter if kind.own_tokenizer else config.base),
        base=literal(config.base),
        adapter=literal(adapter),
    )
    limits = kind.card_limits(config)
    limits += "".join(f"- {' '.join(warning.split())}\n" for warning in plan.warnings)
    return (
        f"---\nbase_model: {literal(config.base)}\n"
        "library_name: peft\ntags:\n- lora\n- d2l\n---\n\n"
        f"# {title}, compiled into a LoRA adapter\n\n"
        "This adapter was not fine-tuned. A pretrained network read the document once and wrote "
        "these weights, so that the base model can answer questions about it without the text in "
        "its prompt. `d2l.json` says exactly what went in.\n\n"
        f"| | |\n| --- | --- |\n{table}\n\n"
        f"## Load it\n\n```python\n{loading}```\n\n"
        f"{kind.card_prompt(plan.rank)}\n"
        f"## Limits\n\n{limits}"
        "- Answers can be wrong with confidence: check what matters against the document.\n"
        "- The document's content is in these weights. Share them as you would share the text.\n"
    )
