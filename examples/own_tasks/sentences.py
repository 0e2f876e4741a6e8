"""Tasks that rewrite, question or judge short sentences."""

from collections.abc import Callable, Iterator

from banks import ADJECTIVES, DAYS, NOUNS, PEOPLE, TOWNS, VERBS
from drafts import Chance, Draft

_THINGS = tuple(
    ["the letter", "the house", "the bicycle", "the song", "the lamp", "the story", "the gate"]
)
_GOOD = tuple(
    ["wonderful", "delicious", "excellent", "friendly", "fast", "reliable", "charming", "superb"]
)
_BAD = tuple(["awful", "tasteless", "terrible", "rude", "slow", "broken", "boring", "dreadful"])
_OBJECTS = tuple(
    ["food", "hotel", "film", "service", "phone", "book", "concert", "app", "staff", "room"]
)
#: From a rule's name: the instruction, the sentence given and the answer.
_REWRITES = {
    "past": (
        "put the sentence into the past tense",
        "{He} {third} {thing}.",
        "{He} {past} {thing}.",
    ),
    "present": (
        "put the sentence into the present tense",
        "{He} {past} {thing}.",
        "{He} {third} {thing}.",
    ),
    "future": (
        "put the sentence into the future tense",
        "{He} {third} {thing}.",
        "{He} will {verb} {thing}.",
    ),
    "perfect": (
        "put the sentence into the present perfect",
        "{He} {past} {thing}.",
        "{He} has {participle} {thing}.",
    ),
    "progressive": (
        "say that it is happening right now",
        "{He} {third} {thing}.",
        "{He} is {gerund} {thing}.",
    ),
    "can": (
        "say that the person is able to do it",
        "{He} {third} {thing}.",
        "{He} can {verb} {thing}.",
    ),
    "must": ("say that it has to be done", "{He} {third} {thing}.", "{He} must {verb} {thing}."),
    "wants": (
        "say that the person wants to do it",
        "{He} {third} {thing}.",
        "{He} wants to {verb} {thing}.",
    ),
    "did_not": (
        "say that it did not happen",
        "{He} {past} {thing}.",
        "{He} did not {verb} {thing}.",
    ),
    "question": (
        "turn the statement into a yes-or-no question",
        "{He} {past} {thing}.",
        "Did {He} {verb} {thing}?",
    ),
    "who": ("ask who did it", "{He} {past} {thing}.", "Who {past} {thing}?"),
    "what": (
        "ask what the person did it to, with What",
        "{He} {past} {thing}.",
        "What did {He} {verb}?",
    ),
    "where": ("ask where the person lives", "{He} lives in {town}.", "Where does {He} live?"),
    "when": (
        "ask on which day it was",
        "{He} {past} {thing} on {day}.",
        "When did {He} {verb} {thing}?",
    ),
    "passive_short": (
        "say in the passive, without the person, what was done",
        "{He} {past} {thing}.",
        "{Thing} was {participle}.",
    ),
    "order": ("turn the statement into an order", "{He} {third} {thing}.", "{Verb} {thing}!"),
    "let": (
        "turn it into a suggestion with Let us",
        "{He} {third} {thing}.",
        "Let us {verb} {thing}.",
    ),
    "first_person": ("tell it in the first person", "{He} {past} {thing}.", "I {past} {thing}."),
    "we": (
        "tell it with we in place of the person",
        "{He} {past} {thing} on {day}.",
        "We {past} {thing} on {day}.",
    ),
    "reported": (
        "report what was said, with said that",
        '{He}: "It is {adjective}."',
        "{He} said that it was {adjective}.",
    ),
    "plural": (
        "put the noun into the plural",
        "I see a {noun} in {town}.",
        "I see {noun}s in {town}.",
    ),
    "very": (
        "make the adjective stronger with very",
        "The {noun} is {adjective}.",
        "The {noun} is very {adjective}.",
    ),
    "attribute": (
        "put the adjective before the noun, as a phrase",
        "The {noun} is {adjective}.",
        "the {adjective} {noun}",
    ),
    "is_not": (
        "say the opposite with not",
        "The {noun} is {adjective}.",
        "The {noun} is not {adjective}.",
    ),
    "really": (
        "ask back in surprise",
        "The {noun} is {adjective}.",
        "Really? Is the {noun} {adjective}?",
    ),
    "agree": (
        "agree with the statement",
        "The {noun} is {adjective}.",
        "Yes, I agree that the {noun} is {adjective}.",
    ),
    "doubt": (
        "express doubt about it",
        "The {noun} is {adjective}.",
        "I doubt that the {noun} is {adjective}.",
    ),
    "because": (
        "join the two sentences with because",
        "{He} is glad. The {noun} is {adjective}.",
        "{He} is glad because the {noun} is {adjective}.",
    ),
    "but": (
        "join the two sentences with but",
        "The {noun} is {adjective}. {He} likes it.",
        "The {noun} is {adjective} but {He} likes it.",
    ),
    "although": (
        "join the two sentences with although at the beginning",
        "It is {day}. {He} is working.",
        "Although it is {day}, {He} is working.",
    ),
    "if": (
        "make a condition with if of the two sentences",
        "It rains. {He} stays in {town}.",
        "If it rains, {He} stays in {town}.",
    ),
    "subject": ("write the subject of the sentence", "{He} {past} {thing} in {town}.", "{He}"),
    "object": ("write the object of the sentence", "{He} {past} {thing} in {town}.", "{thing}"),
    "verb": ("write the verb of the sentence", "{He} {past} {thing} in {town}.", "{past}"),
    "place": ("write the place that is named", "{He} {past} {thing} in {town}.", "{town}"),
    "lower": (
        "write the sentence in small letters without the full stop",
        "{He} {past} {thing}.",
        "{he} {past} {thing}",
    ),
    "loud": ("write the sentence in capital letters", "{He} {past} {thing}.", "{LOUD}"),
    "gap": (
        "replace the verb by a gap of three underscores",
        "{He} {past} {thing}.",
        "{He} ___ {thing}.",
    ),
    "answer_no": (
        "answer the question with No and a full sentence",
        "Is the {noun} {adjective}?",
        "No, the {noun} is not {adjective}.",
    ),
    "answer_yes": (
        "answer the question with Yes and a full sentence",
        "Is the {noun} {adjective}?",
        "Yes, the {noun} is {adjective}.",
    ),
    "title": (
        "write a title for the sentence with The and of",
        "{town} has a {adjective} {noun}.",
        "The {adjective} {noun} of {town}",
    ),
    "condolence": (
        "answer with sympathy",
        "My {noun} is {adjective} and I am sad.",
        "I am sorry to hear that your {noun} is {adjective}.",
    ),
    "suppose": (
        "write what probably comes next",
        "{He} dropped the glass on the floor in {town}.",
        "The glass broke.",
    ),
}


