"""The texts that travel with an adapter made from others: its card, and what makes its prompts.

Opens no file but the parents' tokenizers.
"""

from collections.abc import Sequence
from pathlib import PurePath

from d2l import __version__
from d2l.adapters import module_names
from d2l.adapters.card import FOLDER, KNOWS_NOTHING, LOADING, literal, quote, write_head, write_list
from d2l.adapters.info import CARD, CHAT_TEMPLATE, TOKENIZER
from d2l.adapters.lowest_rank import find_lowest
from d2l.adapters.weights import LoraWeights
from d2l.bases.catalog import spell_base
from d2l.change.parents import Parent
from d2l.compiler.records import Change
from d2l.errors import AdapterError
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.opening import chat_template


def write_texts(
    parents: Sequence[Parent],
    weights: LoraWeights,
    change: Change,
    seats: tuple[SeatsConfig, int] | None,
) -> dict[str, str]:
    """Card, and for seats (their network's configuration, and how many) what makes the prompts."""
    texts = {CARD: _write_card(parents, weights, change, seats=seats is not None)}
    if seats is not None:
        texts[CHAT_TEMPLATE] = chat_template(*seats)
        source = next(parent for parent in parents if parent.opening is not None)
        for name in TOKENIZER:
            if name not in source.content.texts:
                raise AdapterError(f"{source.name}: {name} is missing", hint="compile it again")
            texts[name] = source.content.texts[name]
    return texts


def _find_digest(parents: Sequence[Parent]) -> str | None:
    """SHA-256 of the base that all seats were made on; None where it is not one."""
    made = [p.provenance for p in parents if p.has_seats]
    found = {one.base.sha256 for one in made if one is not None}
    return found.pop() if len(found) == 1 else None


def _write_card(
    parents: Sequence[Parent], weights: LoraWeights, change: Change, *, seats: bool
) -> str:
    """The model card: from what it was made, how to load it."""
    modules = module_names.list_short(weights.factors)
    base = literal(weights.base)
    loading = LOADING.format(
        tokenizer="adapter" if seats else base,
        base=spell_base(weights.base, _find_digest(parents) if seats else None),
        adapter=FOLDER,
    )
    made = "".join(f"- {quote(PurePath(parent.name).name)}\n" for parent in parents)
    prompt = (
        f"The memory hangs on the first {weights.rank + 1} tokens of the prompt or fewer (the "
        "opening, in `d2l.json`). This folder's tokenizer and chat template put them there; a "
        "prompt without them cannot read the memory.\n"
        if seats
        else "Ask with the base's own chat template: one user turn, no system text.\n"
    )
    trouble = f"{KNOWS_NOTHING}\n" if seats else ""
    alone = all(parent.has_seats for parent in parents)
    rank = find_lowest(weights) if alone else weights.rank
    return (
        f"{write_head(weights.base, 'd2l')}"
        f"# {change.said}\n\nMade by d2l {__version__} of\n\n{made}\n"
        f"for {quote(weights.base)}: rank {rank}, on {', '.join(modules)}. `d2l.json` says "
        f"exactly what went in.\n\n## Load it\n\n```python\n{loading}```\n\n{prompt}\n"
        f"{trouble}## Limits\n\n{write_list(change.warnings)}"
        "- Answers can be wrong with confidence: check what matters against the documents.\n"
        "- The documents' content is in these weights. Share them as you would share the text.\n"
    )
