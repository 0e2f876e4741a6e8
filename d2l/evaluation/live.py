"""Live check: an adapter at an endpoint is in effect, at its full strength, in its template.

The endpoint continues sentences of the adapter's document (or answers general prompts where the
document is gone). PEFT answers the same here in every state of `STATES`; the nearest state wins.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from peft.helpers import rescale_adapter_scale

from d2l.adapters.info import read_info
from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.compiler.originals import find_originals
from d2l.documents.sentences import find_sentences
from d2l.evaluation.endpoint import Endpoint, EndpointReply
from d2l.evaluation.metrics import Row, pick_evenly
from d2l.parts.engine import Decoding
from d2l.progress import Progress, silent

N_QUESTIONS = 5
#: Asked where the document is gone, or too short.
GENERAL = (
    "Which country has the most people?",
    "What do you call a baby kangaroo?",
    "How long does it take the Earth to go once around the Sun?",
    "Which metal is liquid at room temperature?",
    "Name the author of Don Quixote.",
)
WORDING = "How does this go on? {}"
#: Shortest sentence whose first half is asked about, and how much of a long one is used, in words.
MIN_WORDS, MAX_WORDS = 8, 40
#: Tokens of an answer, and alternatives of its first token: as many as OpenAI's interface tells.
N_TOKENS, N_TOP = 8, 20
#: Distances, from 0 to 1: beyond the first no state is recognized, within the second two are alike.
FARTHEST, MARGIN = 0.4, 0.02
RIGHT = "in effect"
#: Strength of the adapter, and whether prompts come in its template, by state.
STATES = {
    RIGHT: (1.0, True),
    "left out": (0.0, True),
    "left out, and so is its template": (0.0, False),
    "at half its strength": (0.5, True),
    "at twice its strength": (2.0, True),
    "in effect, but without its template": (1.0, False),
}
_LOAD = "the server did not load it under this name: `d2l check` has the line for every engine"
_SCALE = "look at the scale that the server takes (llama.cpp: --lora-scaled), and at lora_alpha"
#: What to do, by state.
_ADVICE = {
    "left out": _LOAD,
    "left out, and so is its template": _LOAD,
    "at half its strength": _SCALE,
    "at twice its strength": _SCALE,
    "in effect, but without its template": "start the server with the adapter's own template",
}


def check_live(
    adapter: Path, endpoint: Endpoint, asking: AskOptions, watch: Progress = silent
) -> Row:
    """Ask the endpoint and, here, the adapter in every state, for `check --live --json`.

    `distances` has the distance of the replies to every state, from 0 to 1, and `states` the
    nearest: none where all are far, several where they are alike. Raises D2LError.
    """
    originals = find_originals(read_info(adapter))
    halves = [] if originals is None else list(dict.fromkeys(_halve_sentences(originals.text)))
    asked = [WORDING.format(half) for half in pick_evenly(halves, N_QUESTIONS)]
    questions = [*asked, *GENERAL][:N_QUESTIONS]
    replies = [endpoint.ask(question, N_TOKENS) for question in watch(questions, "asking")]
    by = "answers" if any(reply.top is None for reply in replies) else "token probabilities"
    measure = _compare_answers if by == "answers" else _compare_tops
    adapted, distances = AdaptedModel.load(adapter, asking), {}
    for state in watch(_list_states(adapted, questions), "comparing"):
        expected = answer_in_state(adapted, questions, state)
        apart = [measure(*pair) for pair in zip(replies, expected, strict=True)]
        distances[state] = round(sum(apart) / len(apart), 4)
    states = find_nearest(distances)
    message, advice = explain(states)
    return {
        "url": endpoint.url,
        "model": endpoint.model,
        "passes": states == [RIGHT],
        "states": states,
        "message": message,
        "fix": advice,
        "questions": len(questions),
        "by": by,
        "distances": distances,
    }


def _halve_sentences(text: str) -> Iterator[str]:
    """Yield the first half of every long sentence."""
    for start, stop in find_sentences(text):
        words = text[start:stop].split()
        if sum(any(map(str.isalpha, word)) for word in words) >= MIN_WORDS:  # no rows of numbers
            yield " ".join(words[: min(len(words), MAX_WORDS) // 2])


def find_nearest(distances: Mapping[str, float]) -> list[str]:
    """Find the states that are nearest but for a margin; empty if all are far."""
    ranked = sorted(distances, key=lambda state: distances[state])
    nearest = distances[ranked[0]]
    near = [state for state in ranked if distances[state] <= nearest + MARGIN]
    return near if nearest <= FARTHEST else []


def explain(states: Sequence[str]) -> tuple[str, str]:
    """Give finding and advice for people; the advice is empty if the adapter is in effect."""
    if not states:
        return (
            "the answers fit neither the adapter nor its base: is it another base or adapter?",
            "name the adapter that is served there, and compare the base's name and file",
        )
    if RIGHT in states and len(states) > 1:
        return (
            "the adapter changes too little to tell whether it is in effect",
            "ask about an adapter of a longer document",
        )
    return f"the adapter is {', or '.join(states)}", _ADVICE.get(states[0], "")


def answer_in_state(
    adapted: AdaptedModel, questions: Sequence[str], state: str
) -> list[EndpointReply]:
    """Answer questions with PEFT, in one of `STATES`."""
    strength, own_template = STATES[state]
    changed: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if strength not in (0, 1):
        changed = rescale_adapter_scale(adapted.model, strength)
    with changed:
        return [
            _answer(
                adapted, _make_prompt(adapted, question, own_template), in_effect=bool(strength)
            )
            for question in questions
        ]


def _answer(adapted: AdaptedModel, prompt: list[int], *, in_effect: bool) -> EndpointReply:
    """Answer a prompt, with the likeliest first tokens."""
    begun = adapted.engine.read((), "whole" if in_effect else "none")
    decoding, decode = Decoding(N_TOKENS, n_top=N_TOP), adapted.base_tokenizer.decode
    tokens = list(adapted.engine.generate(begun, prompt, decoding))
    _, *top = tokens[0].log_probs
    text = str(decode([token.id for token in tokens], skip_special_tokens=True))
    return EndpointReply(text.strip(), tuple((decode(token), value) for token, value in top))


def _list_states(adapted: AdaptedModel, questions: Sequence[str]) -> list[str]:
    """List the states that differ: the opening of few seats may be the base's own."""
    own, other = ([_make_prompt(adapted, q, of) for q in questions] for of in (True, False))
    return [state for state, (_, of) in STATES.items() if of or own != other]


