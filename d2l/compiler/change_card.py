"""The texts that travel with an adapter made from others: its card, and what makes its prompts.

Opens no file but the parents' tokenizers.
"""

from collections.abc import Sequence

from d2l import __version__
from d2l.adapters.card import LOADING, literal, quote
from d2l.adapters.info import CARD, CHAT_TEMPLATE
from d2l.adapters.weights import LoraWeights
from d2l.compiler.parents import Parent
from d2l.compiler.records import Change
from d2l.errors import AdapterError
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.opening import chat_template

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def write_texts(
    parents: Sequence[Parent],
    weights: LoraWeights,
    out: str,
    change: Change,
    seats: tuple[SeatsConfig, int] | None,
) -> dict[str, str]:
    """Card, and for seats (their network's configuration, and how many) what makes the prompts."""
    texts = {CARD: _write_card(parents, weights, out, change, seats=seats is not None)}
    if seats is not None:
        texts[CHAT_TEMPLATE] = chat_template(*seats)
        source = next(parent for parent in parents if parent.opening is not None).info.folder
        for name in _TOKENIZER:
            if not (source / name).is_file():
                raise AdapterError(f"{source}: {name} is missing", hint="compile it again")
            texts[name] = (source / name).read_text("utf-8")
    return texts


def _write_card(
    parents: Sequence[Parent], weights: LoraWeights, out: str, change: Change, *, seats: bool
) -> str:
    """The model card: from what it was made, how to load it."""
    modules = sorted({name.rsplit(".", 1)[1] for name in weights.factors})
    base = literal(weights.base)
    loading = LOADING.format(
        tokenizer=literal(out) if seats else base, base=base, adapter=literal(out)
    )
    made = "".join(f"- {quote(parent.info.folder.name)}\n" for parent in parents)
    prompt = (
        f"The memory hangs on the first {weights.rank + 1} tokens of the prompt or fewer (the "
        "opening, in `d2l.json`). This folder's tokenizer and chat template put them there; a "
        "prompt without them cannot read the memory.\n"
        if seats
        else "Ask with the base's own chat template: one user turn, no system text.\n"
    )
    limits = "".join(f"- {' '.join(warning.split())}\n" for warning in change.warnings)
    return (
        f"---\nbase_model: {base}\nlibrary_name: peft\ntags:\n- lora\n- d2l\n---\n\n"
        f"# {change.said}\n\nMade by d2l {__version__} of\n\n{made}\n"
        f"for {quote(weights.base)}: rank {weights.rank}, on {', '.join(modules)}. `d2l.json` says "
        f"exactly what went in.\n\n## Load it\n\n```python\n{loading}```\n\n{prompt}\n"
        f"## Limits\n\n{limits}"
        "- Answers can be wrong with confidence: check what matters against the documents.\n"
        "- The documents' content is in these weights. Share them as you would share the text.\n"
    )
