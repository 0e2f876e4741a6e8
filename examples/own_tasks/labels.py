"""Texts sorted into named classes, with the labels written in several manners."""

import json
from collections.abc import Callable, Iterator

from banks import DAYS, NOUNS, PEOPLE, TOWNS
from drafts import Chance, Draft, read_lines

#: What is sorted; then a class on every line, with texts in it.
_SETS = "\n".join(read_lines("labels"))
_MANNERS: dict[str, tuple[str, Callable[[str, int], str]]] = {
    "plain": ("", lambda label, _: label),
    "capitals": (" in capital letters", lambda label, _: label.upper()),
    "json": (' as JSON, {"label": ...}', lambda label, _: json.dumps({"label": label})),
    "number": (" by its number, counting from 1", lambda _, number: str(number + 1)),
    "sentence": (" in a sentence: The label is ...", lambda label, _: f"The label is {label}."),
    "tag": (" as a hashtag", lambda label, _: f"#{label}"),
}


def draft_all() -> Iterator[Draft]:
    """All families of this kind."""
    for number, block in enumerate(_SETS.strip().split("***")):
        head, *lines = block.strip().split("\n")
        what, given = head.split(" / ")
        classes = dict(line.split(": ", 1) for line in lines)
        named = ", ".join(classes)
        for manner, (how, write) in _MANNERS.items():
            yield Draft(
                f"label_{number}_{manner}",
                (
                    f"classify {what} ({named}) and answer with the label{how}",
                    f"decide on {what}: {named}. Write it{how or ' as it is named here'}",
                    f"label {what}{how}, one of {named}",
                    f"tell me {what}{how}; labels: {named}",
                ),
                given,
                lambda chance, classes=classes, write=write: _sort(chance, classes, write),
            )


def _sort(
    chance: Chance, classes: dict[str, str], write: Callable[[str, int], str]
) -> tuple[str, str]:
    number = chance.randrange(len(classes))
    label = list(classes)[number]
    text = chance.choice(classes[label].split(" | ")).format(
        first=chance.choice(PEOPLE),
        town=chance.choice(TOWNS),
        noun=chance.choice([word for word in NOUNS if word.isalpha()]),
        day=chance.choice(DAYS),
        n=chance.randint(3, 80),
    )
    return text, write(label, number)
