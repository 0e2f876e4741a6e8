"""Questions that an adapter is drilled with, and others that are held out to judge it.

Everything comes from the document's text and a seed; no model is needed. If the writer asked for
enough answers, its questions are drilled, and other wordings of some are held out. Else sentences
give clozes and recitations, and a fifth of the sentences is held out.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import PurePath

from d2l.documents.document import Document
from d2l.documents.sentences import find_sentences
from d2l.questions.marks import AboutText
from d2l.training.learners.clozes import make_cloze
from d2l.training.learners.document_data import Asked, make_recitation

#: Words of a sentence that can be asked about.
_SHORTEST = 5
_HELD_OUT = 5  # one of so many sentences is held out
_HELD_WRITTEN = 8  # one of so many questions of the writer is held out,
_HELD_EXAMPLES = 4  # one of so many examples of a task,
_FEWEST_HELD = 2  # and at least so many
_MOST_HELD = 48  # questions that are held out
_TRIES = 3  # clozes of a held-out sentence
#: How often drills are questions of the writer, clozes and recitations, relative to each other.
_WEIGHTS = (4.0, 1.0, 1.0)
#: Sentences that refining needs: with fewer, the held-out ones tell nothing.
FEWEST = 4
#: Examples of a task that refining needs.
FEWEST_EXAMPLES = 8
#: Answers that the writer has to ask for, for its questions to be all that is drilled.
FEWEST_WRITTEN = 6


@dataclass(frozen=True)
class Sentence:
    """A sentence on one line, and its characters [start, stop) in the text of a document, by the
    document's number."""

    text: str
    document: int
    start: int
    stop: int


