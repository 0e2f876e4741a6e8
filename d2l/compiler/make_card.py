"""The model card of an adapter made from a task description; opens no file."""

from collections.abc import Sequence
from dataclasses import dataclass

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
from d2l.bases.catalog import spell_base
from d2l.compiler.records import Made
from d2l.compiler.seats import CHANGES, describe_opening, limit_bases
from d2l.hypernets.familiarity import LEAST_FAMILIAR
from d2l.hypernets.protocol import HypernetConfig
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.text_to_lora.network import TextToLoraConfig

__all__ = ["CARD", "write_card", "write_seats_card"]


def write_card(made: Made, config: TextToLoraConfig) -> str:
    """The card of a Text-to-LoRA network's adapter: its description, its scale and its limits."""
    rows = [
        ("description embedded by", quote(made.embedder)),
        ("familiarity of the task", _describe_familiarity(made)),
        ("rank", f"{config.rank}, on {', '.join(config.target_modules)}"),
        ("scaling", _describe_scaling(made, config)),
    ]
    base = literal(config.base)
    parts = _Parts(
        rows,
        tokenizer=base,
        base=base,
        prompt="Ask with the base's own chat template: one user turn, no system text.\n",
        limits="- The delta is computed for this base model only.\n",
    )
    return _write(made, config, parts)


def write_seats_card(made: Made, config: SeatsConfig, n_seats: int) -> str:
    """The card of a seat network's adapter, with what its prompts begin with."""
    parts = _Parts(
        [
            ("familiarity of the task", _describe_familiarity(made)),
            ("rank", f"{config.find_rank(n_seats)}, on {', '.join(config.target_modules)}"),
        ],
        tokenizer="adapter",
        base=spell_base(config.base, made.base_sha256),
        prompt=f"{describe_opening(n_seats)}\n{KNOWS_NOTHING}",
        limits=f"{CHANGES}{limit_bases(config)}\n",
    )
    return _write(made, config, parts)


@dataclass(frozen=True)
class _Parts:
    """What differs from card to card by the network's kind."""

    rows: Sequence[tuple[str, str]]
    tokenizer: str
    base: str
    prompt: str
    limits: str


def _write(made: Made, config: HypernetConfig, parts: _Parts) -> str:
    rows = [
        ("task", quote(made.text if len(made.text) <= 300 else made.text[:299] + "…")),
        ("base model", quote(config.base)),
        ("made by", f"d2l {__version__}, checkpoint {quote(made.checkpoint)} ({config.kind})"),
        *parts.rows,
    ]
    loading = LOADING.format(tokenizer=parts.tokenizer, base=parts.base, adapter=FOLDER).replace(
        "Ask something that the document answers.", "Give the task's input."
    )
    return (
        f"{write_head(config.base, 't2l')}"
        "# A task description, made into a LoRA adapter\n\n"
        "This adapter was not fine-tuned. A pretrained network read one description of a task and "
        "wrote these weights. `d2l.json` says exactly what went in.\n\n"
        f"{write_table(rows)}\n"
        f"## Load it\n\n```python\n{loading}```\n\n"
        f"{parts.prompt}\n"
        f"## Limits\n\n{write_list(made.warnings)}"
        "- Any text yields an adapter. One that is unlike the descriptions that the network was "
        "trained on need not help, and can harm.\n"
        f"{parts.limits}"
    )


def _describe_familiarity(made: Made) -> str:
    """How alike the description is to those of training, where that is known."""
    if made.familiarity is None:
        return "unknown: the checkpoint does not say which descriptions it was trained on"
    return (
        f"{made.familiarity:.2f} of 1, by the distance to the descriptions of training; below "
        f"{LEAST_FAMILIAR:g} a text is more like no description"
    )


def _describe_scaling(made: Made, config: TextToLoraConfig) -> str:
    """The factor of b @ a, which stands folded into lora_B, and why it is this one."""
    own = made.scaling == "config"
    text = f"{config.scaling(own=own):g}, folded into lora_B: "
    if not config.rank_stabilized:
        return text + "alpha / rank"
    if own:
        return text + "alpha / √rank, as the checkpoint's own configuration says"
    return text + (
        "alpha / rank. The checkpoint's own configuration says alpha / √rank, but the published "
        "scores of the public checkpoints come from a runtime that used alpha / rank "
        "(`--scaling config` keeps the configuration's)"
    )
