"""Texts that travel with an adapter: its model card, chat template and tokenizer files.

A plan in, text files by name out; opens only the base's tokenizer.
"""

from pathlib import PurePath

from d2l.adapters.card import (
    FOLDER,
    KNOWS_NOTHING,
    LOADING,
    literal,
    quote,
    write_head,
    write_list,
    write_table,
)
from d2l.adapters.provenance import Description
from d2l.bases.catalog import spell_base
from d2l.compiler.plan import CompilePlan, TaskPlan
from d2l.datasets.descriptions import CHANGES_MEANINGS, is_rewriting
from d2l.version import __version__


def write_card(plan: CompilePlan, adapter: str = FOLDER) -> str:
    """Write the model card: content of the adapter, code that loads it, and its limits."""
    config, network = plan.config, plan.network
    parts, merge = _explain_parts(plan), _describe_merge(plan)
    names = [PurePath(document.name).name for document in plan.documents]
    title = quote(names[0]) if len(names) == 1 else f"{len(names)} documents"
    checkpoint = quote(plan.checkpoint.name)
    rows = [
        ("documents", ", ".join(map(quote, names))),
        ("base model", quote(config.base)),
        ("made by", f"d2l {__version__}, checkpoint {checkpoint} ({config.kind})"),
        ("tokens", plan.describe_tokens()),
        ("rank", f"{plan.file_rank}, on {', '.join(config.target_modules)}"),
        ("merge", merge),
    ]
    loading = LOADING.format(
        tokenizer="adapter" if network.own_tokenizer else literal(config.base),
        base=spell_base(config.base, plan.base.digest() if network.own_tokenizer else None),
        adapter=literal(adapter),
    )
    trouble = f"{KNOWS_NOTHING}\n" if network.own_tokenizer else ""
    limits = network.explain_limits() + parts + write_list(plan.warnings)
    return (
        f"{write_head(config.base, 'd2l')}"
        f"# {title}, compiled into a LoRA adapter\n\n"
        "This adapter was not fine-tuned. A pretrained network read the document once and wrote "
        "these weights, so that the base model can answer questions about it without the text in "
        "its prompt. `d2l.json` says exactly what went in.\n\n"
        f"{write_table(rows)}\n"
        f"## Load it\n\n```python\n{loading}```\n\n"
        f"{network.explain_prompt(plan.rank)}\n{trouble}"
        f"## Limits\n\n{limits}"
        "- Answers can be wrong with confidence: check what matters against the document.\n"
        "- The document's content is in these weights. Share them as you would share the text.\n"
    )


def _describe_merge(plan: CompilePlan) -> str:
    return f"{plan.options.merge}, then SVD" if plan.is_compressed else plan.options.merge


def _explain_parts(plan: CompilePlan) -> str:
    """Write lines on parts, with their readers, and on the file with the document's text."""
    if not plan.keeps_parts:
        return "" if plan.options.no_text else "- `text.json` holds the document's text.\n"
    return (
        "- `d2l ask` and `d2l serve` choose parts of the document for each question. Other engines "
        "load the one adapter, which recalls little of a document this long; `d2l export "
        "--to parts` gives them the parts.\n"
        "- `parts.json` holds the document's text.\n"
    )


def write_description_card(plan: TaskPlan, description: Description) -> str:
    """Write the model card of an adapter that was made from a task description."""
    config, network, text = plan.config, plan.network, description.text
    scale, own = network.explain_scale(plan.scaling), network.own_tokenizer
    beside = "" if plan.examples is None else f" and {len(plan.examples.rows)} solved examples"
    rows = [
        ("task", quote(text if len(text) <= 300 else text[:299] + "…")),
        ("base model", quote(config.base)),
        ("made by", f"d2l {__version__}, checkpoint {quote(plan.checkpoint.name)} ({config.kind})"),
        *([] if own else [("description embedded by", quote(description.embedder))]),
        ("rank", f"{plan.file_rank}, on {', '.join(config.target_modules)}"),
        *([] if scale is None else [("scaling", f"{scale[0]:g}, folded into lora_B: {scale[1]}")]),
    ]
    loading = LOADING.format(
        tokenizer="adapter" if own else literal(config.base),
        base=spell_base(config.base, network.digest_base()) if own else literal(config.base),
        adapter=FOLDER,
    ).replace("Ask something that the document answers.", "Give the task's input.")
    trouble = f"{KNOWS_NOTHING}\n" if own else ""
    prompt = network.explain_prompt(plan.rank)
    changes = [CHANGES_MEANINGS] if is_rewriting(text) else []
    return (
        f"{write_head(config.base, 't2l')}"
        "# A task description, made into a LoRA adapter\n\n"
        "This adapter was not fine-tuned. A pretrained network read one description of a task"
        f"{beside} and wrote these weights. `d2l.json` says exactly what went in.\n\n"
        f"{write_table(rows)}\n"
        f"## Load it\n\n```python\n{loading}```\n\n"
        f"{prompt}\n{trouble}"
        f"## Limits\n\n{write_list(plan.warnings)}{write_list(changes)}"
        "- Any text yields an adapter. One that is unlike the descriptions that the network was "
        "trained on need not help, and can harm.\n"
        f"{network.explain_base()}"
    )
