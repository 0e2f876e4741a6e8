"""Tasks from shelves of texts: commands, definitions, tables, tales, medicine and manuals."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from drafts import Chance, Draft, Pair
from passages import read_rows, split_sentences

_MOST_ROWS = 1500  # of a shelf
_MOST_WORDS = 120  # of a text that is given
Row = dict[str, str]
Wish = tuple[tuple[str, ...], str, Callable[[Row], Pair]]


@dataclass(frozen=True)
class Shelf:
    """Rows of one kind, and what can be wished for with one of them."""

    name: str
    rows: Sequence[Row]
    wishes: dict[str, Wish]


def draft_all(data: Path) -> Iterator[Draft]:
    """All families of this kind, of the files in a folder."""
    for shelf in (_commands(data), _definitions(data), _tables(data), _openings(data)):
        for name, (asks, given, make) in shelf.wishes.items():
            yield Draft(
                f"{shelf.name}_{name}",
                asks,
                given,
                lambda chance, rows=shelf.rows, make=make: make(chance.choice(rows)),
            )


def _take(rows: list[Row], name: str) -> list[Row]:
    return Chance(name).sample(rows, min(len(rows), _MOST_ROWS))


def _commands(data: Path) -> Shelf:
    """Command lines, with what they do and the program that they are of."""
    found = []
    for row in read_rows(data, ("qa_train_tldr_commands",)):
        program = row["title"].split(" (")[0]
        lines = row["doc"].split("\n")
        answer = str(row["answers"][0])
        if answer in lines and len(answer.split()) < 14:
            does = lines[lines.index(answer) - 1].rstrip(":")
            about = lines[0].split(": ", 1)[-1]
            found.append({"program": program, "does": does, "line": answer, "about": about})
    wishes: dict[str, Wish] = {
        "write": (
            ("write the command line", "give me the shell command", "turn the wish into a command"),
            "the name of a program and what should be done",
            lambda r: (f"{r['program']}: {r['does']}", r["line"]),
        ),
        "ask": (
            ("answer with the command alone", "command for this, no explanation"),
            "a question about a program for the command line",
            lambda r: (f"How do I {_lower(r['does'])} with {r['program']}?", r["line"]),
        ),
        "explain": (
            ("explain what the command does", "say in a line what happens if I type this"),
            "a command line",
            lambda r: (r["line"], f"{r['does']}."),
        ),
        "program": (
            ("say what the program is for", "describe the tool in a sentence"),
            "the name of a program for the command line",
            lambda r: (r["program"], r["about"]),
        ),
        "which": (
            ("name a program that can do this", "which tool do I need? its name only"),
            "something to be done on the command line",
            lambda r: (f"{r['about']} {r['does']}", r["program"]),
        ),
        "fenced": (
            ("write the command in a fenced block of bash",),
            "the name of a program and what should be done",
            lambda r: (f"{r['program']}: {r['does']}", f"```bash\n{r['line']}\n```"),
        ),
        "comment": (
            ("write the command with a comment above it that says what it does",),
            "the name of a program and what should be done",
            lambda r: (f"{r['program']}: {r['does']}", f"# {r['does']}\n{r['line']}"),
        ),
        "json": (
            ('answer with JSON: {"command": ...}',),
            "something to be done with a program",
            lambda r: (f"{r['does']} ({r['program']})", '{"command": "' + r["line"] + '"}'),
        ),
    }
    return Shelf("shell", _take(found, "shell"), wishes)


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _definitions(data: Path) -> Shelf:
    """Things and what they are."""
    found = []
    for row in read_rows(data, ("qa_train_vital_definitions",)):
        first = split_sentences(str(row["doc"]))[0]
        title, answer = str(row["title"]), str(row["answers"][0])
        if 6 <= len(first.split()) <= 45 and title in first and len(answer.split()) > 1:
            hidden = first.replace(title, "it")
            found.append({"thing": title, "phrase": answer, "first": first, "hidden": hidden})
    wishes: dict[str, Wish] = {
        "phrase": (
            ("define the term in a few words", "short definitions", "say what kind of thing it is"),
            "a term",
            lambda r: (r["thing"], r["phrase"]),
        ),
        "sentence": (
            (
                "define the term in a sentence",
                "write the first sentence of an encyclopedia article",
            ),
            "a term",
            lambda r: (r["thing"], r["first"]),
        ),
        "asked": (
            ("answer what something is, briefly", "explain it in a phrase"),
            "a question about what something is",
            lambda r: (f"What is {r['thing']}?", r["phrase"]),
        ),
        "term": (
            ("name what is described", "guess the term", "which word is defined here?"),
            "a definition",
            lambda r: (r["hidden"], r["thing"]),
        ),
        "topic": (
            ("name the topic of the text", "give the subject in a word or two"),
            "the beginning of an article",
            lambda r: (r["first"], r["thing"]),
        ),
        "card": (
            ("make a flash card: term, a line, definition", "flashcards from text"),
            "the beginning of an article",
            lambda r: (r["first"], f"{r['thing']}\n---\n{r['phrase']}"),
        ),
        "quiz": (
            ("write a quiz question whose answer is the term",),
            "the beginning of an article",
            lambda r: (r["first"], f"What is {r['phrase']}? ({r['thing']})"),
        ),
        "glossary": (
            ("write an entry of a glossary", "glossary entries in bold Markdown"),
            "a term",
            lambda r: (r["thing"], f"**{r['thing']}**: {r['phrase']}"),
        ),
    }
    return Shelf("define", _take(found, "define"), wishes)


def _tables(data: Path) -> Shelf:
    """Small tables with a header, and questions about them."""
    found = []
    for row in read_rows(data, ("qa_train_wikitablequestions",)):
        lines = str(row["doc"]).split("\n")[1:6]
        cells = [line.split(" | ") for line in lines]
        if len(cells) > 3 and 2 <= len(cells[0]) <= 5 and len({len(one) for one in cells}) == 1:
            table = "\n".join(lines)
            answer, question = str(row["answers"][0]), str(row["question"])
            if len(table.split()) <= _MOST_WORDS and answer in table:
                found.append({"table": table, "question": question, "answer": answer})

    def head(r: Row) -> list[str]:
        return r["table"].split("\n")[0].split(" | ")

    def line(r: Row, number: int) -> list[str]:
        return r["table"].split("\n")[number].split(" | ")

    def as_json(r: Row) -> str:
        pairs = zip(head(r), line(r, 1), strict=True)
        return "{" + ", ".join(f'"{key}": "{value}"' for key, value in pairs) + "}"

    wishes: dict[str, Wish] = {
        "answer": (
            ("answer the question from the table", "look it up in the table"),
            "a table and a question",
            lambda r: (f"{r['table']}\n\n{r['question']}", r["answer"]),
        ),
        "ask": (
            ("write a question that the table answers", "ask something about the table"),
            "a table",
            lambda r: (r["table"], r["question"]),
        ),
        "head": (
            ("list the columns of the table", "column names, separated by commas"),
            "a table",
            lambda r: (r["table"], ", ".join(head(r))),
        ),
        "first": (
            ("write the first row of the table as JSON", "first row to JSON"),
            "a table",
            lambda r: (r["table"], as_json(r)),
        ),
        "last": (
            ("write the last row of the table as CSV",),
            "a table",
            lambda r: (r["table"], ",".join(line(r, -1))),
        ),
        "column": (
            ("list the values of the first column", "first column only, comma separated"),
            "a table",
            lambda r: (
                r["table"],
                ", ".join(one.split(" | ")[0] for one in r["table"].split("\n")[1:]),
            ),
        ),
        "count": (
            ("count the rows of the table, without the header", "how many rows? a number"),
            "a table",
            lambda r: (r["table"], str(len(r["table"].split("\n")) - 1)),
        ),
    }
    return Shelf("table", _take(found, "table"), wishes)


def _openings(data: Path) -> Shelf:
    """Texts whose first sentence says what all of it is about."""
    found = []
    files = ("docs_encyclopedic", "docs_manuals", "qa_train_squad_articles")
    for row in read_rows(data, files, field="doc"):
        doc, title = str(row["doc"]), str(row.get("title", ""))
        sentences = split_sentences(doc.removeprefix(title))
        rest = " ".join(sentences[1:7])
        fits = 30 <= len(rest.split()) <= _MOST_WORDS and title and len(sentences) > 3
        if fits and 6 <= len(sentences[0].split()) <= 32 and not re.search(r"\d\.\d", title):
            subject = title.replace("_", " ")
            found.append({"rest": rest, "first": sentences[0], "title": subject})
    wishes: dict[str, Wish] = {
        "summary": (
            ("summarize the text in one sentence", "tl;dr", "short summary", "sum up the article"),
            "a text",
            lambda r: (r["rest"], r["first"]),
        ),
        "opening": (
            ("write the sentence that should stand before the text", "write an introduction"),
            "a text without its beginning",
            lambda r: (r["rest"], r["first"]),
        ),
        "title": (
            ("find a title for the text", "title please", "headline the passage"),
            "a text",
            lambda r: (f"{r['first']} {r['rest']}", r["title"]),
        ),
        "about": (
            ("say what the text is about in the form: It is about ...",),
            "a text",
            lambda r: (f"{r['first']} {r['rest']}", f"It is about {r['title']}."),
        ),
        "begin": (
            ("write the first sentence of an article with this title",),
            "the title of an article",
            lambda r: (r["title"], r["first"]),
        ),
        "next": (
            ("write the next sentence", "continue the article by a sentence"),
            "the title of an article and its first sentence",
            lambda r: (f"{r['title']}\n{r['first']}", split_sentences(r["rest"])[0]),
        ),
        "json": (
            ("write title and summary as JSON", "JSON with title and summary of the article"),
            "a text",
            lambda r: (
                r["rest"],
                '{"title": "'
                + r["title"]
                + '", "summary": "'
                + r["first"].replace('"', "'")
                + '"}',
            ),
        ),
    }
    return Shelf("article", _take(found, "article"), wishes)