def draft_all() -> Iterator[Draft]:
    """All families of this kind."""
    for name, (ask, given, answer) in _REWRITES.items():
        yield Draft(
            f"sentence_{name}",
            (ask, f"read the text and {ask}"),
            "a sentence",
            lambda chance, given=given, answer=answer: _fill(chance, given, answer),
        )
    yield from _moods()
    yield from _kinds()


def _fill(chance: Chance, given: str, answer: str) -> tuple[str, str]:
    verb = chance.choice([row for row in VERBS if row[0] not in ("walk", "know", "begin", "speak")])
    person, thing = chance.choice(PEOPLE), chance.choice(_THINGS)
    values = {
        "He": person,
        "he": person.lower(),
        "thing": thing,
        "Thing": thing.capitalize(),
        "verb": verb[0],
        "Verb": verb[0].capitalize(),
        "past": verb[1],
        "participle": verb[2],
        "gerund": verb[3],
        "third": verb[4],
        "noun": chance.choice(NOUNS),
        "adjective": chance.choice(ADJECTIVES),
        "town": chance.choice(TOWNS),
        "day": chance.choice(DAYS),
        "LOUD": f"{person} {verb[1]} {thing}.".upper(),
    }
    return given.format(**values), answer.format(**values)


def _moods() -> Iterator[Draft]:
    labels = (
        ("praise", "complaint"),
        ("happy", "unhappy"),
        ("good", "bad"),
        ("1", "0"),
        ("+", "-"),
        ("thumbs up", "thumbs down"),
        ("The customer is satisfied.", "The customer is not satisfied."),
    )
    for number, (good, bad) in enumerate(labels):
        yield Draft(
            f"mood_{number}",
            (
                f"answer {good!r} if the writer liked it and {bad!r} if not",
                f"label the review as {good!r} or {bad!r}",
            ),
            "a short review",
            lambda chance, pair=(good, bad): _review(chance, lambda _, liked: pair[not liked]),
        )
    replies: dict[str, tuple[str, Callable[[str, bool], str]]] = {
        "topic": ("name what the review is about", lambda thing, _: thing),
        "stars": (
            "rate the review with five stars or one star",
            lambda _, liked: "*****" if liked else "*",
        ),
        "reply": (
            "write the answer of the owner",
            lambda thing, liked: (
                f"Thank you! We are glad that you liked the {thing}."
                if liked
                else f"We are sorry that you did not like the {thing}."
            ),
        ),
        "report": (
            "report the review in one sentence about a customer",
            lambda thing, liked: f"A customer {'liked' if liked else 'disliked'} the {thing}.",
        ),
        "opposite": (
            "write the opposite judgement in the form: The ... was great or bad",
            lambda thing, liked: f"The {thing} was {'bad' if liked else 'great'}.",
        ),
    }
    for name, (ask, reply) in replies.items():
        yield Draft(
            f"review_{name}",
            (ask,),
            "a short review",
            lambda chance, reply=reply: _review(chance, reply),
        )


