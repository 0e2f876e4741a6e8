"""The opening of a seat adapter's prompts: as text, as a chat template, and for d2l.json."""

from d2l.adapters.info import CHAT_TEMPLATE
from d2l.adapters.provenance import Opening, Prompt
from d2l.bases.chat_templates import SYSTEM, write_template
from d2l.errors import CheckpointError
from d2l.hypernets.seats.seated_config import SeatedConfig


def opening_text(config: SeatedConfig, n_seats: int) -> str:
    """Write the opening as text; it encodes to `config.opening(n_seats)` with the base's tokenizer.

    The words' text is stored as one string; each word token starts with a space.
    """
    words = config.opening_words_text
    n_words = n_seats - config.min_seats
    pieces = words.split(" ")[1:]
    if (words and not words.startswith(" ")) or len(pieces) != len(config.opening_words):
        raise CheckpointError(
            "opening_words_text does not hold one word for each token of opening_words"
        )
    return config.opening_head_text + "".join(f" {word}" for word in pieces[:n_words])


def chat_template(config: SeatedConfig, n_seats: int) -> str:
    """Write a chat template (Jinja) that puts the opening before any system text.

    A system message of the caller follows the opening on a new line, inside the same turn, and
    replaces the instruction. Without the base's own turns it is ChatML.
    """
    turns = config.texts
    text, head = opening_text(config, n_seats), SYSTEM if turns is None else turns.head
    if not text.startswith(head):
        kind = "a ChatML system turn" if turns is None else "the base's own head"
        raise CheckpointError(f"the opening does not begin with {kind}: {text[:40]!r}")
    return write_template(text, turns, config.instruction)


def describe_prompt(config: SeatedConfig, n_seats: int) -> Prompt:
    """Describe the prompts of a seats adapter, for d2l.json."""
    opening = Opening(
        ids=tuple(config.opening(n_seats)),
        text=opening_text(config, n_seats),
        seats=tuple(range(1, n_seats + 1)),  # positions; 0 is the sink
    )
    text = config.instruction
    told = {"instruction": text} if text else {}  # unset values are not written
    return Prompt(chat_template=CHAT_TEMPLATE, turns="user", opening=opening, **told)
