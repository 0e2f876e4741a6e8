"""Data of training: passages of one length with questions about them, as text, and their draws.

Files of documents and the base's tokenizer in; passages and, for each step, a draw from them out.
Needs no networks and no losses. Draws depend on the seed and the step alone, so the step is the
position in the data: a run needs nothing else to go on.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from d2l.bases.tokenizers import BaseTokenizer
from d2l.datasets.silence import SILENCE
from d2l.documents.chunks import pack_sentences
from d2l.errors import RecipeError
from d2l_lab.questions import AskedText, share_out
from d2l_lab.training.learners.clozes import list_sentences, make_cloze
from d2l_lab.training.learners.recipes import Length, Questions, Recipe
from d2l_lab.training.learners.tasks import Lesson, draw_lessons

_CUE_WORDS = (3, 6)  # shortest and longest beginning of a sentence to go on from
_RECITED_WORDS = (3, 10)  # shortest and longest stretch after it
_CUES = ("Continue: {}", "Continue the text: {}", "How does this go on? {}", "Complete: {}")
_MAX_DRAWS = 20  # until a batch has a question
_BESIDE = 8  # passages before and behind that are neighbors of a passage alone in its group
_FOREIGN_TRIES = 5  # until a passage is given up for which no neighbor asks what it does not answer


@dataclass(frozen=True)
class Passage:
    """Passage: a chunk of a document with its ids and questions. Passages of a `group` are of one
    document, or of documents that belong together."""

    text: str
    token_ids: tuple[int, ...]
    questions: tuple[tuple[str, str], ...]
    group: str = ""


@dataclass(frozen=True)
class Asked:
    """Question and answer; `complete`: the answer ends there, instead of going on. `weight`: in the
    loss."""

    question: str
    answer: str
    complete: bool = True
    weight: float = 1.0


@dataclass(frozen=True)
class Exercise:
    """Exercise: the prompt behind the opening, and its answer, end token included.

    A `reference`, log-probabilities (tokens, vocabulary) before each token of the answer, replaces
    the answer as the target. A `general` exercise belongs to no document: its reference is the
    base's own, which a silent memory must not change. Others count `weight` times.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    general: bool = False
    reference: Tensor | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Drawn:
    """Draw: passages that are compiled together, and questions about them, among them general
    prompts, which are exercises and count `general_weight` times. `tokens_per_seat`: of its
    length. Of a `task`, the passages are its description, the questions its examples."""

    passages: tuple[Passage, ...]
    asked: tuple[Asked | Exercise, ...]
    tokens_per_seat: int = 0
    general_weight: float = 1.0
    task: bool = False


class PassagePool(Protocol):
    """Sequence of passages with their groups."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Passage: ...
    def __iter__(self) -> Iterator[Passage]: ...

    def neighbors(self, index: int) -> range:
        """List the indices of the passages in the group of the passage at `index`."""


#: Passages by the limit in tokens: for every source its weight and its passages.
Pools = Mapping[int, Sequence[tuple[float, PassagePool]]]


def cut_passages(
    documents: Sequence[AskedText], *, tokenizer: BaseTokenizer, limit: int, minimum: int
) -> list[Passage]:
    """Cut documents into passages; a question goes with the only passage that holds its answer.

    The answer must be in the text word for word, since its words are learned. A document of one
    passage keeps all its questions.
    """
    passages = []
    for number, document in enumerate(documents):
        group = f"title {document.title}" if document.title else f"document {number}"
        pieces = pack_sentences(document.text, tokenizer=tokenizer, limit=limit, minimum=minimum)
        owned = share_out(pieces, document.questions, find=_find_answer, trust_single=True)
        passages += [
            Passage(piece.text, piece.token_ids, tuple(questions), group)
            for piece, questions in zip(pieces, owned, strict=True)
            if len(piece.token_ids) >= minimum
        ]
    return passages


def _find_answer(asked: tuple[str, str]) -> Callable[[str], object]:
    """Make a search for a question's answer in a text, as whole words."""
    words = re.escape(" ".join(asked[1].split())).replace(r"\ ", r"\s+")
    return re.compile(rf"(?<!\w){words}(?!\w)").search


def make_recitation(text: str, chance: random.Random) -> tuple[str, str, bool] | None:
    """Choose a sentence's first words, the words after them, and whether these end the sentence.

    None if no sentence is long enough.
    """
    shortest = _CUE_WORDS[0] + _RECITED_WORDS[0]
    listed = list_sentences(text, keep_points=False)
    sentences = [words for sentence in listed if len(words := sentence.split()) >= shortest]
    if not sentences:
        return None
    words = chance.choice(sentences)
    n_cue = chance.randint(_CUE_WORDS[0], min(_CUE_WORDS[1], len(words) - _RECITED_WORDS[0]))
    rest = words[n_cue:]
    cue = chance.choice(_CUES).format(" ".join(words[:n_cue]))
    return cue, " ".join(rest[: _RECITED_WORDS[1]]), len(rest) <= _RECITED_WORDS[1]


