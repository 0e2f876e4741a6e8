"""Tasks on small records: pulling fields out of sentences, and writing fields in a given form."""

from collections.abc import Iterator

from banks import ADJECTIVES, DAYS, MONTHS, NOUNS, PEOPLE, SURNAMES, TOWNS
from drafts import Chance, Draft

#: Sentences with fields, and the fields that can be asked for.
_SENTENCES = (
    (
        "{first} {last} from {town} ordered {n} {noun}s on {day}.",
        ("first", "last", "town", "n", "noun", "day"),
    ),
    (
        "Invoice {code}: {noun}, {price} euros, due on {d} {month}.",
        ("code", "noun", "price", "month"),
    ),
    (
        "Hi, this is {first}. Please call me back at {phone} before {hour} o'clock.",
        ("first", "phone", "hour"),
    ),
    (
        "The meeting about the {adjective} {noun} takes place on {day} at {hour}:00 in {town}.",
        ("noun", "adjective", "day", "hour", "town"),
    ),
    (
        "Ticket {code} was opened by {first} {last}; it is about a broken {noun}.",
        ("code", "first", "last", "noun"),
    ),
    (
        "On {d} {month} the train from {town} to {town2} was {n} minutes late.",
        ("town", "town2", "n", "month", "d"),
    ),
    (
        "{first} paid {price} dollars for the {adjective} {noun} at a shop in {town}.",
        ("price", "noun", "adjective", "town"),
    ),
    (
        "Visit www.{noun}-{noun2}.example or write to {first}@{noun2}.example for details.",
        ("first",),
    ),
    (
        "Room {n} is booked for {first} {last} from {day} on, with breakfast at {hour}.",
        ("n", "first", "last", "day", "hour"),
    ),
)
_FIELDS = {
    "first": "first name",
    "last": "surname",
    "town": "first town that is named",
    "town2": "town of destination",
    "n": "number",
    "noun": "thing that it is about",
    "adjective": "adjective that describes the thing",
    "day": "day of the week",
    "code": "code",
    "price": "price",
    "month": "month",
    "d": "day of the month",
    "phone": "telephone number",
    "hour": "hour",
}
#: Forms that fields can be written in: an instruction, and the answer.
_FORMS = {
    "json": ("as a JSON object", '{{"name": "{first}", "town": "{town}"}}'),
    "yaml": ("as YAML with the keys name and town", "name: {first}\ntown: {town}"),
    "csv": ("as a line of CSV with semicolons", "{first};{town}"),
    "xml": ("as an XML element person", "<person><name>{first}</name><town>{town}</town></person>"),
    "lives": ("as a sentence that says where the person lives", "{first} lives in {town}."),
    "from": ("as an introduction in the first person", "My name is {first} and I am from {town}."),
    "greeting": ("as a greeting to the person", "Hello {first}, how is life in {town}?"),
    "question": (
        "as a question that asks whether the person lives there",
        "Does {first} live in {town}?",
    ),
    "negative": (
        "as a sentence that says the person does not live there",
        "{first} does not live in {town}.",
    ),
    "insert": ("as an INSERT statement of SQL", "INSERT INTO people VALUES ('{first}', '{town}');"),
    "call": ("as a Python call of a function move", 'move("{first}", "{town}")'),
    "dict": ("as a Python dictionary", "{{'name': '{first}', 'town': '{town}'}}"),
    "tuple": ("as a pair in round brackets", "({first}, {town})"),
    "arrow": ("with an arrow between them", "{first} -> {town}"),
    "label": ("as an address label in capital letters", "TO: {FIRST}, {TOWN}"),
    "table": ("as a row of a Markdown table", "| {first} | {town} |"),
    "path": ("as a path of folders", "/{town}/{first}"),
    "mail": ("as an e-mail address of the domain example", "{first}@{town}.example"),
    "triple": ("as a triple with the relation lives_in", "({first}, lives_in, {town})"),
    "thanks": ("as a note of thanks", "Thank you, {first}, and best wishes to {town}!"),
}
#: What is written of a verb-like request with two things.
_COMMANDS = {
    "delete_sql": (
        "a DELETE statement of SQL",
        "remove {noun} from {noun2}s",
        "DELETE FROM {noun2}s WHERE name = '{noun}';",
    ),
    "update_sql": (
        "an UPDATE statement of SQL",
        "set {noun} to {n} in {noun2}s",
        "UPDATE {noun2}s SET {noun} = {n};",
    ),
    "count_sql": ("an SQL query that counts", "count all {noun}s", "SELECT COUNT(*) FROM {noun}s;"),
    "drop_sql": ("an SQL statement", "drop the table {noun}", "DROP TABLE {noun};"),
    "copy": ("a shell command", "copy {noun} to {noun2}", "cp {noun} {noun2}"),
    "move": ("a shell command", "rename {noun} to {noun2}", "mv {noun} {noun2}"),
    "mkdir": ("a shell command", "make a folder called {noun}", "mkdir {noun}"),
    "grep": ("a grep command", "search for {noun} in {noun2}.txt", "grep '{noun}' {noun2}.txt"),
    "git": ("a git command", "switch to the branch {noun}", "git checkout {noun}"),
    "commit": ("a git command", "commit with the message {noun}", "git commit -m '{noun}'"),
    "assign": ("a line of Python", "set {noun} to {n}", "{noun} = {n}"),
    "loop": ("a Python loop header", "go through all {noun}s", "for {noun} in {noun}s:"),
    "import": ("a Python import", "take {noun} from {noun2}", "from {noun2} import {noun}"),
    "function": (
        "the head of a Python function",
        "define {noun} with the argument {noun2}",
        "def {noun}({noun2}):",
    ),
    "regex": ("a regular expression", "lines that begin with {noun}", "^{noun}.*"),
    "link": ("a Markdown link", "link {noun} to {noun2}.html", "[{noun}]({noun2}.html)"),
    "image": ("an HTML image tag", "show {noun}.png", '<img src="{noun}.png">'),
    "css": ("a line of CSS", "make the {noun} {n} pixels wide", ".{noun} {{ width: {n}px; }}"),
    "url": (
        "a URL with a query",
        "search for {noun} on page {n}",
        "https://example.com/{noun}?page={n}",
    ),
    "reply": (
        "a polite confirmation",
        "send {n} {noun}s to {first}",
        "Of course, we will send {n} {noun}s to {first}.",
    ),
    "refusal": (
        "a polite refusal",
        "give {first} the {noun}",
        "I am sorry, but I cannot give {first} the {noun}.",
    ),
    "todo": (
        "an open item of a list of things to do",
        "buy {noun}s for {first}",
        "[ ] buy {noun}s for {first}",
    ),
    "reminder": ("a reminder", "meet {first} on {day}", "Reminder: meet {first} on {day}"),
    "headline": (
        "a headline with capital letters",
        "{noun} found in {town}",
        "{NOUN} FOUND IN {TOWN}",
    ),
}