def _make_prompt(adapted: AdaptedModel, question: str, own_template: bool) -> list[int]:
    """Make the prompt as a server does. The other template of an adapter with an opening is the
    base's; an adapter without an opening then gets the plain question."""
    if own_template:
        return adapted.prompt(question)
    if adapted.opening:
        return adapted.prompt_alone(question)
    return list(adapted.base_tokenizer(question)["input_ids"])


def _compare_tops(reply: EndpointReply, expected: EndpointReply) -> float:
    """Compute the total variation between two distributions of the first token, from 0 to 1; all
    tokens beyond the likeliest count as one token."""
    one, other = _add_up(reply), _add_up(expected)
    apart = sum(abs(one.get(key, 0.0) - other.get(key, 0.0)) for key in one.keys() | other.keys())
    return 0.5 * (apart + abs(sum(one.values()) - sum(other.values())))


def _add_up(reply: EndpointReply) -> dict[str, float]:
    """Add up probabilities of first tokens without white space, which engines write differently."""
    chances: dict[str, float] = {}
    for token, logprob in reply.top or ():
        key = token.replace("\u0120", " ").replace("\u2581", " ").strip()  # as BPE writes spaces
        chances[key] = chances.get(key, 0.0) + math.exp(min(logprob, 0.0))
    return chances


def _compare_answers(reply: EndpointReply, expected: EndpointReply) -> float:
    """Compute the share of two answers behind their common beginning, from 0 to 1."""
    longest = max(len(reply.answer), len(expected.answer))
    pairs = zip(reply.answer, expected.answer, strict=False)
    n_same = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
    return 1 - n_same / longest if longest else 0.0
