"""Texts of offices and everyday life, and what people want of them: summaries, titles, fields,
bullet points, next steps, replies."""

from collections.abc import Iterator
from dataclasses import dataclass

from banks import DAYS, MONTHS, NOUNS, PEOPLE, SURNAMES, TOWNS
from drafts import Chance, Draft, read_lines

_COMPANIES = (
    "Alder Works",
    "Nordlicht",
    "Brightwater",
    "Casa Verde",
    "Delta Freight",
    "Fern & Sons",
    "Quarry Bank",
)
_JOBS = (
    "baker",
    "nurse",
    "driver",
    "accountant",
    "welder",
    "teacher",
    "programmer",
    "gardener",
    "cook",
)
_TROUBLES = ("leak", "fire alarm", "power cut", "flood", "broken lift", "burst pipe", "gas smell")
_SKIES = ("rain", "snow", "sunshine", "fog", "thunderstorms", "strong wind", "light clouds")
_PAINS = ("headache", "sore throat", "back pain", "cough", "rash", "fever", "earache")
_DRUGS = ("ibuprofen", "paracetamol", "rest", "cough syrup", "a cold cream", "warm tea")


@dataclass(frozen=True)
class Domain:
    """Texts of one kind. `keys` are fields by the name that an answer gives them."""

    noun: str
    many: str
    texts: tuple[str, ...]
    keys: dict[str, str]
    summary: str
    title: str
    step: str
    reply: str


def _make(row: str) -> Domain:
    parts = [part.strip() for part in row.strip().split("\n")]
    noun, many = parts[0].split(" / ")
    keys = dict(item.split("=") for item in parts[-5].split(" "))
    return Domain(noun, many, tuple(parts[1:-5]), keys, *parts[-4:])


#: Each: singular and plural; two texts; fields; summary, title, next step, reply.
_DOMAINS = tuple(_make(row) for row in "\n".join(read_lines("offices")).split("***"))


def draft_all() -> Iterator[Draft]:
    """All families of this kind."""
    for number, domain in enumerate(_DOMAINS):
        noun, many, given = domain.noun, domain.many, _articled(domain.noun)
        keys = list(domain.keys)
        named = ", ".join(key.replace("_", " ") for key in keys)
        fields = {key: f"{{{field}}}" for key, field in domain.keys.items()}
        lines = "\n".join(f"- {key.replace('_', ' ')}: {form}" for key, form in fields.items())
        pairs = ", ".join(f'"{key}": "{form}"' for key, form in fields.items())
        wishes: dict[str, tuple[tuple[str, ...], str]] = {
            "summary": (
                (
                    f"summarize {many}",
                    f"write a summary of the {noun} in one sentence",
                    f"say in one sentence what the {noun} is about",
                    f"sum up the {noun} for a busy reader",
                ),
                domain.summary,
            ),
            "title": (
                (
                    f"give the {noun} a title",
                    f"write a subject line for the {noun}",
                    f"headlines for {many}",
                ),
                domain.title,
            ),
            "json": (
                (
                    f"extract {named} from the {noun} as JSON",
                    f"turn {many} into JSON with the keys {', '.join(keys)}",
                    f"read the {noun} and return a JSON object ({', '.join(keys)})",
                ),
                f"{{{{{pairs}}}}}",
            ),
            "bullets": (
                (
                    f"list the key facts of the {noun} as bullet points ({named})",
                    f"bullet points from {many}",
                ),
                lines,
            ),
            "step": (
                (
                    f"write down what has to be done after the {noun}",
                    f"pull the action item out of {many}",
                    f"name the next step that follows from the {noun}",
                ),
                domain.step,
            ),
            "reply": (
                (f"answer the {noun} in one sentence", f"draft short replies to {many}"),
                domain.reply,
            ),
            "csv": (
                (
                    f"turn the {noun} into a line of CSV: {', '.join(keys)}",
                    f"{many} to CSV ({';'.join(keys)}), separated by semicolons",
                ),
                ";".join(fields.values()),
            ),
        }
        for key in keys[:2]:
            name = key.replace("_", " ")
            asks = (f"find the {name} in the {noun}", f"{name} of {many}, only that")
            wishes[f"key_{key}"] = (asks, fields[key])
        for wish, (asks, form) in wishes.items():
            yield Draft(
                f"domain_{number}_{wish}",
                asks,
                given,
                lambda chance, texts=domain.texts, form=form: _fill(chance, texts, form),
            )


def _articled(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _fill(chance: Chance, texts: tuple[str, ...], answer: str) -> tuple[str, str]:
    first, first2, first3 = chance.sample(PEOPLE, 3)
    town, town2 = chance.sample(TOWNS, 2)
    values = {
        "first": first,
        "first2": first2,
        "first3": first3,
        "last": chance.choice(SURNAMES),
        "town": town,
        "town2": town2,
        "company": chance.choice(_COMPANIES),
        "job": chance.choice(_JOBS),
        "trouble": chance.choice(_TROUBLES),
        "sky": chance.choice(_SKIES),
        "pain": chance.choice(_PAINS),
        "drug": chance.choice(_DRUGS),
        "noun": chance.choice(
            [word for word in NOUNS if word.isalpha() and word[-1] not in "sxhy"]
        ),
        "n": chance.randint(21, 59),
        "k": chance.randint(2, 9),
        "d": chance.randint(10, 28),
        "day": chance.choice(DAYS),
        "month": chance.choice(MONTHS),
        "hour": chance.randint(10, 20),
        "host": f"{chance.choice(('web', 'db', 'mail'))}{chance.randint(1, 40)}",
        "level": "ERROR",
        "code": f"{chance.choice('ABCDEF')}{chance.choice('KLMNOP')}-{chance.randint(100, 999)}",
        "price": f"{chance.randint(3, 90)}.{chance.randint(10, 99)}",
        "phone": f"555-{chance.randint(1000, 9999)}",
    }
    return chance.choice(texts).format(**values), answer.format(**values)
