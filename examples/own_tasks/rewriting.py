"""Sentences rewritten: more polite, shorter, as a list, without names, as a note and so on."""

import re
from collections.abc import Callable, Iterator

from banks import ADJECTIVES, DAYS, NOUNS, PEOPLE, TOWNS
from drafts import Chance, Draft

#: Given and answer, with the same slots.
_RULES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "polite": (
        ("make the request more polite", "rewrite it politely", "be nicer about it"),
        "Give me the {noun} on {day}.",
        "Could you please give me the {noun} on {day}?",
    ),
    "blunt": (
        ("make it short and direct", "remove the politeness"),
        "I was wondering whether you might possibly bring the {noun} on {day}.",
        "Bring the {noun} on {day}.",
    ),
    "formal": (
        ("make the message formal", "rewrite it for a business letter"),
        "hey {first}, can't come {day}, sorry!",
        "Dear {first}, I regret that I am unable to come on {day}.",
    ),
    "casual": (
        ("make the message casual", "write it as to a friend"),
        "Dear {first}, I regret that I am unable to come on {day}.",
        "Hey {first}, sorry, I can't make it on {day}!",
    ),
    "list": (
        ("turn the sentence into a bulleted list", "bullet points please"),
        "We need a {noun}, a {noun2} and a {noun3}.",
        "- {noun}\n- {noun2}\n- {noun3}",
    ),
    "numbered": (
        ("write the steps as a numbered list", "number the steps"),
        "First take the {noun}, then clean the {noun2}, and finally go to {town}.",
        "1. Take the {noun}\n2. Clean the {noun2}\n3. Go to {town}",
    ),
    "unlist": (
        ("write the list as a sentence", "no bullets, one sentence"),
        "- {noun}\n- {noun2}\n- {noun3}",
        "We need {noun}, {noun2} and {noun3}.",
    ),
    "shorter": (
        ("shorten the sentence", "cut everything that is not needed", "make it concise"),
        "At this point in time it is a fact that the {noun} in {town} is really very {adjective}.",
        "The {noun} in {town} is {adjective}.",
    ),
    "note": (
        ("turn it into a note in telegram style", "as a short memo without articles"),
        "I will meet {first} in {town} on {day}.",
        "Meet {first}, {town}, {day}",
    ),
    "full": (
        ("write the note as a full sentence", "expand the note"),
        "Meet {first}, {town}, {day}",
        "I will meet {first} in {town} on {day}.",
    ),
    "contract": (
        ("use contractions", "write it with short forms like don't"),
        "I do not know why {first} is not in {town}.",
        "I don't know why {first} isn't in {town}.",
    ),
    "expand": (
        ("expand the contractions", "write out short forms like don't"),
        "It's {day} and {first} can't find the {noun}.",
        "It is {day} and {first} cannot find the {noun}.",
    ),
    "neutral": (
        ("make the sentence neutral, without judgement", "remove the opinion"),
        "The terribly ugly {noun} of {first} stands in {town}.",
        "The {noun} of {first} stands in {town}.",
    ),
    "advert": (
        ("turn it into an advertising slogan", "sell it to me in one line"),
        "a {adjective} {noun} from {town}",
        "Get the {adjective} {noun} from {town} now!",
    ),
    "question": (
        ("turn it into a question for a survey",),
        "The {noun} of {town} is {adjective}.",
        "Do you think that the {noun} of {town} is {adjective}?",
    ),
    "simple": (
        ("explain it to a child", "use simple words only"),
        "{first} purchased a {noun} and subsequently departed for {town}.",
        "{first} bought a {noun} and then went to {town}.",
    ),
    "fancy": (
        ("use more elevated words", "make it sound educated"),
        "{first} bought a {noun} and then went to {town}.",
        "{first} purchased a {noun} and subsequently departed for {town}.",
    ),
    "anonymous": (
        ("replace names of people by [NAME]", "anonymize the text", "hide who it is about"),
        "{first} met {first2} in {town}.",
        "[NAME] met [NAME] in {town}.",
    ),
    "places": (
        ("replace towns by [PLACE]", "mask the places in the text"),
        "{first} drove from {town} to {town2} on {day}.",
        "{first} drove from [PLACE] to [PLACE] on {day}.",
    ),
    "tweet": (
        ("write it as a post with a hashtag", "make a tweet of it"),
        "The {noun} festival takes place in {town} on {day}.",
        "{noun} festival in {town} this {day}! #{town}",
    ),
    "merge": (
        ("join both sentences into one", "one sentence instead of two"),
        "{first} lives in {town}. {first} sells {noun}s.",
        "{first} lives in {town} and sells {noun}s.",
    ),
    "split": (
        ("split it into two sentences", "two short sentences instead of a long one"),
        "{first} lives in {town} and sells {noun}s.",
        "{first} lives in {town}. {first} sells {noun}s.",
    ),
    "typo": (
        ("fix the spelling", "correct the typos", "proofread this"),
        "Teh {noun} is vrey {adjective} adn we wll see it on {day}.",
        "The {noun} is very {adjective} and we will see it on {day}.",
    ),
    "grammar": (
        ("correct the grammar", "fix the mistakes in the sentence"),
        "{first} go to {town} yesterday and buyed two {noun}.",
        "{first} went to {town} yesterday and bought two {noun}s.",
    ),
    "warning": (
        ("write a warning sign for it", "warn people about it in one line"),
        "the {noun} is {adjective}",
        "CAUTION: {adjective} {noun}!",
    ),
    "praise": (
        ("answer with a compliment", "praise what the person did"),
        "I made a {adjective} {noun}, {first} here.",
        "Well done, {first}, what a {adjective} {noun}!",
    ),
}
#: What is done with a sentence as it stands somewhere.
_TURNS: dict[str, tuple[tuple[str, ...], Callable[[str], str]]] = {
    "no_numbers": (
        ("replace every number by #", "mask the numbers in the text"),
        lambda s: re.sub(r"\d+(?:[.,]\d+)*", "#", s),
    ),
    "markdown": (("make the text bold in Markdown", "bold, markdown"), lambda s: f"**{s}**"),
    "heading": (("make the text a heading in Markdown",), lambda s: f"# {s.rstrip('.')}"),
    "blockquote": (("quote the text in Markdown", "as a Markdown block quote"), lambda s: f"> {s}"),
    "paragraph": (("wrap the text in an HTML paragraph",), lambda s: f"<p>{s}</p>"),
    "json": (
        ('wrap the text in JSON as {"text": ...}', "text to JSON"),
        lambda s: '{"text": "' + s.replace('"', '\\"') + '"}',
    ),
    "title_case": (("write every word with a capital letter", "title case"), lambda s: s.title()),
    "slug": (
        ("make a URL slug of the text", "slugify"),
        lambda s: "-".join(re.findall(r"[a-z0-9]+", s.lower())),
    ),
    "teaser": (
        ("cut the text after eight words and add three dots", "a teaser of eight words"),
        lambda s: " ".join(s.split()[:8]) + " ...",
    ),
    "yes": (("confirm that you have read the text",), lambda s: f"I have read: {s}"),
    "comment": (("write the text as a comment of Python",), lambda s: f"# {s}"),
    "bracket": (("put the text into square brackets",), lambda s: f"[{s}]"),
}


def draft_all(sentences: list[str]) -> Iterator[Draft]:
    """All families of this kind; `sentences` are taken from somewhere."""
    for name, (asks, given, answer) in _RULES.items():
        yield Draft(
            f"rewrite_{name}",
            asks,
            "a sentence or a message",
            lambda chance, given=given, answer=answer: _fill(chance, given, answer),
        )
    for name, (asks, turn) in _TURNS.items():
        yield Draft(
            f"turn_{name}",
            asks,
            "a text",
            lambda chance, turn=turn: ((text := chance.choice(sentences)), turn(text)),
        )


def _fill(chance: Chance, given: str, answer: str) -> tuple[str, str]:
    noun, noun2, noun3 = chance.sample([word for word in NOUNS if word.isalpha()], 3)
    first, first2 = chance.sample(PEOPLE, 2)
    town, town2 = chance.sample(TOWNS, 2)
    values = {
        "noun": noun,
        "noun2": noun2,
        "noun3": noun3,
        "first": first,
        "first2": first2,
        "town": town,
        "town2": town2,
        "day": chance.choice(DAYS),
        "adjective": chance.choice(ADJECTIVES),
    }
    return given.format(**values), answer.format(**values)