@dataclass(frozen=True)
class Mixture:
    """Mixture that steps draw from: passages by limit and source, and `general` prompts, whose
    reference is the base's own distribution."""

    passages: Pools
    recipe: Recipe
    asking: Questions  # the recipe's table of the network's kind
    general: Sequence[Exercise] = ()
    tasks: Mapping[Length, Sequence[Lesson[tuple[Passage, ...], Exercise]]] | None = None

    def draw(self, step: int) -> list[Drawn]:
        """Draw the batch of a step, of one length, with at least one question."""
        for attempt in range(_MAX_DRAWS):
            drawn = self._draw(random.Random(f"{self.recipe.seed}:{step}:{attempt}"))
            if any(memory.asked for memory in drawn):
                return drawn
        raise RecipeError(
            "the data hold hardly any question",
            hint="add questions, or documents with sentences of six words and more",
        )

    def _draw(self, chance: random.Random) -> list[Drawn]:
        lengths = self.recipe.lengths
        length = chance.choices(lengths, [length.weight for length in lengths])[0]
        if length.tasks:
            return self._draw_tasks(length, chance)
        pools = self.passages[length.tokens]
        weights = [weight for weight, _ in pools]
        groups = []
        for _ in range(length.memories):
            chosen = chance.choices(pools, weights, k=length.chunks)
            groups.append([(pool, chance.randrange(len(pool))) for _, pool in chosen])
        return [
            Drawn(
                tuple(pool[index] for pool, index in group),
                tuple(self._ask(group, length, chance)),
                length.tokens_per_seat,
                length.general_weight or self.recipe.seats.general_weight,
            )
            for group in groups
        ]

    def _draw_tasks(self, length: Length, chance: random.Random) -> list[Drawn]:
        """Draw a batch of tasks; general prompts replace some of their examples."""
        assert self.tasks is not None  # a recipe with such a length has sources of tasks
        seats = self.recipe.seats
        drawn = list(draw_lessons(self.tasks[length], length, chance))
        return [
            Drawn(
                description,
                tuple(
                    chance.choice(self.general)
                    if self.general and chance.random() < seats.general_share
                    else example
                    for example in examples
                ),
                length.tokens_per_seat,
                length.general_weight or seats.general_weight,
                task=True,
            )
            for description, examples in drawn
        ]

    def _ask(
        self, indices: Sequence[tuple[PassagePool, int]], length: Length, chance: random.Random
    ) -> Iterator[Asked | Exercise]:
        """Ask about the passages at these indices in turn, each question once.

        At most half are recitations, so a group with few questions may get fewer.
        """
        group = [pool[index] for pool, index in indices]
        left = {index: list(passage.questions) for index, passage in enumerate(group)}
        for questions in left.values():
            chance.shuffle(questions)
        start, asking, seats = chance.randrange(len(group)), self.asking, self.recipe.seats
        n_questions = length.questions
        foreign_share = length.unanswerable_share
        if foreign_share is None:
            foreign_share = seats.unanswerable_share
        made_share = asking.recitation_share + asking.cloze_share
        most = {make_recitation: max(n_questions // 2, 1), _ask_cloze: n_questions}
        for number in range(n_questions):
            index = (start + number) % len(group)
            if self.general and chance.random() < seats.general_share:
                yield chance.choice(self.general)
                continue
            if chance.random() < foreign_share:
                foreign = _find_foreign(*indices[index], group, chance)
                if foreign is not None:
                    yield Asked(foreign, SILENCE, weight=seats.unanswerable_weight)
                    continue
            if left[index] and chance.random() >= made_share:
                yield Asked(*left[index].pop())
            else:
                clozed = asking.cloze_share and chance.random() * made_share < asking.cloze_share
                make = _ask_cloze if clozed else make_recitation
                made = make(group[index].text, chance) if most[make] else None
                if made is not None:
                    most[make] -= 1
                    yield Asked(*made)


def _find_foreign(
    pool: PassagePool, index: int, group: Sequence[Passage], chance: random.Random
) -> str | None:
    """Choose a question about a neighbor of the passage at `index` whose answer is in no passage of
    the memory; None if no tried question fits."""
    neighbors = pool.neighbors(index)
    if len(neighbors) == 1:  # without titles, passages beside it are often of its article
        neighbors = range(max(index - _BESIDE, 0), min(index + _BESIDE + 1, len(pool)))
    for _ in range(_FOREIGN_TRIES):
        other = pool[chance.choice(neighbors)]
        if other in group or not other.questions:
            continue
        question, answer = chance.choice(other.questions)
        if not any(answer.casefold() in passage.text.casefold() for passage in group):
            return question
    return None


def _ask_cloze(text: str, chance: random.Random) -> tuple[str, str, bool] | None:
    made = make_cloze(text, chance)
    return None if made is None else (*made, True)


def choose_questions(pools: Pools, number: int, *, seed: int) -> list[str]:
    """Choose distinct questions of the data, without their documents, at most `number`. Either all
    passages of a pool have questions or none, so the first shows which."""
    chance = random.Random(f"{seed}:questions")
    pool = pools[min(pools)] if pools else []
    asking = [(weight, passages) for weight, passages in pool if passages[0].questions]
    chosen: dict[str, None] = {}
    for _ in range(number * _MAX_DRAWS if asking else 0):
        if len(chosen) == number:
            break
        (chosen_pool,) = chance.choices([p for _, p in asking], [weight for weight, _ in asking])
        questions = chance.choice(chosen_pool).questions
        if questions:
            chosen[chance.choice(questions)[0]] = None
    return list(chosen)