def draft_all() -> Iterator[Draft]:
    """All families of this kind."""
    for number, (sentence, fields) in enumerate(_SENTENCES):
        for field in fields:
            label = _FIELDS[field]
            yield Draft(
                f"field_{number}_{field}",
                (f"extract the {label}", f"write the {label} that the text mentions"),
                "a short text",
                lambda chance, form=sentence, answer=f"{{{field}}}": _fill(chance, form, answer),
            )
        if len(fields) > 2:
            first, second = fields[0], fields[-1]
            yield Draft(
                f"fields_{number}",
                (
                    f"write the {_FIELDS[first]} and the {_FIELDS[second]} with a semicolon",
                    f"extract {_FIELDS[first]} and {_FIELDS[second]}, in this order, as A; B",
                ),
                "a short text",
                lambda chance, form=sentence, answer=f"{{{first}}}; {{{second}}}": _fill(
                    chance, form, answer
                ),
            )
    for name, (how, form) in _FORMS.items():
        yield Draft(
            f"form_{name}",
            (f"write them {how}", f"put both {how}"),
            "the name of a person and a town",
            lambda chance, form=form: _fill(chance, "{first}, {town}", form),
        )
    for name, (what, request, form) in _COMMANDS.items():
        yield Draft(
            f"command_{name}",
            (f"write {what} for it", f"turn the request into {what}"),
            "a request in plain English",
            lambda chance, request=request, form=form: _fill(chance, request, form),
        )


def _fill(chance: Chance, sentence: str, answer: str) -> tuple[str, str]:
    noun, noun2 = chance.sample([word for word in NOUNS if word.isalpha()], 2)
    town, town2 = chance.sample(TOWNS, 2)
    first = chance.choice(PEOPLE)
    values = {
        "first": first,
        "FIRST": first.upper(),
        "last": chance.choice(SURNAMES),
        "town": town,
        "TOWN": town.upper(),
        "town2": town2,
        "noun": noun,
        "NOUN": noun.upper(),
        "noun2": noun2,
        "adjective": chance.choice(ADJECTIVES),
        "n": chance.randint(2, 60),
        "d": chance.randint(1, 28),
        "day": chance.choice(DAYS),
        "month": chance.choice(MONTHS),
        "hour": chance.randint(7, 20),
        "code": f"{chance.choice('ABCDEF')}{chance.choice('KLMNOP')}-{chance.randint(100, 999)}",
        "price": f"{chance.randint(3, 90)}.{chance.randint(10, 99)}",
        "phone": f"555-{chance.randint(1000, 9999)}",
    }
    return sentence.format(**values), answer.format(**values)
