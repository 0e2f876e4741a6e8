"""The texts that travel with an adapter: its model card, chat template and tokenizer files.

A plan in, text files by name out; opens nothing but the base's tokenizer.
"""

from pathlib import PurePath

from d2l import __version__
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
from d2l.adapters.info import CARD
from d2l.adapters.provenance import Refinement
from d2l.bases.catalog import spell_base
from d2l.compiler.plan import CompilePlan

#: How an adapter came about, by whether steps on its document were kept.
_ORIGINS = {
    False: "This adapter was not fine-tuned. A pretrained network read the document once and wrote "
    "these weights, so that the base model can answer questions about it without the text in its "
    "prompt.",
    True: "A pretrained network read the document once and wrote these weights, so that the base "
    "model can answer questions about it without the text in its prompt. They were then corrected "
    "by gradient steps on the document's own text.",
}


def write_texts(plan: CompilePlan, refinement: Refinement | None = None) -> dict[str, str]:
    """All text files of the adapter folder but its JSON configuration. `refinement` is what was
    done to the adapter after it was predicted, if anything."""
    prompt = plan.kind.texts(plan.config, plan.rank, plan.base)
    return {CARD: write_card(plan, refinement=refinement), **prompt}


def note_refinement(text: str, done: Refinement) -> str:
    """A card with a line at its end on what was done to the adapter."""
    return f"{text.rstrip()}\n- Refined: {describe_refinement(done)}.\n"


def describe_refinement(done: Refinement) -> str:
    """One line for people: steps, and what came of them."""
    if done.reason is not None:
        return done.reason
    if not done.steps or done.recall is None or done.harm is None:
        return "no step fitted into the time: the prediction is kept as it is"
    before, after = done.recall
    calm, harm = done.harm
    kept = "" if done.kept else "; nothing was better than the prediction, which is kept"
    drilled = "" if done.drilled is None else "drilled ones {:.2f} → {:.2f}, ".format(*done.drilled)
    away = " from those of a seat for every token" if done.taught else ""
    return (
        f"{done.steps:,} steps; answers held out {before:.2f} → {after:.2f} nats{away}, {drilled}"
        f"general prompts {calm:.2f} → {harm:.2f}{kept}"
    )


def write_card(
    plan: CompilePlan, adapter: str = FOLDER, refinement: Refinement | None = None
) -> str:
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
        ("rank", f"{plan.file_rank}, on {', '.join(config.target_modules)}"),
        ("merge", plan.method if plan.rank == plan.full_rank else f"{plan.method}, then SVD"),
    ]
    loading = LOADING.format(
        tokenizer="adapter" if kind.own_tokenizer else literal(config.base),
        base=spell_base(config.base, plan.base.digest() if kind.own_tokenizer else None),
        adapter=literal(adapter),
    )
    trouble = f"{KNOWS_NOTHING}\n" if kind.own_tokenizer else ""
    limits = kind.card_limits(config) + write_list(plan.warnings)
    text = (
        f"{write_head(config.base, 'd2l')}"
        f"# {title}, compiled into a LoRA adapter\n\n"
        f"{_ORIGINS[refinement is not None and refinement.kept > 0]} `d2l.json` says exactly what "
        "went in.\n\n"
        f"{write_table(rows)}\n"
        f"## Load it\n\n```python\n{loading}```\n\n"
        f"{kind.card_prompt(plan.rank)}\n{trouble}"
        f"## Limits\n\n{limits}"
        "- Answers can be wrong with confidence: check what matters against the document.\n"
        "- The document's content is in these weights. Share them as you would share the text.\n"
    )
    return text if refinement is None else note_refinement(text, refinement)
