"""An engine that runs an adapter, set up and asked by the README of what it loads.

The code in a README is run as it stands; only the question in it is exchanged. Beyond its answers
an engine gives logits of the next token, with the adapter and with it switched off, and the
log-probabilities of what it says.
"""

import contextlib
import io
import itertools
import os
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float64]
#: Tokens and their log-probabilities, before any sampling.
Scored = list[tuple[int, float]]
_CODE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_QUESTION = re.compile(r'"content": "[^"]*"')
N_GREEDY = 16
PLAIN = 40  # a printable character in either vocabulary
END = 2  # <|im_end|>, of the small network's base and of the tiny ones


class Engine(ABC):
    """What stands in a README, run in its folder, into which all of `place` is linked: there the
    base's name leads. `end` is the token that ends an answer."""

    name: str  # key of RUNTIMES
    package: str
    how = ""  # what is said before the package's name
    end = END
    has_logits = True

    @property
    def version(self) -> str:
        """The package's."""
        return version(self.package)

    def __init__(self, readme: Path, place: Path) -> None:
        (code,) = _CODE.findall(readme.read_text("utf-8"))
        setup, found, asking = code.partition("turns = ")
        assert found
        self._asking = found + asking
        self._place = readme.parent  # where its lines are run
        for entry in place.iterdir():
            if entry != self._place and not (self._place / entry.name).exists():
                (self._place / entry.name).symlink_to(entry)
        self.names: dict[str, Any] = {}
        with contextlib.chdir(self._place), quiet():
            exec(self.prepare(setup), self.names)

    def prepare(self, setup: str) -> str:
        """The README's lines as they are run."""
        return setup

    def ask(self, question: str) -> str:
        """What the README's last lines print for a question, prompt and end token left out."""
        code, n_found = _QUESTION.subn(lambda _: f'"content": {question!r}', self._asking)
        assert n_found == 1
        printed = io.StringIO()
        with contextlib.chdir(self._place), quiet(), contextlib.redirect_stdout(printed):
            exec(code, self.names)
        answer = printed.getvalue().rpartition("<|im_start|>assistant\n")[2]
        return answer.replace("<|im_end|>", "").strip()

    @abstractmethod
    def logits(self, ids: Sequence[int]) -> tuple[Logits, Logits]:
        """(with the adapter, by the base alone) for the token after `ids`, each (vocabulary,)."""

    @abstractmethod
    def greedy(self, ids: Sequence[int]) -> Scored:
        """The answer's most likely tokens, at most `N_GREEDY`, without the end token."""

    def _cut(self, tokens: Scored) -> Scored:
        """Tokens up to the end token."""
        return list(itertools.takewhile(lambda scored: scored[0] != self.end, tokens))


def compare_changes(left: tuple[Logits, Logits], right: tuple[Logits, Logits]) -> float:
    """Cosine between the changes (adapted less base) that two engines' adapters make of logits.

    Engines may leave a constant out of a row of logits, so each change has its mean taken off.
    """
    first, second = (pair[0] - pair[1] for pair in (left, right))
    first, second = first - first.mean(), second - second.mean()
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Neither warnings nor what C++ writes on stderr."""
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere:
        warnings.simplefilter("ignore")
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
