"""What a document's own text gives to drill an adapter with, and what is held out of it.

Sentences of a document in, questions with their answers out, by chance from a seed; knows no model.
Nothing but the document's text is asked about. Where a writer asked enough, its questions and a
cloze of every other answer are drilled, and some of them are held out with all others that have the
same answer; with a teacher its questions alone, and other wordings of them are held out. Elsewhere
a fifth of the sentences is held out whole: nothing is drilled about them. How the answers that are
held out fare says when to stop.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from d2l.documents.sentences import find_sentences
from d2l.learners.clozes import make_cloze
from d2l.learners.document_data import Asked, make_recitation

#: Words of a sentence that something can be asked about.
_SHORTEST = 5
_HELD_OUT = 5  # of so many sentences, one is held out
_HELD_WRITTEN = 8  # of so many questions of a writer, one is held out, and
_FEWEST_HELD = 2  # so many in any case
_HELD_QUESTIONS = 48  # asked of those held out, at most
_TRIES = 3  # of a held-out sentence, for questions that differ
_CLOZE_TRIES = 6  # of a sentence beside a writer's questions: names and numbers in it
#: Fewest sentences with something to ask: below it, nothing could be held out that says anything.
FEWEST = 4
#: Fewest answers that a writer asked for, for its questions to be all that is drilled.
FEWEST_WRITTEN = 6


@dataclass(frozen=True)
class Mixture:
    """How often a drill is of a kind, relative to the others. Kinds that a text does not give are
    passed over."""

    questions: float = 4.0
    clozes: float = 1.0
    recitations: float = 1.0


@dataclass(frozen=True)
class Sentence:
    """A sentence on one line, and its characters [start, stop) in the text of a document, which
    is known by its number."""

    text: str
    document: int
    start: int
    stop: int


@dataclass(frozen=True)
class Written:
    """A question that a writer asked about a sentence, by the sentence's number."""

    sentence: int
    question: str
    answer: str


