"""Tasks on words and lists of words: picking, ordering, spelling, marking, judging."""

from collections.abc import Callable, Iterator
from itertools import pairwise

from banks import ADJECTIVES, CATEGORY, NOUNS, YES_NO, articled
from drafts import Chance, Draft

_PLACES = {"second": 1, "third": 2, "fourth": 3, "last": -1, "next to last": -2}
_SEPARATORS = {"commas": ", ", "semicolons": "; ", "spaces": " ", "slashes": " / ", "dashes": " - "}


def draft_all() -> Iterator[Draft]:
    """All families of this kind."""
    yield from _lists()
    yield from _pieces()
    yield from _spellings()
    yield from _marks()
    yield from _judgements()
    yield from _classes()


def _words(chance: Chance, low: int = 4, high: int = 7) -> list[str]:
    return chance.sample(NOUNS, chance.randint(low, high))


def _lists() -> Iterator[Draft]:
    for (place, index), (name, mark) in zip(_PLACES.items(), _SEPARATORS.items(), strict=True):
        asks = (
            f"write the {place} item of the list",
            f"say which word is the {place} one",
            f"pick out the item in {place} place",
        )
        given = f"a list of words separated by {name}"
        yield Draft(f"{place}_by_{name}", asks, given, _listed(lambda w, i=index: w[i], mark))
    changes: dict[str, tuple[str, Callable[[list[str]], str]]] = {
        "sort": ("put the words into alphabetical order", lambda w: ", ".join(sorted(w))),
        "sort_back": (
            "sort the words from Z to A",
            lambda w: ", ".join(sorted(w, reverse=True)),
        ),
        "by_length": (
            "order the words from the shortest to the longest",
            lambda w: ", ".join(sorted(w, key=len)),
        ),
        "first_two": ("keep only the first two words", lambda w: ", ".join(w[:2])),
        "last_two": ("keep only the last two words", lambda w: ", ".join(w[-2:])),
        "drop_first": ("leave out the first word and repeat the rest", lambda w: ", ".join(w[1:])),
        "longest": ("write the longest word", lambda w: max(w, key=len)),
        "shortest": ("write the shortest word", lambda w: min(w, key=len)),
        "pipes": ("join the words with vertical bars", lambda w: " | ".join(w)),
        "plus": ("join the words with plus signs", lambda w: "+".join(w)),
        "numbered": (
            "write the words as a numbered list, one a line",
            lambda w: "\n".join(f"{n}. {word}" for n, word in enumerate(w, start=1)),
        ),
        "stars": (
            "write each word on a line of its own after a star",
            lambda w: "\n".join(f"* {word}" for word in w),
        ),
        "and": (
            'join the words with commas and an "and" before the last',
            lambda w: f"{', '.join(w[:-1])} and {w[-1]}",
        ),
        "python": ("write the words as a Python list of strings", lambda w: repr(w)),
        "json": (
            "write the words as a JSON array under the key items",
            lambda w: '{"items": [' + ", ".join(f'"{word}"' for word in w) + "]}",
        ),
        "total": ("count the words and answer with the number", lambda w: str(len(w))),
        "total_said": ("say how many items there are", lambda w: f"There are {len(w)} items."),
        "html": (
            "turn the words into an HTML list",
            lambda w: "<ul>" + "".join(f"<li>{word}</li>" for word in w) + "</ul>",
        ),
    }
    for name, (ask, change) in changes.items():
        yield Draft(name, (ask, f"read the list and {ask}"), "a list of words", _listed(change))


def _listed(change: Callable[..., str], mark: str = ", ") -> Callable[[Chance], tuple[str, str]]:
    def make(chance: Chance) -> tuple[str, str]:
        words = _words(chance)
        return mark.join(words), change(words)

    return make


def _pieces() -> Iterator[Draft]:
    for letter in "abcdefgst":
        yield Draft(
            f"begins_{letter}",
            (
                f"write all words that begin with {letter}, or none if there are none",
                f"list the words whose first letter is {letter}; if no word has it, say none",
            ),
            "several words",
            lambda chance, letter=letter: _starting(chance, letter),
        )
    for category in ("animal", "fruit", "tool", "garment", "sport", "country"):
        yield Draft(
            f"find_{category}",
            (f"find the {category} in the list", f"name the only {category} among the words"),
            "a list of words",
            lambda chance, category=category: _hidden(chance, category),
        )


def _starting(chance: Chance, letter: str) -> tuple[str, str]:
    own = [word for word in NOUNS if word[0] == letter]
    words = _words(chance, 2, 4) + chance.sample(own, min(len(own), chance.randint(0, 2)))
    words = list(dict.fromkeys(chance.sample(words, len(words))))
    return ", ".join(words), ", ".join(w for w in words if w[0] == letter) or "none"


def _hidden(chance: Chance, category: str) -> tuple[str, str]:
    others = [word for name, words in CATEGORY.items() if name != category for word in words]
    one = chance.choice(CATEGORY[category])
    words = [one, *chance.sample(others, 3)]
    return ", ".join(chance.sample(words, 4)), one


