"""Files of questions → pages to train a suffix on, each with own and with foreign questions.

A foreign question is one whose words a router finds in the page, and whose answer is not there: so
a page meets the questions that it would meet as a part.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from d2l.bases.tokenizers import BaseTokenizer
from d2l.parts.router import Router
from d2l_lab.questions import AskedText, read_documents
from d2l_lab.suffix.recipe import PageSource, SuffixRecipe

#: Documents of a file that are read, and pages whose questions are asked of others.
_MOST_READ, _MOST_ASKING = 1_500, 500
#: Characters of a document, of a page of several, and of an answer, at most.
_LONGEST, _LONGEST_JOINED, _LONGEST_ANSWER = 2_200, 1_600, 120
_TOKENS = (40, 420)  # of a page
_N_QUESTIONS, _N_CLOSEST, _N_ASKED, _N_FOREIGN = 3, 8, 4, 6
_JOINED_SHARE, _TITLED_SHARE = 0.6, 0.5

Asked = list[tuple[str, str]]  # pairs of a question and its answer


class Page(NamedTuple):
    """Page to train on: its own questions with their answers, and those of other pages."""

    text: str
    own: Asked
    foreign: list[str]


def draw_pages(recipe: SuffixRecipe, tokenizer: BaseTokenizer) -> list[Page]:
    """Draw the pages of all sources, in random order; raises RecipeError."""
    rng, pages = random.Random(recipe.seed), list[Page]()
    total = sum(source.weight for source in recipe.sources)
    for source in recipe.sources:
        texts = join_texts(read_documents(Path(recipe.data) / source.path), source, rng)
        n_pages = round(recipe.pages * source.weight / total)
        pages += choose_pages(texts, tokenizer, n_pages, rng)
    rng.shuffle(pages)
    return pages


def join_texts(
    documents: Sequence[AskedText], source: PageSource, rng: random.Random
) -> list[tuple[str, Asked]]:
    """Join some neighboring documents to one text, and put its title before some."""
    short = [one for one in documents if len(one.text.strip()) < _LONGEST and one.questions]
    start = rng.randrange(max(1, len(short) - _MOST_READ + 1))
    waiting = short[start : start + _MOST_READ][::-1]
    texts = []
    while waiting:
        own = waiting.pop()
        text, asked = own.text.strip(), list(own.questions)
        joins = source.joins != "nothing" and rng.random() < _JOINED_SHARE
        while joins and waiting and (source.joins == "all" or waiting[-1].title == own.title):
            if len(text) + len(waiting[-1].text.strip()) > _LONGEST_JOINED:
                break
            more = waiting.pop()
            text, asked = f"{text}\n\n{more.text.strip()}", [*asked, *more.questions]
        if own.title and not text.startswith(own.title) and rng.random() < _TITLED_SHARE:
            text = f"{own.title}\n\n{text}"
        texts.append((text, [(question.strip(), answer.strip()) for question, answer in asked]))
    return texts


def find_foreign(
    texts: Sequence[tuple[str, Asked]], rng: random.Random
) -> dict[int, list[tuple[float, str]]]:
    """Find questions of other texts that share a text's words, with their scores, by its index."""
    router = Router([text for text, _ in texts])
    lowered = [text.lower() for text, _ in texts]
    foreign = defaultdict[int, list[tuple[float, str]]](list)
    for own in rng.sample(range(len(texts)), min(len(texts), _MOST_ASKING)):
        asked = texts[own][1]
        for question, answer in rng.sample(asked, min(_N_ASKED, len(asked))):
            scores, most = router.score(question), max(router.best(question), 1e-9)
            for near in np.argsort(-scores)[:_N_CLOSEST].tolist():
                if near != own and scores[near] > 0 and answer.lower() not in lowered[near]:
                    foreign[near].append((float(scores[near]) / most, question))
    return foreign


def choose_pages(
    texts: Sequence[tuple[str, Asked]], tokenizer: BaseTokenizer, n_pages: int, rng: random.Random
) -> list[Page]:
    """Choose pages that have questions of both kinds: of the foreign ones, the closest."""
    foreign, pages = find_foreign(texts, rng), list[Page]()
    for index in rng.sample(sorted(foreign), len(foreign)):
        text, asked = texts[index]
        own = [pair for pair in dict(asked).items() if len(pair[1]) < _LONGEST_ANSWER]
        near = dict.fromkeys(q for _, q in sorted(foreign[index], reverse=True)[:_N_FOREIGN])
        others = [question for question in near if question not in dict(asked)]
        if len(pages) == n_pages:
            break
        if own and others and _TOKENS[0] <= len(tokenizer.encode(text)) <= _TOKENS[1]:
            own = rng.sample(own, min(len(own), _N_QUESTIONS))
            pages.append(Page(text, own, rng.sample(others, min(len(others), _N_QUESTIONS))))
    return pages