@dataclass(frozen=True)
class Drills:
    """What is drilled, by kind, and what is asked of the sentences that are held out."""

    sentences: tuple[str, ...]
    questions: tuple[Asked, ...]
    held_out: tuple[Asked, ...]
    mixture: Mixture
    seed: int = 0

    @property
    def size(self) -> int:
        """How many drills there are before one comes again in nearly the same words: the questions,
        and a cloze and a recitation of every sentence that is drilled."""
        return len(self.questions) + 2 * len(self.sentences)

    def draw(self, step: int, number: int) -> list[Asked]:
        """The drills of one step, `number` or all that there are: seed and step alone decide.
        Sentences and answers come in rounds, so that none is drilled twice before all were once;
        an answer that is asked for in several wordings, in another one each time."""
        number = min(number, self.size)
        chance = random.Random(f"{self.seed}:{step}")
        kinds: list[Callable[[int], Asked | None]] = [self._ask, self._cloze, self._recite]
        mixture = self.mixture
        weights = [mixture.questions * bool(self.questions), mixture.clozes, mixture.recitations]
        drawn: list[Asked] = []
        for turn in range(number * 4):
            if len(drawn) == number:
                break
            made = chance.choices(kinds, weights)[0](step * number + turn)
            drawn += [made] if made is not None else []
        return drawn

    def _ask(self, turn: int) -> Asked:
        wordings = self._by_answer[self._shuffled(len(self._by_answer), turn)]
        return wordings[turn // len(self._by_answer) % len(wordings)]

    @cached_property
    def _by_answer(self) -> list[list[Asked]]:
        """The questions of each answer."""
        found: dict[str, list[Asked]] = {}
        for one in self.questions:
            found.setdefault(_normalize(one.answer), []).append(one)
        return list(found.values())

    def _cloze(self, turn: int) -> Asked | None:
        made = make_cloze(self._sentence(turn), random.Random(f"{self.seed}:cloze:{turn}"))
        return None if made is None else Asked(*made)

    def _recite(self, turn: int) -> Asked | None:
        made = make_recitation(self._sentence(turn), random.Random(f"{self.seed}:rest:{turn}"))
        return None if made is None else Asked(*made)

    def _sentence(self, turn: int) -> str:
        return self.sentences[self._shuffled(len(self.sentences), turn)]

    def _shuffled(self, n: int, turn: int) -> int:
        """The place that a turn has in rounds over `n` things, each in an order of its own."""
        order = list(range(n))
        random.Random(f"{self.seed}:round:{turn // n}").shuffle(order)
        return order[turn % n]


def sentences_of(texts: Sequence[str]) -> list[Sentence]:
    """Sentences of documents that something can be asked about, in order, each once."""
    sentences: dict[str, Sentence] = {}
    for number, text in enumerate(texts):
        for start, stop in find_sentences(text):
            words = text[start:stop].split()
            line = " ".join(words)
            if len(words) >= _SHORTEST and line not in sentences and can_ask(line):
                sentences[line] = Sentence(line, number, start, stop)
    return list(sentences.values())


def can_ask(sentence: str) -> bool:
    """Whether a sentence gives a drill without a writer: a name or a number, or words to recite."""
    chance = random.Random(0)
    return make_cloze(sentence, chance) is not None or make_recitation(sentence, chance) is not None


def choose_held_out(n_sentences: int, *, seed: int) -> frozenset[int]:
    """Numbers of the sentences that are held out: a fifth, and of six and more at least two; one
    of each stretch of a document, by chance, so that no part of it is held out whole."""
    n_held = max(round(n_sentences / _HELD_OUT), 2 if n_sentences > _HELD_OUT else 1)
    chance = random.Random(f"{seed}:held out")
    ends = [part * n_sentences // n_held for part in range(n_held + 1)]
    return frozenset(chance.randrange(start, stop) for start, stop in pairwise(ends))


def make_drills(
    sentences: Sequence[Sentence],
    written: Sequence[Written],
    *,
    mixture: Mixture | None = None,
    seed: int = 0,
    taught: bool = False,
) -> Drills:
    """Drills about a document's sentences (`sentences_of`, at least `FEWEST`), and about what a
    writer asked of them. Without a `mixture`, the writer's questions where they are enough, and
    clozes of all that can be found: few answers are asked for by a writer, and what nothing is
    drilled about suffers. What is `taught` is asked about broadly, so questions do alone, and other
    wordings of what is drilled are held out."""
    if mixture is None and len({_normalize(item.answer) for item in written}) >= FEWEST_WRITTEN:
        if not taught:
            return _drill_written([*written, *_make_clozes(sentences, seed)], seed)
        return _hold_wordings(written, seed) or _drill_written(written, seed)
    held = choose_held_out(len(sentences), seed=seed)
    mixture = mixture or Mixture()
    asked = [item for item in written if item.sentence in held and mixture.questions]
    held_out = [Asked(item.question, item.answer) for item in asked]
    held_out += _ask_without_writer([sentences[n].text for n in sorted(held)], mixture, seed)
    random.Random(f"{seed}:asked").shuffle(held_out)
    return Drills(
        tuple(item.text for n, item in enumerate(sentences) if n not in held),
        tuple(Asked(w.question, w.answer) for w in written if w.sentence not in held),
        tuple(held_out[:_HELD_QUESTIONS]),
        mixture,
        seed,
    )


def _drill_written(written: Sequence[Written], seed: int) -> Drills:
    """Questions by their answers: what one that is held out asks for is asked for by none that is
    drilled."""
    answers = list(dict.fromkeys(_normalize(item.answer) for item in written))
    n_held = max(round(len(answers) / _HELD_WRITTEN), _FEWEST_HELD)
    chance = random.Random(f"{seed}:held out")
    ends = [part * len(answers) // n_held for part in range(n_held + 1)]
    held = {answers[chance.randrange(start, stop)] for start, stop in pairwise(ends)}
    drilled, held_out = list[Asked](), list[Asked]()
    for item in written:
        chosen = held_out if _normalize(item.answer) in held else drilled
        chosen.append(Asked(item.question, item.answer))
    return Drills((), tuple(drilled), tuple(held_out[:_HELD_QUESTIONS]), Mixture(1, 0, 0), seed)


def _hold_wordings(written: Sequence[Written], seed: int) -> Drills | None:
    """One wording is held out of every few answers that are asked for in several; None where there
    are hardly any. It is asked as people ask: in other words, for what is drilled."""
    wordings: dict[str, list[Asked]] = {}
    for item in written:
        asked = Asked(item.question, item.answer)
        wordings.setdefault(_normalize(item.answer), []).append(asked)
    several = [asked for asked in wordings.values() if len(asked) > 1]
    if len(several) < _FEWEST_HELD:
        return None
    chance = random.Random(f"{seed}:held out")
    n_held = min(max(round(len(written) / _HELD_WRITTEN), _FEWEST_HELD), len(several))
    held_out = [chance.choice(asked) for asked in chance.sample(several, n_held)]
    drilled = [one for asked in wordings.values() for one in asked if one not in held_out]
    return Drills((), tuple(drilled), tuple(held_out[:_HELD_QUESTIONS]), Mixture(1, 0, 0), seed)


def _make_clozes(sentences: Sequence[Sentence], seed: int) -> list[Written]:
    """A cloze of each name and number that chance finds in the sentences."""
    found: dict[str, Written] = {}
    for number, sentence in enumerate(sentences):
        for turn in range(_CLOZE_TRIES):
            made = make_cloze(sentence.text, random.Random(f"{seed}:cloze:{number}:{turn}"))
            if made is not None:
                found.setdefault(_normalize(made[1]), Written(number, *made))
    return list(found.values())


def _normalize(answer: str) -> str:
    return " ".join(answer.casefold().split())


def _ask_without_writer(sentences: Sequence[str], mixture: Mixture, seed: int) -> list[Asked]:
    """What is asked of held-out sentences by the rules alone, nothing twice."""
    asked: dict[Asked, None] = {}
    for number, sentence in enumerate(sentences):
        for turn in range(_TRIES):
            chance = random.Random(f"{seed}:held:{number}:{turn}")
            cloze = make_cloze(sentence, chance) if mixture.clozes else None
            rest = make_recitation(sentence, chance) if mixture.recitations and not turn else None
            asked |= {} if cloze is None else {Asked(*cloze): None}
            asked |= {} if rest is None else {Asked(*rest): None}
    return list(asked)
