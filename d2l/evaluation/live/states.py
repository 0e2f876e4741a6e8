"""What can become of an adapter behind an endpoint: the states that a live check tells apart."""

from dataclasses import dataclass


@dataclass(frozen=True)
class State:
    """One state: the adapter's strength, and whether prompts come in the adapter's own template.

    `said` is the finding, `advice` what to do about it.
    """

    strength: float
    own_template: bool
    said: str
    advice: str = ""


_LOAD = (
    "the server did not load it, loads it under another name, or dropped it without a word: "
    "`d2l check` has the line for every engine"
)
_SCALE = (
    "look at the scale that the server takes (llama.cpp: --lora-scaled, and `lora` in requests), "
    "and whether lora_alpha was changed"
)
_TEMPLATE = (
    "start the server with the adapter's chat_template.jinja; where there is none, with the "
    "base's own template"
)

#: In the order in which they are told; the first one is as it should be.
STATES: dict[str, State] = {
    "in effect": State(1.0, True, "the adapter is in effect, in full strength, in its template"),
    "left out": State(0.0, True, "the adapter is left out: the answers are the base's", _LOAD),
    "left out, other template": State(
        0.0,
        False,
        "the adapter is left out, and its template, too: the answers are the base's",
        _LOAD,
    ),
    "half strength": State(0.5, True, "the adapter has about half its strength", _SCALE),
    "double strength": State(2.0, True, "the adapter has about twice its strength", _SCALE),
    "other template": State(
        1.0, False, "the adapter is in effect, but the prompt is not in its template", _TEMPLATE
    ),
}
RIGHT = next(iter(STATES))
