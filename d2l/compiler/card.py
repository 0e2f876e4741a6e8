"""Texts that travel with an adapter: its model card, chat template and tokenizer files.

A plan in, text files by name out; opens only the base's tokenizer.
"""

from pathlib import PurePath
from typing import NamedTuple

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
from d2l.bases.catalog import spell_base
from d2l.compiler.plan import CompilePlan, TaskPlan
from d2l.datasets.descriptions import CHANGES_MEANINGS, is_rewriting
from d2l.version import __version__


class _Text(NamedTuple):
    """Texts of a card that depend on the input."""

    command: str
    title: str
    intro: str
    input: tuple[str, str]  # rows of the table: the first, one before the rank, one behind it
    before: tuple[str, str] | None
    behind: tuple[str, str] | None
    question: str
    limits: str
    engines: str = ""  # what other engines get


def write_card(plan: CompilePlan, adapter: str = FOLDER) -> str:
    """Write the model card: content of the adapter, code that loads it, and its limits."""
    network, base = plan.network, plan.config.base
    text = _describe_task(plan) if isinstance(plan, TaskPlan) else _describe_documents(plan)
    checkpoint = f"checkpoint {quote(plan.checkpoint.name)} ({plan.config.kind})"
    rows = [
        text.input,
        ("base model", quote(base)),
        ("made by", f"d2l {__version__}, {checkpoint}"),
        text.before,
        ("rank", f"{plan.file_rank}, on {', '.join(plan.config.target_modules)}"),
        text.behind,
    ]
    own = network.own_tokenizer
    loading = LOADING.format(
        tokenizer="adapter" if own else literal(base),
        base=spell_base(base, plan.base.digest() if own else None),
        adapter=literal(adapter),
    ).replace("Ask something that the document answers.", text.question)
    trouble = f"{KNOWS_NOTHING}\n" if own else ""
    return (
        f"{write_head(base, text.command)}# {text.title}\n\n"
        f"This adapter was not fine-tuned. A pretrained network read {text.intro}\n\n"
        f"{write_table([row for row in rows if row is not None])}\n{text.engines}"
        f"## Load it\n\n```python\n{loading}```\n\n"
        f"{network.explain_prompt(plan.rank)}\n{trouble}"
        f"## Limits\n\n{text.limits}"
    )


def _describe_documents(plan: CompilePlan) -> _Text:
    names = [PurePath(document.name).name for document in plan.documents]
    title = quote(names[0]) if len(names) == 1 else f"{len(names)} documents"
    kept = "parts" if plan.keeps_parts else "text"
    text = "" if plan.options.no_text else f"- `{kept}.json` holds the document's text.\n"
    limits = plan.network.explain_limits() + text + write_list(plan.warnings)
    return _Text(
        "d2l",
        f"{title}, compiled into a LoRA adapter",
        "the document once and wrote these weights, so that the base model can answer questions "
        "about it without the text in its prompt. `d2l.json` says exactly what went in.",
        ("documents", ", ".join(map(quote, names))),
        ("tokens", plan.describe_tokens()),
        ("merge", f"{plan.options.merge}, then SVD" if plan.is_compressed else plan.options.merge),
        "Ask something that the document answers.",
        f"{limits}"
        "- Answers can be wrong with confidence: check what matters against the document.\n"
        "- The document's content is in these weights. Share them as you would share the text.\n",
        _explain_parts(plan),
    )


def _describe_task(plan: TaskPlan) -> _Text:
    network, description, scale = plan.network, plan.description, plan.scale
    text, beside = description.text, ""
    if plan.examples is not None:
        beside = f" and {len(plan.examples.rows)} solved examples"
    embedded = ("description embedded by", quote(description.embedder))
    changes = [CHANGES_MEANINGS] if is_rewriting(text) else []
    return _Text(
        "t2l",
        "A task description, made into a LoRA adapter",
        f"one description of a task{beside} and wrote these weights. `d2l.json` says exactly what "
        "went in.",
        ("task", quote(text if len(text) <= 300 else text[:299] + "…")),
        None if network.own_tokenizer else embedded,
        None if scale is None else ("scaling", f"{scale[0]:g}, folded into lora_B: {scale[1]}"),
        "Give the task's input.",
        f"{write_list(plan.warnings)}{write_list(changes)}"
        "- Any text yields an adapter. One that is unlike the descriptions that the network was "
        "trained on need not help, and can harm.\n"
        f"{network.explain_base()}",
    )


def _explain_parts(plan: CompilePlan) -> str:
    """Write a paragraph on what other engines get of a document that has parts."""
    held = plan.cut.held_by_one
    if not plan.keeps_parts or plan.n_text_tokens <= held:
        return ""
    limit = plan.network.find_export_limit(plan.chunks)
    where = f", if you compile the document with `--chunk-tokens {limit}`" if limit else ""
    return (
        f"**Other engines, and the code below, get about {held:,} tokens of the document.** "
        "`d2l ask` and `d2l serve` choose parts of the whole for each question. "
        f"`d2l export --to parts` gives the parts to other engines{where}.\n\n"
    )
