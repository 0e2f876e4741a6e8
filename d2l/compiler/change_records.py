"""What an adapter that was made from others says of itself: its d2l.json and its card.

Parents and new weights in, plain values and texts out; opens no file but the parents' tokenizers.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from d2l import __version__
from d2l.adapters import module_names
from d2l.adapters.card import LOADING, literal, quote
from d2l.adapters.info import CARD, CHAT_TEMPLATE, FORMAT
from d2l.adapters.weights import LoraFactors, LoraWeights, delta_norm
from d2l.compiler.parents import Parent
from d2l.errors import AdapterError
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.opening import chat_template

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Change:
    """What was done: a verb and its values, for d2l.json; `said` is a line for the card."""

    verb: str  # "merge" or "edit"
    values: Mapping[str, Any]
    said: str
    warnings: tuple[str, ...] = ()
    merge_error: Mapping[str, float] = field(default_factory=dict)


def describe(
    parents: Sequence[Parent],
    weights: LoraWeights,
    chunks: Sequence[dict[str, Any]],
    prompt: Mapping[str, Any],
    change: Change,
) -> dict[str, Any]:
    """Provenance of a changed adapter; the parents' own stand in it whole.

    `chunks` have their new ranks; documents that no chunk is left of are not among the inputs.
    """
    first = parents[0].provenance
    left = {chunk["document"] for chunk in chunks}
    rows = [row for parent in parents for row in parent.provenance.get("inputs", [])]
    # Equal rows have equal texts; of those the first stays where it is.
    once: dict[str, dict[str, Any]] = {}
    for row in rows:
        once.setdefault(json.dumps(row, sort_keys=True), row)
    inputs = [row for row in once.values() if row["name"] in left]
    same = all(p.provenance.get("checkpoint") == first.get("checkpoint") for p in parents)
    checkpoint = first.get("checkpoint") if same else None
    return {
        "format": FORMAT,
        "tool": {"name": "d2l", "version": __version__},
        "checkpoint": checkpoint or {"name": change.verb, "network": "mixture", "sha256": None},
        "base": first.get("base") or {"name": weights.base, "sha256": None},
        "inputs": inputs,
        "skipped": [row for parent in parents for row in parent.provenance.get("skipped", [])],
        "chunks": [{**chunk, "index": index} for index, chunk in enumerate(chunks)],
        "rank": weights.rank,
        "options": _options(parents),
        "merge_error": {n: _short(e) for n, e in sorted(change.merge_error.items())},
        "prompt": dict(prompt),
        "norms": _describe_norms(weights, chunks),
        "warnings": list(change.warnings),
        change.verb: dict(change.values),
        "parents": [_describe_parent(parent) for parent in parents],
    }


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


def _options(parents: Sequence[Parent]) -> dict[str, Any]:
    """Options that all parents share; strengths are in the chunks and in the weights."""
    first = parents[0].options
    shared = {
        name: value
        for name, value in first.items()
        if all(parent.options.get(name) == value for parent in parents)
    }
    return {"merge": "concat", **shared, "scale": 1.0}


def _describe_parent(parent: Parent) -> dict[str, Any]:
    """A parent's provenance, or for adapters of other tools its config."""
    own = dict(parent.provenance) or {"config": dict(parent.info.config)}
    return {"adapter": parent.info.folder.name, **own}


def _describe_norms(
    weights: LoraWeights, chunks: Sequence[Mapping[str, Any]]
) -> dict[str, list[float]]:
    """Frobenius norm of the delta by layer and by chunk, as in compiled adapters."""
    by_layer: dict[int, list[float]] = {}
    for name, factors in weights.factors.items():
        place = module_names.parse(name)
        if place.in_decoder and place.layer is not None:
            norm = delta_norm(factors, weights.scale)
            by_layer.setdefault(place.layer, []).append(norm)
    by_chunk = []
    for chunk in chunks:
        if chunk.get("ranks") is None:
            continue
        start, stop = chunk["ranks"]
        norms = [
            delta_norm(LoraFactors(f.a[start:stop], f.b[:, start:stop]), weights.scale)
            for f in weights.factors.values()
        ]
        by_chunk.append(_short(math.hypot(*norms)))
    layers = [math.hypot(*by_layer.get(n, [0.0])) for n in range(max(by_layer, default=-1) + 1)]
    return {"layers": [_short(norm) for norm in layers], "chunks": by_chunk}


def _write_card(
    parents: Sequence[Parent], weights: LoraWeights, out: str, change: Change, *, seats: bool
) -> str:
    """The model card: from what it was made, how to load it."""
    modules = module_names.list_short(weights.factors)
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


def _short(value: float) -> float:
    """Six significant digits: enough to see, and the same on every run."""
    return float(f"{value:.6g}")