def _spellings() -> Iterator[Draft]:
    changes: dict[str, tuple[str, Callable[[str], str]]] = {
        "backwards": ("spell the word backwards", lambda w: w[::-1]),
        "last_letter": ("write the last letter of the word", lambda w: w[-1]),
        "third_letter": ("write the third letter of the word", lambda w: w[2]),
        "first_two_letters": ("write the first two letters", lambda w: w[:2]),
        "without_last": ("leave out the last letter of the word", lambda w: w[:-1]),
        "n_letters": ("count the letters of the word", lambda w: str(len(w))),
        "capital": ("write the word with a capital letter at its beginning", str.capitalize),
        "capitals": ("write the word in capital letters only", str.upper),
        "dots": ("put a dot between the letters of the word", lambda w: ".".join(w)),
        "spaced_capitals": (
            "write the letters as capitals with spaces between them",
            lambda w: " ".join(w.upper()),
        ),
        "no_e": ("take every e out of the word", lambda w: w.replace("e", "")),
        "a_star": ("replace every a by a star", lambda w: w.replace("a", "*")),
        "vowels": (
            "write the vowels of the word in order",
            lambda w: "".join(c for c in w if c in "aeiou"),
        ),
        "article": ("put the right article, a or an, before the noun", articled),
        "the": ('write "the" before the word and a full stop after it', lambda w: f"The {w}."),
        "three_times": ("write the word three times with commas", lambda w: ", ".join([w] * 3)),
        "plural": (
            "give the plural of the noun",
            lambda w: w + ("es" if w[-1] in "shx" else "s"),
        ),
    }
    for name, (ask, change) in changes.items():
        yield Draft(
            name,
            (ask, ask.replace("the word", "this word")),
            "a word",
            lambda chance, change=change: _spelled(chance.choice(NOUNS), change),
        )


def _spelled(word: str, change: Callable[[str], str]) -> tuple[str, str]:
    return word, change(word)


def _marks() -> Iterator[Draft]:
    marks = {
        "double quotes": '"{}"',
        "round brackets": "({})",
        "curly braces": "{{{}}}",
        "asterisks": "*{}*",
        "backquotes": "`{}`",
        "a bold tag of HTML": "<b>{}</b>",
        "a heading tag of HTML": "<h1>{}</h1>",
        "three hash signs before it": "### {}",
        "an exclamation mark after it": "{}!",
        "the words Answer and a colon before it": "Answer: {}",
        "the words I choose before it": "I choose {}",
        "a dollar sign on both sides": "${}$",
        "a LaTeX emphasis command": "\\emph{{{}}}",
        "a Python print call": 'print("{}")',
    }
    for number, (name, form) in enumerate(marks.items()):
        yield Draft(
            f"mark_{number}",
            (f"repeat the text with {name}", f"write the same phrase again, with {name}"),
            "a short phrase",
            lambda chance, form=form: _marked(chance, form),
        )


def _marked(chance: Chance, form: str) -> tuple[str, str]:
    phrase = f"{chance.choice(ADJECTIVES)} {chance.choice(NOUNS)}"
    return phrase, form.format(phrase)


def _judgements() -> Iterator[Draft]:
    tests: dict[str, tuple[str, Callable[[str], bool]]] = {
        "has_o": ("the word contains the letter o", lambda w: "o" in w),
        "has_r": ("the word contains the letter r", lambda w: "r" in w),
        "long": ("the word has more than five letters", lambda w: len(w) > 5),
        "vowel": ("the word begins with a vowel", lambda w: w[0] in "aeiou"),
        "ends_e": ("the word ends with e", lambda w: w[-1] == "e"),
        "double": (
            "the word has a double letter",
            lambda w: any(a == b for a, b in pairwise(w)),
        ),
    }
    for category in ("animal", "fruit", "tool", "vehicle", "instrument", "drink", "metal", "sport"):
        tests[category] = (
            f"the word names {articled(category)}",
            lambda w, c=category: w in CATEGORY[c],
        )
    for number, (name, (condition, holds)) in enumerate(tests.items()):
        for yes, no in (YES_NO[number % len(YES_NO)], YES_NO[(number + 4) % len(YES_NO)]):
            yield Draft(
                f"judge_{name}_{yes}",
                (
                    f"answer {yes} if {condition} and {no} if not",
                    f"decide whether {condition}, and say {yes} or {no}",
                ),
                "a word",
                lambda chance, test=holds, labels=(yes, no): _judged(chance, test, labels),
            )


def _judged(
    chance: Chance, holds: Callable[[str], bool], labels: tuple[str, str]
) -> tuple[str, str]:
    wanted = chance.random() < 0.5
    words = [word for word in NOUNS if holds(word) == wanted]
    return chance.choice(words), labels[0 if wanted else 1]


def _classes() -> Iterator[Draft]:
    chance = Chance("classes")
    names = list(CATEGORY)
    labellings = (
        lambda cs: {c: c for c in cs},
        lambda cs: {c: c.upper() for c in cs},
        lambda cs: dict(zip(cs, "ABCD"[: len(cs)], strict=True)),
        lambda cs: {c: str(n) for n, c in enumerate(cs, start=1)},
        lambda cs: {c: f"It is {articled(c)}." for c in cs},
        lambda cs: {c: f"category: {c}" for c in cs},
    )
    for number in range(24):
        chosen = chance.sample(names, chance.choice([2, 3, 4]))
        labels = labellings[number % len(labellings)](chosen)
        rule = ", ".join(f"{labels[c]!r} for {articled(c)}" for c in chosen)
        yield Draft(
            f"class_{number}",
            (f"classify the word: answer {rule}", f"say what kind of thing it is: {rule}"),
            "a word",
            lambda c, chosen=tuple(chosen), labels=labels: _classed(c, chosen, labels),
        )


def _classed(chance: Chance, chosen: tuple[str, ...], labels: dict[str, str]) -> tuple[str, str]:
    category = chance.choice(chosen)
    return chance.choice(CATEGORY[category]), labels[category]
