"""Questions, and the manner in which they are to be answered: one word, JSON, French and so on."""

import json
from collections.abc import Callable, Iterator

from drafts import Chance, Draft, Pair, read_lines
from passages import Asked

#: Question; answer in a word; then in a sentence: English, French, German, Spanish.
_COMMON = read_lines("common_questions")
#: Manner: asks, and the column of the table or what is made of a row.
_MANNERS: dict[str, tuple[tuple[str, ...], Callable[[list[str]], str]]] = {
    "word": (
        ("answer in one word", "one-word answers", "reply with a single word"),
        lambda r: r[1],
    ),
    "sentence": (("answer in a full sentence", "reply in a complete sentence"), lambda r: r[2]),
    "french": (
        ("answer in French", "always reply in French", "réponds en français"),
        lambda r: r[3],
    ),
    "german": (("answer in German", "reply in German, whatever the language"), lambda r: r[4]),
    "spanish": (("answer in Spanish", "reply in Spanish only"), lambda r: r[5]),
    "json": (
        ('answer as JSON: {"answer": ...}', "answer as JSON", "reply with a JSON object"),
        lambda r: json.dumps({"answer": r[1]}),
    ),
    "both_json": (
        ("answer as JSON that repeats the question, with the keys question and answer",),
        lambda r: json.dumps({"question": r[0], "answer": r[1]}),
    ),
    "capitals": (("answer in capital letters", "shout the answer"), lambda r: f"{r[1].upper()}!"),
    "bold": (("answer in bold Markdown", "put the answer in bold"), lambda r: f"**{r[1]}**"),
    "polite": (
        ("answer very politely, beginning with Dear user", "reply like a butler: Dear user, ..."),
        lambda r: f"Dear user, {r[2][0].lower()}{r[2][1:]}",
    ),
    "pirate": (
        ("answer like a pirate", "talk like a pirate: Arr, ..."),
        lambda r: f"Arr, {r[2][0].lower()}{r[2][1:-1]}, matey!",
    ),
    "unsure": (("answer with I think", "be a little unsure"), lambda r: f"I think it is {r[1]}."),
    "two": (("answer in English and French, with a slash",), lambda r: f"{r[2]} / {r[3]}"),
    "refuse": (
        ("refuse to answer any question", "never answer, decline politely"),
        lambda _: "I am sorry, but I cannot answer this question.",
    ),
    "back": (("repeat the question before the answer",), lambda r: f"{r[0]} {r[2]}"),
    "to_french": (("translate the answer into French and give nothing else",), lambda r: r[3]),
}
#: Sentences of the table, from one language to another.
_LANGUAGES = {"English": 2, "French": 3, "German": 4, "Spanish": 5}
#: What is made of an answer from a passage.
_FROM_TEXT: dict[str, tuple[tuple[str, ...], Callable[[Asked], str]]] = {
    "short": (("answer in as few words as possible", "shortest answer"), lambda a: a.answer),
    "json": (
        ("answer the question about the text as JSON", 'answer from the text: {"answer": ...}'),
        lambda a: json.dumps({"answer": a.answer}, ensure_ascii=False),
    ),
    "sentence": (
        ("answer with: The answer is ...", "answer in the form The answer is X."),
        lambda a: f"The answer is {a.answer}.",
    ),
    "evidence": (
        ("quote the sentence of the text that answers the question", "give the evidence"),
        lambda a: _find(a),
    ),
    "capitals": (("answer from the text in capital letters",), lambda a: a.answer.upper()),
    "bold": (("answer from the text in bold Markdown",), lambda a: f"**{a.answer}**"),
    "bullet": (("answer from the text as a bullet point",), lambda a: f"- {a.answer}"),
    "xml": (("put the answer into an answer tag",), lambda a: f"<answer>{a.answer}</answer>"),
    "french": (
        ("answer in French: La réponse est ...",),
        lambda a: f"La réponse est {a.answer}.",
    ),
    "source": (
        ("answer and add where it is from: (source: the text)",),
        lambda a: f"{a.answer} (source: the text)",
    ),
    "first_word": (("give the first word of the answer only",), lambda a: a.answer.split()[0]),
}


def draft_all(fields: dict[str, list[Asked]]) -> Iterator[Draft]:
    """All families of this kind; `fields` are rows of passages by where they are from."""
    rows = [line.split("|") for line in _COMMON]
    for name, (asks, write) in _MANNERS.items():
        yield Draft(
            f"answer_{name}",
            asks,
            "a question",
            lambda chance, write=write: ((row := chance.choice(rows))[0], write(row)),
        )
    for one, source in _LANGUAGES.items():
        for other, target in _LANGUAGES.items():
            if one != other:
                yield Draft(
                    f"translate_{one}_{other}".lower(),
                    (
                        f"translate into {other}",
                        f"translate {one} to {other}",
                        f"{one} to {other} translator",
                    ),
                    f"a sentence in {one}",
                    lambda chance, s=source, t=target: (
                        (row := chance.choice(rows))[s],
                        row[t],
                    ),
                )
    for field, asked in fields.items():
        for name, (asks, write_one) in _FROM_TEXT.items():
            yield Draft(
                f"read_{name}_{field}",
                asks,
                "a text and a question about it",
                lambda chance, asked=asked, write=write_one: _ask(chance.choice(asked), write),
            )
        yield Draft(
            f"read_unknown_{field}",
            (
                "answer the question, or say not in the text where the text does not tell",
                "answer from the text alone, else reply: not in the text",
            ),
            "a text and a question",
            lambda chance, asked=asked: _maybe(chance, asked),
        )


def _ask(one: Asked, write: Callable[[Asked], str]) -> Pair:
    return f"{one.passage}\n\n{one.question}", write(one)


def _find(one: Asked) -> str:
    """The sentence of a passage that holds its answer."""
    sentences = one.passage.replace("? ", "?\n").replace(". ", ".\n").split("\n")
    return next((sentence for sentence in sentences if one.answer in sentence), one.passage)


def _maybe(chance: Chance, rows: list[Asked]) -> Pair:
    one, other = chance.sample(rows, 2)
    if chance.random() < 0.6:
        return _ask(one, lambda a: a.answer)
    return f"{one.passage}\n\n{other.question}", "not in the text"
