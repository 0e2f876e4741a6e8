"""Tasks on passages and their questions, from files of doc, title, question and answers."""

import gzip
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drafts import Chance, Draft

_MOST_WORDS = 70  # of a passage, so that it fits a short prompt
_ENCYCLOPEDIA = ("qa_train_newwiki", "qa_train_quoref", "qa_train_nq")
_MEDICINE = ("qa_train_covidqa",)
_ALMANAC = ("qa_train_factbook",)
_INVENTED = ("qa_train_synthetic",)
_MOST_ROWS = 2500  # of a field of knowledge
_PLAIN = ("docs_plain",)


@dataclass(frozen=True)
class Asked:
    """A question, its answer, the sentences of its document around the answer, and the title."""

    passage: str
    question: str
    answer: str
    title: str


def draft_all(data: Path) -> Iterator[Draft]:
    """All families of this kind, of the files in a folder."""
    sources = {
        "encyclopedia": read_asked(data, _ENCYCLOPEDIA),
        "medicine": read_asked(data, _MEDICINE),
        "almanac": read_asked(data, _ALMANAC),
        "invented": read_asked(data, _INVENTED),
    }
    for name, rows in sources.items():
        yield from _asked(name, rows)
    yield from _questions(sources["encyclopedia"])
    yield from _sentences(_read_sentences(data))
    yield from _kinds(sources)


def read_asked(data: Path, names: tuple[str, ...]) -> list[Asked]:
    """Rows of some files, by chance, where there are many."""
    rows = [row for row in map(_cut, read_rows(data, names)) if row is not None]
    return Chance("passages").sample(rows, min(len(rows), _MOST_ROWS))


