"""Passages as arrays: cut and tokenized once, cached on disk, read when they are drawn.

Documents and a tokenizer in, a sequence of passages out. As Python objects, all passages of the
training data take gigabytes and minutes; as mapped arrays they take neither.
"""

import hashlib
import json
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from d2l.bases.tokenizers import BaseTokenizer
from d2l.errors import RecipeError
from d2l.files.cache import cache_dir, file_digest, keep_tensors
from d2l.files.tensors import find_tensors
from d2l_lab.questions import read_documents
from d2l_lab.training.learners.document_data import Passage, Pools, cut_passages
from d2l_lab.training.learners.recipes import DataSource

#: Version of the way in which documents are cut, and of the layout of these files.
LAYOUT = 2
_ENDS = ("id_ends", "text_ends", "question_ends")
_NAMES = ("ids", "texts", "questions", "groups", *_ENDS)


class PassageStore:
    """Immutable sequence of passages, each made when it is read.

    Tensors, of n passages: `ids` int32, all token ids in a row; `texts` and `questions` uint8, the
    same of UTF-8 text and of questions as JSON; `id_ends`, `text_ends`, `question_ends` int64 (n),
    the end of each passage's span; `groups` int32 (n), ascending: passages of documents that
    belong together have the same number.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        sizes = {len(tensors[name]) for name in (*_ENDS, "groups") if name in tensors}
        if sorted(tensors) != sorted(_NAMES) or len(sizes) != 1:
            raise ValueError("not a store of passages")
        self._tensors = tensors

    @classmethod
    def from_passages(cls, passages: Sequence[Passage]) -> "PassageStore":
        """Pack passages; passages of a group become neighbors."""
        numbers: dict[str, int] = {}
        for passage in passages:
            numbers.setdefault(passage.group, len(numbers))
        order = sorted(passages, key=lambda passage: numbers[passage.group])
        texts = [passage.text.encode() for passage in order]
        questions = [json.dumps(passage.questions).encode() for passage in order]
        ids = [number for passage in order for number in passage.token_ids]
        return cls(
            {
                "ids": torch.tensor(ids, dtype=torch.int32),
                "id_ends": _ends([len(passage.token_ids) for passage in order]),
                "texts": _bytes(texts),
                "text_ends": _ends([len(text) for text in texts]),
                "questions": _bytes(questions),
                "question_ends": _ends([len(text) for text in questions]),
                "groups": torch.tensor(
                    [numbers[passage.group] for passage in order], dtype=torch.int32
                ),
            }
        )

    def __len__(self) -> int:
        return len(self._tensors["groups"])

    def __iter__(self) -> Iterator[Passage]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> Passage:
        text = bytes(self._slice("texts", "text_ends", number).tolist()).decode()
        questions = json.loads(bytes(self._slice("questions", "question_ends", number).tolist()))
        return Passage(
            text,
            tuple(self._slice("ids", "id_ends", number).tolist()),
            tuple((question, answer) for question, answer in questions),
            str(int(self._tensors["groups"][number])),
        )

    def neighbors(self, index: int) -> range:
        """List the indices of the passages in the group of the passage at `index`."""
        number = self._groups[index]
        stop = bisect_right(self._groups, number)
        start = index
        while start and self._groups[start - 1] == number:
            start -= 1
        return range(start, stop)

    def save(self, path: Path) -> None:
        """Save the store as one file, whole or not at all."""
        keep_tensors(path, self._tensors)

    @cached_property
    def _groups(self) -> list[int]:
        groups: list[int] = self._tensors["groups"].tolist()
        return groups

    def _slice(self, name: str, ends: str, number: int) -> Tensor:
        start = int(self._tensors[ends][number - 1]) if number else 0
        return self._tensors[name][start : int(self._tensors[ends][number])]


def load_store(path: Path) -> PassageStore | None:
    """Load the store at `path`; None if there is none, or a damaged one."""
    cached = find_tensors(path)
    try:
        return None if cached is None else PassageStore(cached[0])
    except ValueError:
        return None


def _ends(lengths: Sequence[int]) -> Tensor:
    return torch.tensor(lengths, dtype=torch.int64).cumsum(0)


def _bytes(parts: Sequence[bytes]) -> Tensor:
    return torch.frombuffer(bytearray(b"".join(parts) or b" "), dtype=torch.uint8)


def build_pools(
    sources: Sequence[DataSource],
    limits: Sequence[int],
    *,
    folder: Path,
    tokenizer: BaseTokenizer,
    minimum: int,
) -> Pools:
    """Build passages of every limit, source by source with the source's weight; raises RecipeError.

    If a source has questions, passages without any are left out. Stores are cached; a cache that
    cannot be written costs only time.
    """
    pools: dict[int, list[tuple[float, PassageStore]]] = {limit: [] for limit in limits}
    for source in sources:
        path = folder / source.path
        for limit, pool in pools.items():
            key = _key(path, source, limit, minimum, tokenizer)
            file = cache_dir() / "passages" / f"{key}.st"
            store = load_store(file)
            if store is None:
                store = _cut_source(path, source, limit, minimum, tokenizer)
                store.save(file)
            pool.append((source.weight, store))
    return pools


def _key(path: Path, source: DataSource, limit: int, minimum: int, tokenizer: BaseTokenizer) -> str:
    """Name a source's passages by all that they depend on: half of a SHA-256, in hex."""
    try:
        digest = file_digest(path)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror or error})") from error
    decisive = {
        "layout": LAYOUT,
        "source": digest,
        "name": source.path,  # the documents that are left out depend on it
        "max_documents": source.max_documents,
        "limit": limit,
        "minimum": minimum,
        "tokenizer": file_digest(tokenizer.folder / "tokenizer.json"),
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:32]


def _cut_source(
    path: Path, source: DataSource, limit: int, minimum: int, tokenizer: BaseTokenizer
) -> PassageStore:
    documents = read_documents(path)
    order = list(range(len(documents)))
    random.Random(source.path).shuffle(order)
    # In the file's order: neighbors are often about the same.
    documents = [documents[index] for index in sorted(order[: source.max_documents])]
    asks = any(document.questions for document in documents)
    cut = cut_passages(documents, tokenizer=tokenizer, limit=limit, minimum=minimum)
    passages = [passage for passage in cut if passage.questions or not asks]
    if not passages:
        raise RecipeError(
            f"{path}: holds no passage of {minimum} tokens or more"
            + (" that answers one of its questions" if asks else "")
        )
    return PassageStore.from_passages(passages)
