"""Descriptions in many voices: as people write them in a hurry, and as specifications say it."""

from collections.abc import Iterator, Sequence

from drafts import Chance, Draft, Pair

_N_DESCRIPTIONS = 6
_LONGEST_SHOWN = 140  # characters of an example that a description quotes

#: A few words, without a capital letter or a full stop.
_TERSE = ("{ask}", "{ask}", "{ask}, nothing else", "{given}: {ask}", "please {ask}")
_SPOKEN = (
    "I have {given}. {Ask}.",
    "Could you {ask}? I will paste {given}.",
    "I need help with this: whenever I send {given}, {ask}.",
    "Hi, I'd like you to {ask}. Just give me the result, thanks!",
    "Every time you get {given} from me, {ask} and leave out the small talk.",
    "Can you make something that will {ask}?",
    "hey, pls {ask}. no explanations",
)
_FORMAL = (
    "{Ask}.",
    "You will be given {given}. {Ask}.",
    "You are a careful assistant who reads {given}. Your job is to {ask}.",
    "The model receives {given} and has to {ask}; the output holds the answer alone.",
    "In this task, the input is {given}. You have to {ask}.",
    "Task: {ask}. Input: {given}. Output: only what was asked for.",
    "We need a model which can {ask} when it is shown {given}.",
    "# Goal\n{Ask}.\n# Input\n{Given}",
)
_SHOWING = (
    '{Ask}. For example, "{input}" should give "{output}".',
    "{Ask}. Example:\nInput: {input}\nOutput: {output}",
    "Given {given}, {ask}, like this: {input} -> {output}",
)


def describe(draft: Draft, chance: Chance, pairs: Sequence[Pair]) -> list[str]:
    """Some descriptions of a task; `pairs` are examples, one of which may be quoted."""
    return list(dict.fromkeys(_describe(draft, chance, pairs)))[:_N_DESCRIPTIONS]


def _describe(draft: Draft, chance: Chance, pairs: Sequence[Pair]) -> Iterator[str]:
    asks = list(draft.asks)
    chance.shuffle(asks)
    frames = [
        chance.choice(_FORMAL),
        chance.choice(_TERSE),
        chance.choice(_SPOKEN),
        *chance.sample(_FORMAL, 2),
        chance.choice(_SPOKEN),
        *chance.sample(_TERSE, 2),
    ]
    shown = next((pair for pair in pairs if len("".join(pair)) <= _LONGEST_SHOWN), None)
    if shown is not None:
        frames.insert(3, chance.choice(_SHOWING))
    for number, frame in enumerate(frames):
        ask = asks[number % len(asks)]
        text = {
            "ask": ask,
            "Ask": _capitalize(ask),
            "given": draft.given,
            "Given": _capitalize(draft.given),
        }
        given, answer = shown if shown is not None else ("", "")
        yield frame.format(**text, input=given, output=answer)


def _capitalize(text: str) -> str:
    return text[0].upper() + text[1:]