def read_rows(
    data: Path, names: tuple[str, ...], *, field: str | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of some files in order; with a field, the first row for each of its values."""
    for name in names:
        seen = set()
        with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                if field is None or row[field] not in seen:
                    seen.add(row[field] if field is not None else None)
                    yield row


def _cut(row: dict[str, object]) -> Asked | None:
    """The sentence with the answer and its neighbours; nothing where that is too long."""
    answers = row["answers"]
    assert isinstance(answers, list)
    sentences = split_sentences(str(row["doc"]))
    for number, sentence in enumerate(sentences):
        if answers[0] in sentence:
            around = sentences[max(number - 1, 0) : number + 2]
            passage = " ".join(around if _short(" ".join(around)) else [sentence])
            if _short(passage) and len(answers[0].split()) < 12:
                return Asked(passage, str(row["question"]), answers[0], str(row.get("title", "")))
            return None
    return None


def _short(text: str) -> bool:
    return len(text.split()) <= _MOST_WORDS


def split_sentences(text: str) -> list[str]:
    """Sentences of a text, by their full stops and its lines."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()]


def _asked(name: str, rows: list[Asked]) -> Iterator[Draft]:
    """What can be done with a passage and a question about it, in one field of knowledge."""
    forms: dict[str, tuple[tuple[str, ...], str, Callable[[Asked], tuple[str, str]]]] = {
        "answer": (
            ("answer the question with words of the passage", "find the answer in the text"),
            "a passage and a question",
            lambda a: (f"{a.passage}\nQuestion: {a.question}", a.answer),
        ),
        "answer_first": (
            ("answer the question as shortly as the context allows",),
            "a question and its context",
            lambda a: (f"Question: {a.question} Context: {a.passage}", a.answer),
        ),
        "ask": (
            ("write a question that the passage answers", "ask something about the text"),
            "a passage",
            lambda a: (a.passage, a.question),
        ),
        "ask_for": (
            ("write the question to which this is the answer", "ask for the given answer"),
            "a passage and an answer",
            lambda a: (f"{a.passage}\nAnswer: {a.answer}", a.question),
        ),
        "hide": (
            ("repeat the sentence with a gap in place of the answer",),
            "a passage and a phrase of it",
            lambda a: (f"{a.passage}\nPhrase: {a.answer}", a.passage.replace(a.answer, "____")),
        ),
        "both": (
            ("write a question about the passage and, after a bar, its answer",),
            "a passage",
            lambda a: (a.passage, f"{a.question} | {a.answer}"),
        ),
    }
    if sum(bool(row.title) for row in rows) > len(rows) / 2:
        forms["title"] = (
            ("name what the passage is about", "give the text a title"),
            "a passage",
            lambda a: (a.passage, a.title.replace("_", " ")),
        )
    for form, (asks, given, turn) in forms.items():
        named = tuple(f"{ask}; the field is {name}" if name == "medicine" else ask for ask in asks)
        yield Draft(
            f"passage_{form}_{name}",
            named,
            given,
            lambda chance, turn=turn: turn(chance.choice(rows)),
        )


def _questions(rows: list[Asked]) -> Iterator[Draft]:
    """What can be done with a question alone."""
    words = ("who", "when", "where", "what", "which", "how many")
    expected = {
        "who": "person",
        "when": "time",
        "where": "place",
        "how many": "number",
        "what": "thing",
    }

    def starting(chance: Chance, turn: Callable[[str], str]) -> tuple[str, str]:
        word = chance.choice(words[:4] + words[5:])
        fit = [row.question for row in rows if row.question.lower().startswith(word)]
        return (question := chance.choice(fit)), turn(question)

    def kind(question: str) -> str:
        return next(k for word, k in expected.items() if question.lower().startswith(word))

    turns: dict[str, tuple[str, Callable[[str], str]]] = {
        "kind": (f"say what kind of answer it expects: {', '.join(expected.values())}", kind),
        "first_word": ("write the word that the question begins with", lambda q: q.split()[0]),
        "polite": (
            "ask the same more politely, with Could you tell me",
            lambda q: f"Could you tell me: {q}",
        ),
        "keywords": (
            "turn the question into keywords for a search engine, without small words",
            lambda q: " ".join(w for w in re.findall(r"[\w-]+", q) if len(w) > 4).lower(),
        ),
        "unknown": (
            "say that you do not know the answer to the question",
            lambda q: f'I do not know the answer to "{q}"',
        ),
    }
    for name, (ask, turn) in turns.items():
        yield Draft(f"question_{name}", (ask,), "a question", lambda c, t=turn: starting(c, t))


def _read_sentences(data: Path) -> list[str]:
    """Sentences of ordinary length, of encyclopedia articles and plain documents."""
    found = []
    for name in (*_ENCYCLOPEDIA[:1], *_PLAIN):
        with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            docs = dict.fromkeys(json.loads(line)["doc"] for line in lines)
        found += [
            part for doc in docs for part in split_sentences(doc) if 8 <= len(part.split()) <= 30
        ]
    return Chance("sentences").sample(found, min(len(found), 6000))


def _sentences(sentences: list[str]) -> Iterator[Draft]:
    """What can be done with a sentence as it was found."""
    number = re.compile(r"\b\d+(?:\.\d+)?\b")
    name = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+")
    turns: dict[str, tuple[str, Callable[[str], str]]] = {
        "rest": ("continue the text", lambda s: " ".join(s.split()[len(s.split()) // 2 :])),
        "numbers": ("list the numbers in the text or write none", lambda s: _all(number, s)),
        "names": ("list the names in the text or write none", lambda s: _all(name, s)),
        "n_words": ("count the words of the text", lambda s: str(len(s.split()))),
        "begin": ("repeat the first five words", lambda s: " ".join(s.split()[:5])),
        "end": ("repeat the last three words", lambda s: " ".join(s.split()[-3:])),
        "longest": ("write the longest word of the text", lambda s: max(_words(s), key=len)),
        "lower": ("write the text in small letters", str.lower),
        "quote": ("put the text into quotation marks", lambda s: f'"{s}"'),
        "spaces": ("correct the text by putting the spaces back", lambda s: s),
        "order": ("put the words into the right order", lambda s: s),
        "capital": ("correct the capital letters of the text", lambda s: s),
        "missing": ("write the missing word", lambda s: max(_words(s), key=len)),
        "copy": ("repeat the text exactly", lambda s: s),
        "second": ("write the second sentence", lambda s: s),
    }
    given: dict[str, Callable[[Chance, str], str]] = {
        "rest": lambda _, s: " ".join(s.split()[: len(s.split()) // 2]),
        "spaces": lambda _, s: s.replace(" ", ""),
        "order": lambda c, s: " ".join(c.sample(s.split(), len(s.split()))),
        "capital": lambda _, s: s.upper(),
        "missing": lambda _, s: s.replace(max(_words(s), key=len), "___"),
        "second": lambda c, s: f"{c.choice(sentences)} {s}",
    }
    for which, (ask, turn) in turns.items():
        make_given = given.get(which, lambda _, s: s)
        yield Draft(
            f"text_{which}",
            (ask, ask.replace("the text", "this text")),
            "a text",
            lambda c, t=turn, g=make_given: _turned(c, c.choice(sentences), g, t),
        )


def _turned(
    chance: Chance,
    sentence: str,
    give: Callable[[Chance, str], str],
    turn: Callable[[str], str],
) -> tuple[str, str]:
    return give(chance, sentence), turn(sentence)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _all(pattern: re.Pattern[str], text: str) -> str:
    return ", ".join(pattern.findall(text)) or "none"


def _kinds(sources: dict[str, list[Asked]]) -> Iterator[Draft]:
    """Which field a passage is from, with labels of several kinds."""
    names = list(sources)
    manners = {
        "plain": {name: name for name in names},
        "capitals": {name: name.upper() for name in names},
        "letters": dict(zip(names, "ABCD", strict=True)),
        "sentence": {name: f"This text is from the field {name}." for name in names},
    }
    for manner, labels in manners.items():
        rule = ", ".join(f"{label!r} for {name}" for name, label in labels.items())
        yield Draft(
            f"field_of_{manner}",
            (f"say which field the text is from: {rule}", f"sort it into one of: {rule}"),
            "a passage",
            lambda c, labels=labels: (
                c.choice(sources[(name := c.choice(names))]).passage,
                labels[name],
            ),
        )
    yield Draft(
        "fits_question",
        ("answer yes if the passage answers the question and no if not",),
        "a passage and a question",
        lambda c: _fits(c, sources["encyclopedia"]),
    )


def _fits(chance: Chance, rows: list[Asked]) -> tuple[str, str]:
    one, other = chance.sample(rows, 2)
    fits = chance.random() < 0.5
    question = one.question if fits else other.question
    return f"{one.passage}\nQuestion: {question}", "yes" if fits else "no"