def _review(chance: Chance, answer: Callable[[str, bool], str]) -> tuple[str, str]:
    liked, thing = chance.random() < 0.5, chance.choice(_OBJECTS)
    first, second = chance.sample(_GOOD if liked else _BAD, 2)
    given = chance.choice(
        (
            f"The {thing} was {first} and {second}.",
            f"What a {first} {thing}! Simply {second}.",
            f"I found the {thing} {first}.",
            f"My family thought that the {thing} was {first}, even {second}.",
        )
    )
    return given, answer(thing, liked)


def _kinds() -> Iterator[Draft]:
    kinds = {
        "question": ("Is {He} in {town}?", "Where is the {noun}?", "Did {He} {verb} {thing}?"),
        "order": ("{Verb} {thing}!", "Go to {town} on {day}!", "Bring me the {noun}!"),
        "statement": ("{He} is in {town}.", "The {noun} is {adjective}.", "{He} {past} {thing}."),
    }
    manners = {
        "plain": {kind: kind for kind in kinds},
        "letters": dict(zip(kinds, "QOS", strict=True)),
        "numbers": dict(zip(kinds, "123", strict=True)),
    }
    for name, labels in manners.items():
        rule = ", ".join(f"{label} for a {kind}" for kind, label in labels.items())
        yield Draft(
            f"kind_{name}",
            (f"say what kind of sentence it is: {rule}", f"classify the sentence ({rule})"),
            "a sentence without context",
            lambda chance, labels=labels: _kind(chance, kinds, labels),
        )


def _kind(
    chance: Chance, kinds: dict[str, tuple[str, ...]], labels: dict[str, str]
) -> tuple[str, str]:
    kind = chance.choice(list(kinds))
    return _fill(chance, chance.choice(kinds[kind]), labels[kind])