@dataclass(frozen=True)
class Drills:
    """Questions and sentences to drill, and questions that are held out."""

    sentences: tuple[str, ...]
    questions: tuple[Asked, ...]
    held_out: tuple[Asked, ...]
    seed: int = 0

    @property
    def size(self) -> int:
        """Drills before one repeats in nearly the same words: every question, and a cloze and a
        recitation of every sentence."""
        return len(self.questions) + 2 * len(self.sentences)

    def draw(self, step: int, number: int) -> list[Asked]:
        """The drills of a step, `number` or all of them; seed and step alone decide. Sentences,
        answers and wordings of an answer come in rounds: none repeats before all were drilled."""
        number = min(number, self.size)
        chance = random.Random(f"{self.seed}:{step}")
        kinds: list[Callable[[int], Asked | None]] = [self._ask, self._cloze, self._recite]
        given = (self.questions, self.sentences, self.sentences)
        weights = [weight * bool(some) for weight, some in zip(_WEIGHTS, given, strict=True)]
        drawn: list[Asked] = []
        for turn in range(number * 4):
            if len(drawn) == number:
                break
            asked = chance.choices(kinds, weights)[0](step * number + turn)
            drawn += [asked] if asked is not None else []
        return drawn

    def _ask(self, turn: int) -> Asked:
        wordings = self._by_answer[self._shuffled(len(self._by_answer), turn)]
        return wordings[turn // len(self._by_answer) % len(wordings)]

    @cached_property
    def _by_answer(self) -> list[list[Asked]]:
        return group_by_answer(self.questions)

    def _cloze(self, turn: int) -> Asked | None:
        cloze = make_cloze(self._sentence(turn), random.Random(f"{self.seed}:cloze:{turn}"))
        return None if cloze is None else Asked(*cloze)

    def _recite(self, turn: int) -> Asked | None:
        rest = make_recitation(self._sentence(turn), random.Random(f"{self.seed}:rest:{turn}"))
        return None if rest is None else Asked(*rest)

    def _sentence(self, turn: int) -> str:
        return self.sentences[self._shuffled(len(self.sentences), turn)]

    def _shuffled(self, n: int, turn: int) -> int:
        """The index below `n` of a turn, in rounds that each have an order of their own."""
        order = list(range(n))
        random.Random(f"{self.seed}:round:{turn // n}").shuffle(order)
        return order[turn % n]


def sentences_of(texts: Sequence[str]) -> list[Sentence]:
    """Sentences of documents that can be asked about without a writer, in order, each once."""
    sentences: dict[str, Sentence] = {}
    for number, text in enumerate(texts):
        for start, stop in find_sentences(text):
            words = text[start:stop].split()
            line, chance = " ".join(words), random.Random(0)
            if len(words) < _SHORTEST or line in sentences:
                continue
            if make_cloze(line, chance) is not None or make_recitation(line, chance) is not None:
                sentences[line] = Sentence(line, number, start, stop)
    return list(sentences.values())


def name_reason(documents: Sequence[Document]) -> str | None:
    """Why documents cannot be refined on, in a sentence; None if they can."""
    n = len(sentences_of([document.text for document in documents]))
    if n >= FEWEST:
        return None
    names = ", ".join(PurePath(document.name).name for document in documents[:3])
    more = ", …" if len(documents) > 3 else ""
    return (
        f"Nothing to refine: {names}{more} has {n} {'sentence' if n == 1 else 'sentences'} that "
        f"can be asked about, and refining needs {FEWEST}."
    )


def place_questions(
    about: Sequence[AboutText], sentences: Sequence[Sentence]
) -> list[tuple[int, Asked]]:
    """Find the number of the sentence that holds each question's answer. Questions without one are
    left out, since a held-out sentence must not be drilled."""
    return [
        (number, Asked(one.question, one.answer))
        for one in about
        for number, sentence in enumerate(sentences)
        if sentence.document == one.document
        and sentence.start <= one.start
        and one.stop <= sentence.stop
    ]


def choose_held_out(n_sentences: int, *, seed: int) -> frozenset[int]:
    """Numbers of the sentences that are held out: a fifth, and at least two of six and more. Each
    comes by chance from another stretch of the document."""
    n_held = max(round(n_sentences / _HELD_OUT), 2 if n_sentences > _HELD_OUT else 1)
    return frozenset(_pick_spread(n_sentences, n_held, random.Random(f"{seed}:held out")))


def _pick_spread(n: int, n_held: int, chance: random.Random) -> list[int]:
    """`n_held` numbers below `n`, a random one from each of as many equal stretches."""
    ends = [part * n // n_held for part in range(n_held + 1)]
    return [chance.randrange(start, stop) for start, stop in pairwise(ends)]


def make_drills(
    sentences: Sequence[Sentence], written: Sequence[tuple[int, Asked]], *, seed: int = 0
) -> Drills:
    """Make drills from a document's sentences (`sentences_of`, at least `FEWEST`) and the writer's
    questions, each with the number of its sentence; from the questions alone if they ask for
    enough answers."""
    questions = [asked for _, asked in written]
    if len(group_by_answer(questions)) >= FEWEST_WRITTEN:
        return _drill_questions(questions, seed)
    held = choose_held_out(len(sentences), seed=seed)
    asked = [(number in held, one) for number, one in written]
    held_out = [one for is_held, one in asked if is_held]
    held_out += _ask_without_writer([sentences[n].text for n in sorted(held)], seed)
    random.Random(f"{seed}:asked").shuffle(held_out)
    return Drills(
        tuple(item.text for n, item in enumerate(sentences) if n not in held),
        tuple(one for is_held, one in asked if not is_held),
        tuple(held_out[:_MOST_HELD]),
        seed,
    )


def drill_examples(examples: Sequence[Asked], read: Sequence[int], *, seed: int = 0) -> Drills:
    """Make drills from solved examples of a task. One of so many is held out, and none of those
    that the adapter read, by their places, which it may repeat."""
    fresh = [place for place in range(len(examples)) if place not in read]
    n_held = min(max(len(examples) // _HELD_EXAMPLES, _FEWEST_HELD), len(fresh), _MOST_HELD)
    chance = random.Random(f"{seed}:held out")
    held = {fresh[place] for place in _pick_spread(len(fresh), n_held, chance)}
    drilled = tuple(one for place, one in enumerate(examples) if place not in held)
    return Drills((), drilled, tuple(examples[place] for place in sorted(held)), seed)


def _drill_questions(questions: Sequence[Asked], seed: int) -> Drills:
    """Hold out a wording of some answers that are asked for in several: people ask in other words.
    If hardly any are, hold out some answers."""
    wordings = group_by_answer(questions)
    several = [asked for asked in wordings if len(asked) > 1]
    chance = random.Random(f"{seed}:held out")
    if len(several) < _FEWEST_HELD:
        n_held = max(round(len(wordings) / _HELD_WRITTEN), _FEWEST_HELD)
        held_out = [one for n in _pick_spread(len(wordings), n_held, chance) for one in wordings[n]]
    else:
        n_held = min(max(round(len(questions) / _HELD_WRITTEN), _FEWEST_HELD), len(several))
        held_out = [chance.choice(asked) for asked in chance.sample(several, n_held)]
    drilled = [one for asked in wordings for one in asked if one not in held_out]
    return Drills((), tuple(drilled), tuple(held_out[:_MOST_HELD]), seed)


def group_by_answer(questions: Sequence[Asked]) -> list[list[Asked]]:
    """Questions that ask for the same answer, apart from case and white space."""
    groups: dict[str, list[Asked]] = {}
    for one in questions:
        groups.setdefault(" ".join(one.answer.casefold().split()), []).append(one)
    return list(groups.values())


def _ask_without_writer(sentences: Sequence[str], seed: int) -> list[Asked]:
    """Clozes and a recitation of each sentence, none twice."""
    asked: dict[Asked, None] = {}
    for number, sentence in enumerate(sentences):
        for turn in range(_TRIES):
            chance = random.Random(f"{seed}:held:{number}:{turn}")
            cloze = make_cloze(sentence, chance)
            rest = make_recitation(sentence, chance) if not turn else None
            asked |= {Asked(*made): None for made in (cloze, rest) if made is not None}
    return list(asked)
