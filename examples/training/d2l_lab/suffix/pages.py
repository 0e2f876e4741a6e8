"""Pages with questions of their own and questions of other pages, for training the end of parts.

Files of questions in, JSON lines of pages out: `{"page", "own": [[question, answer]], "foreign"}`.
A foreign question is one whose words a router finds in the page, and whose answer is not there: so
a page meets the questions that it would meet as a part.
"""

import gzip
import json
import random
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from d2l.bases.tokenizers import BaseTokenizer, load_tokenizer
from d2l.parts.router import Router

#: Shares of pages from each file, and number of all pages.
SHARES = {
    "squad_articles": 26, "squad2_roundtrip": 12, "newwiki": 10, "tldr_commands": 9,
    "wikitablequestions": 8, "factbook": 6, "qed_nq": 6, "synthetic": 6, "nq": 5,
    "conditionalqa_govuk": 4, "afriqa_en": 3, "covidqa": 3, "fairytaleqa": 3,
    "medquad_first_sentence": 3, "quoref": 3,
}  # fmt: skip
N_PAGES = 1_400
#: Files whose neighboring documents make one page, since theirs are short or of one article.
_JOINED = ("squad_articles", "squad2_roundtrip", "newwiki", "synthetic", "tldr_commands",
           "quoref", "covidqa")  # fmt: skip
_BY_LENGTH = ("synthetic", "tldr_commands")
_SEED, _MOST_READ, _MOST_ASKING = 7, 1_500, 500
_TOKENS, _N_QUESTIONS, _N_CLOSEST = (40, 420), 3, 8


class Page(NamedTuple):
    """A page, and pairs of a question and its answer."""

    text: str
    asked: list[tuple[str, str]]


def read_pages(path: Path, name: str, rng: random.Random) -> list[Page]:
    """Read a file's documents in their order, and join some neighbors."""
    found = defaultdict[tuple[str, str], list[tuple[str, str]]](list)
    for line in gzip.decompress(path.read_bytes()).decode("utf-8").splitlines():
        row = json.loads(line)
        answer = (row["question"].strip(), row["answers"][0].strip())
        found[row.get("title", ""), row["doc"].strip()].append(answer)
    documents = [(*key, asked) for key, asked in found.items() if len(key[1]) < 2_200]
    start = rng.randrange(max(1, len(documents) - _MOST_READ + 1))
    waiting = documents[start : start + _MOST_READ][::-1]
    pages = []
    while waiting:
        title, text, asked = waiting.pop()
        joins = name in _JOINED and rng.random() < 0.6
        while joins and waiting and (name in _BY_LENGTH or waiting[-1][0] == title):
            if len(text) + len(waiting[-1][1]) > 1_600:
                break
            _, more, others = waiting.pop()
            text, asked = f"{text}\n\n{more}", [*asked, *others]
        if title and not text.startswith(title) and rng.random() < 0.5:
            text = f"{title}\n\n{text}"
        pages.append(Page(text, asked))
    return pages


def find_foreign(pages: list[Page], rng: random.Random) -> dict[int, list[tuple[float, str]]]:
    """Find questions of other pages that share a page's words, with their scores, by page."""
    router = Router([page.text for page in pages])
    lowered = [page.text.lower() for page in pages]
    foreign = defaultdict[int, list[tuple[float, str]]](list)
    for own in rng.sample(range(len(pages)), min(len(pages), _MOST_ASKING)):
        for question, answer in rng.sample(pages[own].asked, min(4, len(pages[own].asked))):
            scores, most = router.score(question), max(router.best(question), 1e-9)
            for near in np.argsort(-scores)[:_N_CLOSEST].tolist():
                if near != own and scores[near] > 0 and answer.lower() not in lowered[near]:
                    foreign[near].append((float(scores[near]) / most, question))
    return foreign


def choose_pages(
    pages: list[Page], tokenizer: BaseTokenizer, n_pages: int, rng: random.Random
) -> list[dict[str, object]]:
    """Choose pages that have questions of both kinds: the closest of the foreign ones."""
    foreign, rows = find_foreign(pages, rng), list[dict[str, object]]()
    for index in rng.sample(sorted(foreign), len(foreign)):
        text, asked = pages[index]
        own = [pair for pair in dict(asked).items() if len(pair[1]) < 120]
        near = {question: None for _, question in sorted(foreign[index], reverse=True)[:6]}
        others = [question for question in near if question not in dict(asked)]
        if len(rows) == n_pages:
            break
        if own and others and _TOKENS[0] <= len(tokenizer.encode(text)) <= _TOKENS[1]:
            own = rng.sample(own, min(len(own), _N_QUESTIONS))
            others = rng.sample(others, min(len(others), _N_QUESTIONS))
            rows.append({"page": text, "own": own, "foreign": others})
    return rows


def main(data: Path, base: Path, target: Path) -> None:
    """Write the pages of all files in random order; `base`: a folder with tokenizer.json."""
    rng, tokenizer, rows = random.Random(_SEED), load_tokenizer(base), list[dict[str, object]]()
    for name, share in SHARES.items():
        pages = read_pages(data / f"qa_train_{name}.jsonl.gz", name, rng)
        rows += choose_pages(pages, tokenizer, round(N_PAGES * share / sum(SHARES.values())), rng)
    rng.shuffle(rows)
    target.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
