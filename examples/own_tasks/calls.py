"""Requests in plain words, and the tool call that answers them, in several notations."""

import json
from collections.abc import Callable, Iterator

from banks import DAYS, NOUNS, PEOPLE, TOWNS
from drafts import Chance, Draft

Arguments = dict[str, object]


_ATTRIBUTE = '{}="{}"'


def _join(given: Arguments, between: str, form: str) -> str:
    """All arguments, each written in a form."""
    return between.join(form.format(name, value) for name, value in given.items())


#: Tool, its arguments, and requests. An argument in angle brackets is filled in.
_TOOLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "get_weather": (
        ("city", "day"),
        ("what's the weather in {city} on {day}?", "Will I need a coat in {city} this {day}?"),
    ),
    "set_timer": (("minutes",), ("set a timer for {minutes} minutes", "wake me in {minutes} min")),
    "send_message": (
        ("recipient", "day"),
        ("tell {recipient} that I come on {day}", "message {recipient}: see you on {day}"),
    ),
    "book_table": (
        ("city", "people"),
        ("a table for {people} in {city}, please", "reserve dinner for {people} people in {city}"),
    ),
    "add_to_list": (
        ("item", "amount"),
        ("put {amount} {item}s on the shopping list", "we need {amount} more {item}s, note it"),
    ),
    "find_route": (
        ("start", "city"),
        ("how do I get from {start} to {city}?", "directions {start} to {city}"),
    ),
    "play_music": (("artist",), ("play something by {artist}", "I want to hear {artist}")),
    "convert_money": (
        ("amount", "currency"),
        ("how much are {amount} {currency} in euros?", "change {amount} {currency} into euros"),
    ),
    "switch_light": (
        ("room", "state"),
        ("turn the light in the {room} {state}", "{room} lights {state}"),
    ),
    "search_files": (
        ("word", "day"),
        ("find files about {word} from {day}", "documents with {word}, changed on {day}"),
    ),
}
_NOTATIONS: dict[str, tuple[str, Callable[[str, Arguments], str]]] = {
    "json": (
        'a JSON object with "tool" and "arguments"',
        lambda tool, given: json.dumps({"tool": tool, "arguments": given}),
    ),
    "function": (
        'a JSON object with "name" and "parameters"',
        lambda tool, given: json.dumps({"name": tool, "parameters": given}),
    ),
    "python": (
        "a Python call with keyword arguments",
        lambda tool, given: f"{tool}({_join(given, ', ', '{}={!r}')})",
    ),
    "shell": (
        "a command line with options",
        lambda tool, given: f"{tool} {_join(given, ' ', '--{} {}')}",
    ),
    "xml": (
        "an XML element named after the tool, with an attribute for each argument",
        lambda tool, given: f"<{tool} {_join(given, ' ', _ATTRIBUTE)}/>",
    ),
    "url": (
        "the path and query of a URL",
        lambda tool, given: f"/{tool}?{_join(given, '&', '{}={}')}",
    ),
    "name": ("the name of the tool alone", lambda tool, _: tool),
    "yaml": (
        "YAML, the tool first, then its arguments",
        lambda tool, given: f"tool: {tool}\n" + _join(given, "\n", "{}: {}"),
    ),
}


def draft_all() -> Iterator[Draft]:
    """All families of this kind."""
    tools = ", ".join(_TOOLS)
    for name, (form, write) in _NOTATIONS.items():
        yield Draft(
            f"tool_{name}",
            (
                f"choose the tool that answers the request and write the call as {form}; tools: "
                f"{tools}",
                f"call one of {tools} as {form}",
                f"turn requests into tool calls, written as {form}",
            ),
            "a user's request",
            lambda chance, write=write: _call(chance, chance.choice(list(_TOOLS)), write),
        )
    for tool, (arguments, _) in _TOOLS.items():
        named = ", ".join(arguments)
        for name in ("json", "python"):
            form, write = _NOTATIONS[name]
            yield Draft(
                f"call_{tool}_{name}",
                (
                    f"write the call of {tool} ({named}) as {form}",
                    f"function calling: {tool}({named}), as {form}",
                ),
                "what somebody wants, in plain words",
                lambda chance, tool=tool, write=write: _call(chance, tool, write),
            )
        yield Draft(
            f"arguments_{tool}",
            (f"extract {named} as JSON", f"fill the slots {named} and answer with JSON"),
            "a sentence said to a voice assistant",
            lambda chance, tool=tool: _call(chance, tool, lambda _, given: json.dumps(given)),
        )


def _call(chance: Chance, tool: str, write: Callable[[str, Arguments], str]) -> tuple[str, str]:
    start, city = chance.sample(TOWNS, 2)
    values: Arguments = {
        "city": city,
        "start": start,
        "day": chance.choice(DAYS),
        "minutes": chance.randint(2, 90),
        "people": chance.randint(2, 12),
        "recipient": chance.choice(PEOPLE),
        "item": chance.choice([word for word in NOUNS if word.isalpha()]),
        "amount": chance.randint(2, 300),
        "artist": chance.choice(("Bach", "Miles Davis", "ABBA", "Fela Kuti", "Björk", "Queen")),
        "currency": chance.choice(("dollars", "yen", "pounds", "francs", "rupees")),
        "room": chance.choice(("kitchen", "bedroom", "hall", "garage", "office")),
        "state": chance.choice(("on", "off")),
        "word": chance.choice(("taxes", "rent", "holidays", "budget", "school", "insurance")),
    }
    arguments, requests = _TOOLS[tool]
    request = chance.choice(requests).format(**values)
    return request, write(tool, {name: values[name] for name in arguments})
